/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_tx.h - a transmit queue of a virtio network device.
 *
 * Frames are copied into an area of the pool, one behind the other around it,
 * each in one piece behind its virtio-net header, so that a frame of any
 * length is one descriptor.  Space and ids come back in the order in which
 * they were given; a device that finishes out of order makes them wait for
 * the oldest.  When nothing is under way the area begins at its start again:
 * little traffic stays in the cache.
 */
#ifndef USWITCH_NIC_VIRTIO_TX_H
#define USWITCH_NIC_VIRTIO_TX_H

#include "nic/nic.h"
#include "nic/virtio_count.h"
#include "nic/virtio_ring.h"

/**
 * struct virtio_tx - the queue
 * @ring: its ring
 * @area: where frames are copied to, in the pool
 * @area_iova: where the device sees it
 * @area_size: bytes
 * @head: where the next frame goes, bytes from @area
 * @tail: where the oldest one under way begins; @head if there is none
 * @next: id of the next frame
 * @oldest: id of the oldest one under way
 * @held: ids from @oldest to @next
 * @end: by id: where the frame behind it begins
 * @done: by id: the device has sent it
 * @count: what the device has no counters for (borrowed)
 */
struct virtio_tx {
    struct virtio_ring ring;
    uint8_t *area;
    uint64_t area_iova;
    uint32_t area_size;
    uint32_t head;
    uint32_t tail;
    uint16_t next;
    uint16_t oldest;
    uint32_t held;
    uint32_t *end;
    bool *done;
    struct virtio_count *count;
};

/* Bytes of pool a queue with @ring_size descriptors takes. */
size_t virtio_tx_bytes(uint32_t ring_size);

/**
 * virtio_tx_init() - memory of the queue
 * @tx: zeroed, but for @ring (see virtio_ring_init()) and @count
 * @pool: pool
 *
 * Control thread.  Return: 0 or -ENOMEM; virtio_tx_fini() is legal in both cases.
 */
int virtio_tx_init(struct virtio_tx *tx, struct dma_pool *pool);

/* Control thread, device quiet. */
void virtio_tx_fini(struct virtio_tx *tx);

/* As struct nic_driver has it. */
void virtio_tx_burst(struct nic_queue *q, struct frame *const *frames, unsigned n, uint8_t *why);

#endif /* USWITCH_NIC_VIRTIO_TX_H */
