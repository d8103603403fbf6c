/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * toy_guest.h - a guest with one network card, for tests of the whole: memory
 * in a memfd, one queue pair of split rings, VIRTIO_F_VERSION_1 and nothing
 * else.  The virtqueues' own tests (vhost/) know every trick; this one only
 * sends and receives.
 */
#ifndef USWITCH_TESTS_TOY_GUEST_H
#define USWITCH_TESTS_TOY_GUEST_H

#include <stdbool.h>

#include "include/uswitch.h"

#define TOY_RING_SIZE 64
#define TOY_FEATURES (1ull << 32)       /* VIRTIO_F_VERSION_1 */

/**
 * struct toy_guest - one guest
 * @memfd: its memory
 * @ram: the same, mapped
 * @kick: eventfd of each ring, 0: receives, 1: transmits
 * @call: eventfd of each ring
 * @avail: own avail index of each ring
 * @seen: used entries taken of each ring
 */
struct toy_guest {
    int memfd;
    uint8_t *ram;
    int kick[2];
    int call[2];
    uint16_t avail[2];
    uint16_t seen[2];
};

/* Returns 0 or -1; every receive buffer is posted. */
int toy_guest_create(struct toy_guest *g);
void toy_guest_destroy(struct toy_guest *g);

/* The requests that plug it in as a port. */
struct us_port_add toy_guest_port(uint32_t port_id);
struct us_vhost_mem toy_guest_mem(uint32_t port_id);
struct us_vhost_ring toy_guest_ring(uint32_t port_id, uint32_t ring);

/* All of it on a switch in this process, with the port in one segment, untagged. Returns 0 or the first -errno. */
int toy_guest_plug(const struct toy_guest *g, struct uswitch *us, uint32_t port_id, uint16_t segment);
/* The same, with the port's state page mapped for who wants to look at its counters; NULL: nobody does. */
int toy_guest_plug_seen(const struct toy_guest *g, struct uswitch *us, uint32_t port_id, uint16_t segment,
                        struct us_state_page **state);

/* Clears a ring that is stopped, as a driver does before it starts it anew. */
void toy_guest_reset(struct toy_guest *g, uint32_t ring);

/* Sends a frame; false if the ring is full. */
bool toy_guest_send(struct toy_guest *g, const void *frame, uint32_t len);

/* Takes the next frame, without its header; returns its length, 0 if there is none. */
uint32_t toy_guest_receive(struct toy_guest *g, void *frame, uint32_t size);

/* Says that so many more buffers are there than there are, which is more than a ring has: breaks the port. */
void toy_guest_misbehave(struct toy_guest *g);

#endif /* USWITCH_TESTS_TOY_GUEST_H */
