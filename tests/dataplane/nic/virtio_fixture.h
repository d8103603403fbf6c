/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_fixture.h - what the tests of the virtio driver share: an adapter
 * made of the model, frames, and the shapes a device can have.
 */
#ifndef USWITCH_TESTS_VIRTIO_FIXTURE_H
#define USWITCH_TESTS_VIRTIO_FIXTURE_H

#include "nic/nic.h"
#include "nic/virtio_model.h"

#define VFIX_IOVA 0x123456789000ull
#define VFIX_FRAME_MAX (US_FRAME_MAX + 16)

/* Kinds of rings: bits of a shape. */
#define SHAPE_PACKED 1
#define SHAPE_IN_ORDER 2
#define SHAPE_EVENT_IDX 4
#define SHAPES 8

/**
 * struct vfix - an adapter
 * @vm: the device
 * @nic: as nic_port.c would have it
 * @burst: to receive into
 * @drv: its driver
 */
struct vfix {
    struct vm vm;
    struct nic *nic;
    struct burst *burst;
    const struct nic_driver *drv;
};

/* Features of a device whose rings have a shape; everything else is offered. */
uint64_t shape_features(unsigned shape);

/**
 * vfix_init() - an adapter that is not opened yet: one pair, rings of 256, frames of 1514, interrupts for all
 * @x: to fill
 * @offered: features
 * @queue_max: as the device has it
 *
 * The test may change nic->cfg, nic->irq and the device before vfix_start().
 */
void vfix_init(struct vfix *x, uint64_t offered, uint16_t queue_max);

/* Make the pool, exactly as large as the driver wants it, open and start.  Return: what open or start did. */
int vfix_start(struct vfix *x);

/* Start once more, after a stop. */
int vfix_restart(struct vfix *x);

/* Stop, close, free everything; checks that the driver kept to the specification. */
void vfix_fini(struct vfix *x);

/* One rx_burst on a queue; the frames are good until vfix_done(). */
unsigned vfix_rx(struct vfix *x, uint32_t queue);
void vfix_done(struct vfix *x, uint32_t queue);

/* A frame comes from the wire and is received as it was, whole; @hdr: its virtio-net header, NULL: zeroes. */
void vfix_receive(struct vfix *x, uint32_t queue, const uint8_t *frame, uint32_t len, const uint8_t *hdr);

/* tx_burst of one frame; why it was not taken, or DROP_none. */
uint8_t vfix_tx(struct vfix *x, uint32_t queue, struct frame *f);

/* Bytes of a frame into one piece; returns its length. */
uint32_t frame_flatten(const struct frame *f, uint8_t *to);

/* An Ethernet frame made from @seed. */
void frame_make(uint8_t *to, uint32_t len, uint32_t seed);

/* A view of a frame: @snap bytes of snapshot, the rest in pieces of @piece bytes in @iov. */
struct frame frame_view(uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece, struct iovec *iov);

/* Why the port is fenced; BREAK_none: it is not. */
static inline uint32_t vfix_broken(const struct vfix *x)
{
    return x->nic->port.state->broken;
}

#endif /* USWITCH_TESTS_VIRTIO_FIXTURE_H */
