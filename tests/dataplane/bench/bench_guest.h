/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_guest.h - the guest's side of a vhost port for the turn benchmark: a
 * driver that does as little as a driver can, so that what is measured is the
 * switch.  Buffers never move: descriptor i of a ring is buffer i, and
 * descriptors are offered round robin, since the switch returns them in order.
 * Packed rings are in bench_packed.*.
 * Frames that are longer than a buffer go out as chains, and come in as
 * several merged buffers.
 *
 * One thread a guest.  Trusts the switch; the tests beside this folder do not.
 */
#ifndef USWITCH_BENCH_GUEST_H
#define USWITCH_BENCH_GUEST_H

#include <stdint.h>

#include "base/virtq_spec.h"
#include "include/uswitch.h"

/**
 * struct bench_ring - the driver's view of one ring
 * @desc: descriptor table
 * @ring: packed: descriptor ring
 * @avail: available ring
 * @driver: packed: our event suppression
 * @used: used ring; packed: the device's event suppression
 * @buf: first buffer
 * @offered: descriptors offered so far
 * @chains: entries of the available ring written so far
 * @taken: used elements taken so far
 * @returned: descriptors that came back so far
 * @at: packed: position of the next descriptor to write, free running
 * @back: packed: position of the next one to come back
 * @chain: packed: buffers of each chain in flight
 */
struct bench_ring {
    union {
        struct vring_desc *desc;
        struct pvirtq_desc *ring;
    };
    union {
        struct vring_avail *avail;
        struct pvirtq_event_suppress *driver;
    };
    struct vring_used *used;
    uint8_t *buf;
    uint32_t offered;
    uint16_t chains;
    uint16_t taken;
    uint32_t returned;
    uint32_t at;
    uint32_t back;
    uint32_t chain;
};

/**
 * struct bench_guest - one guest, one queue pair
 * @port_id: its port
 * @memfd: its memory
 * @ram: the same, mapped
 * @bytes: of it
 * @features: negotiated
 * @ring_size: descriptors of either ring
 * @buf_size: bytes of a buffer, virtio-net header included
 * @stride: distance of two buffers
 * @ring: 0 receives, 1 transmits
 */
struct bench_guest {
    uint32_t port_id;
    int memfd;
    uint8_t *ram;
    uint64_t bytes;
    uint64_t features;
    uint32_t ring_size;
    uint32_t buf_size;
    uint32_t stride;
    struct bench_ring ring[2];
};

/**
 * bench_guest_create() - memory, two rings, every receive buffer offered
 * @g: to fill; port_id, features, ring_size and buf_size are set
 *
 * Return: 0 or -errno.
 */
int bench_guest_create(struct bench_guest *g);
void bench_guest_destroy(struct bench_guest *g);

/* Plug it into a switch, untagged, in segment 1. Return: 0 or -errno. */
int bench_guest_plug(const struct bench_guest *g, struct uswitch *us);

/* Where buffer i of a ring lies, in file and guest memory. */
uint64_t bench_guest_buffer(const struct bench_guest *g, uint32_t ring, uint32_t i);

/* Descriptors that a frame of @len bytes takes. */
uint32_t bench_guest_descs(const struct bench_guest *g, uint32_t len);

/*
 * Write one frame from @from to @to, a UDP packet from 10.0.0.1, and offer it, the rest of its bytes as they are in the
 * buffers; seen after bench_guest_publish().  The caller knows that enough descriptors are free.
 */
void bench_guest_send(struct bench_guest *g, uint64_t to, uint64_t from, uint32_t len);
void bench_guest_publish(struct bench_guest *g);

/* Transmit descriptors that are free. */
uint32_t bench_guest_free(struct bench_guest *g);

/* Take what arrived, offer its buffers again. Return: frames; their bytes are added to @bytes. */
uint32_t bench_guest_receive(struct bench_guest *g, uint64_t *bytes);

/*
 * Copy the bytes of @frames frames of @len from @from's transmit buffers to @to's receive buffers by memcpy(),
 * the buffers that will be next after @first more frames.
 */
void bench_guest_copy(const struct bench_guest *from, const struct bench_guest *to, uint32_t len, uint32_t first,
                      uint32_t frames);

#endif /* USWITCH_BENCH_GUEST_H */
