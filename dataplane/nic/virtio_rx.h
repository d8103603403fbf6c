/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_rx.h - a receive queue of a virtio network device: as many buffers
 * of DMA_BUF_SIZE as the ring has descriptors, always all of them posted but
 * for what a worker has in its hands.
 */
#ifndef USWITCH_NIC_VIRTIO_RX_H
#define USWITCH_NIC_VIRTIO_RX_H

#include "nic/nic.h"
#include "nic/virtio_count.h"
#include "nic/virtio_ring.h"
#include "vnet.h"

/* An odd number of cache lines apart, or all frames of a burst would meet in a few sets of the cache. */
#define VIRTIO_RX_STRIDE (DMA_BUF_SIZE + 64)
/* Buffers of a frame: the longest one, behind its virtio-net header, in buffers filled up. */
#define VIRTIO_RX_SEGS_MAX ((US_FRAME_MAX + VNET_WIRE_LEN_MRG + DMA_BUF_SIZE - 1) / DMA_BUF_SIZE)

/**
 * struct virtio_rx - the queue
 * @ring: its ring; the id of a buffer is its place in @buf
 * @buf: the buffers, VIRTIO_RX_STRIDE apart, in the pool
 * @buf_iova: where the device sees them
 * @offloads: OFFLOAD_* that the device may leave to us
 * @mergeable: a frame may come in several buffers, its header says in how many
 * @count: what the device has no counters for (borrowed)
 * @want: buffers of the frame that is coming in; 0: none is
 * @have: of them, those that have come; a device may report a frame's buffers one by one
 * @seg: these
 * @wire: header of that frame, copied once
 * @n_idle: buffers that go back to the ring with the next rx_complete
 * @idle: their ids
 */
struct virtio_rx {
    struct virtio_ring ring;
    uint8_t *buf;
    uint64_t buf_iova;
    uint32_t offloads;
    bool mergeable;
    struct virtio_count *count;
    uint32_t want;
    uint32_t have;
    struct virtio_used seg[VIRTIO_RX_SEGS_MAX];
    uint8_t wire[VNET_WIRE_LEN_MRG];
    uint32_t n_idle;
    uint16_t *idle;
};

/* Bytes of pool a queue with @ring_size descriptors takes. */
size_t virtio_rx_bytes(uint32_t ring_size);

/**
 * virtio_rx_init() - memory of the queue
 * @rx: zeroed, but for @ring (see virtio_ring_init()), @offloads, @mergeable and @count
 * @pool: pool
 *
 * Control thread.  Return: 0 or -ENOMEM; virtio_rx_fini() is legal in both cases.
 */
int virtio_rx_init(struct virtio_rx *rx, struct dma_pool *pool);

/* Post all buffers; they are the device's from the next notification on, after DRIVER_OK. */
void virtio_rx_fill(struct virtio_rx *rx);

/* Control thread, device quiet. */
void virtio_rx_fini(struct virtio_rx *rx);

/* As struct nic_driver has them. */
unsigned virtio_rx_burst(struct nic_queue *q, struct burst *b);
void virtio_rx_complete(struct nic_queue *q, struct burst *b);

#endif /* USWITCH_NIC_VIRTIO_RX_H */
