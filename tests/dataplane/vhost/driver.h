/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * driver.h - the guest's side of a vhost port, for tests: memory, two split
 * rings, and a driver that can do everything wrong that can be done wrong.
 *
 * Guest memory is two regions that touch in guest-physical addresses and lie
 * apart in the file and in our address space, so that whatever runs on over
 * the border shows.  Ring 0 receives, ring 1 transmits.
 */
#ifndef USWITCH_TESTS_DRIVER_H
#define USWITCH_TESTS_DRIVER_H

#include <stdbool.h>

#include "base/virtq_spec.h"
#include "port.h"
#include "vhost/vhost_port.h"

#define DRV_GPA 0x100000ULL             /* guest-physical start */
#define DRV_SIZE0 (16u << 20)           /* first region: rings, buffers */
#define DRV_SIZE1 (8u << 20)            /* second region: buffers */
#define DRV_GAP (1u << 20)              /* unused bytes of the file between them */
#define DRV_BORDER (DRV_GPA + DRV_SIZE0)
#define DRV_END (DRV_BORDER + DRV_SIZE1)
#define DRV_UVA 0x7e0000000000ULL       /* uva = gpa + this */
#define DRV_BUF (DRV_GPA + (8u << 20))  /* first byte that no ring uses */
#define DRV_TABLE (DRV_BUF - (64u << 10)) /* room for an indirect table */

#define F_V1 VIRTIO_BIT(VIRTIO_F_VERSION_1)
#define F_MRG VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define F_EVENT VIRTIO_BIT(VIRTIO_F_RING_EVENT_IDX)
#define F_INDIRECT VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC)

#define D_NEXT VRING_DESC_F_NEXT
#define D_WRITE VRING_DESC_F_WRITE
#define D_INDIRECT VRING_DESC_F_INDIRECT

/**
 * struct drv_ring - the driver's view of one ring
 * @index: 0 receives, 1 transmits (of the pair of queue 0; others: 2 * q, 2 * q + 1)
 * @desc: descriptor table, in the driver's mapping; likewise @avail, @used
 * @size: descriptors
 * @avail_idx: the driver's index; published by drv_publish()
 * @used_idx: used entries taken
 * @in_order: VIRTIO_F_IN_ORDER: one used element may stand for a batch
 * @in_batch: it does, and not all of the batch is taken
 * @batch_id: head of the batch's last
 * @batch_len: its length
 * @kick: eventfd
 * @call: eventfd
 */
struct drv_ring {
    uint32_t index;
    uint32_t size;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t avail_idx;
    uint16_t used_idx;
    bool in_order;
    bool in_batch;
    uint32_t batch_id;
    uint32_t batch_len;
    int kick;
    int call;
};

/**
 * struct driver - a guest and the port it is plugged into
 * @memfd: its memory
 * @ram: mapping of the whole file
 * @mem: the table as told to the port
 * @features: negotiated
 * @port: the port under test
 * @state: its state page (the port's own mapping)
 * @news: its news eventfd
 * @rx: ring 0
 * @tx: ring 1
 */
struct driver {
    int memfd;
    uint8_t *ram;
    struct us_vhost_mem mem;
    uint64_t features;
    struct port *port;
    struct us_state_page *state;
    int news;
    struct drv_ring rx;
    struct drv_ring tx;
};

/* A guest with both rings of that size running and enabled. Exits the program if that fails. */
void drv_create(struct driver *d, uint64_t features, uint32_t size);
/* The same, with the port shared between workers. */
void drv_create_shared(struct driver *d, uint64_t features, uint32_t size);
void drv_destroy(struct driver *d);

/* The request that starts a ring where the driver has put it. */
struct us_vhost_ring drv_ring_request(const struct driver *d, const struct drv_ring *r);
/* Stop both rings, clear them, and start them again with other features or size: a guest's reset. */
int drv_restart(struct driver *d, uint64_t features, uint32_t size);
/* Set a ring of any queue up in memory; not started. */
void drv_ring_place(struct driver *d, struct drv_ring *r, uint32_t index, uint32_t size);

/* The driver's pointer to guest memory. */
void *drv_ptr(const struct driver *d, uint64_t gpa);
/* Copy across the border between the regions. */
void drv_write(const struct driver *d, uint64_t gpa, const void *src, size_t len);
void drv_read(const struct driver *d, uint64_t gpa, void *dst, size_t len);

void drv_desc(struct drv_ring *r, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next);
/* Entry i of an indirect table at a guest-physical address. */
void drv_table(struct driver *d, uint64_t table, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags,
               uint16_t next);
/* Put a head on the avail ring; visible after drv_publish(). */
void drv_offer(struct drv_ring *r, uint16_t head);
void drv_publish(struct drv_ring *r);
/* drv_desc for a single descriptor, drv_offer, drv_publish. */
void drv_one(struct drv_ring *r, uint16_t head, uint64_t addr, uint32_t len, uint16_t flags);
/* Next chain that came back; false if there is none.  In a batch (2.7.9) only the last has a length. */
bool drv_used(struct drv_ring *r, uint32_t *id, uint32_t *len);
/* Writes to the call eventfd since the last look. */
uint64_t drv_calls(const struct drv_ring *r);

/* One burst as a worker would take it; completed. Frames stay readable. */
unsigned drv_rx(struct driver *d, struct burst *b);
/* The bytes of a frame, snapshot and scatter list together. */
uint32_t drv_gather(const struct frame *f, uint8_t *out, uint32_t room);
uint64_t drv_drops_in(const struct driver *d, enum drop_reason why);
uint64_t drv_drops_out(const struct driver *d, enum drop_reason why);
/* All drops of both directions of queue 0. */
uint64_t drv_drops(const struct driver *d);

/* Bytes that tell frames apart: a valid Ethernet header and a pattern made from the seed. */
void drv_pattern(uint8_t *frame, uint32_t len, uint32_t seed);

/**
 * struct drv_frame - a frame for tx_burst, with the memory it points to
 * @f: the frame
 * @hdr: room and snapshot
 * @iov: the rest
 * @data: the whole frame once more
 */
struct drv_frame {
    struct frame f;
    uint8_t hdr[HDR_ROOM + SNAP_SIZE];
    struct iovec iov[2];
    uint8_t data[US_FRAME_MAX];
};

/* Make a frame of that length, untagged, without offload request. */
void drv_frame(struct drv_frame *out, uint32_t len, uint32_t seed);
/* Deliver one frame. */
unsigned drv_tx(struct driver *d, struct drv_frame *f);

#endif /* USWITCH_TESTS_DRIVER_H */
