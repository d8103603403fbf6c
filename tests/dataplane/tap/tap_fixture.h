/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tap_fixture.h - what the tests of the TAP port share: a port on a device,
 * frames to send, and the view of a frame that a port gets.
 */
#ifndef USWITCH_TESTS_TAP_FIXTURE_H
#define USWITCH_TESTS_TAP_FIXTURE_H

#include "tap/tap_port.h"
#include "tap/tap_wire.h"

#define PATIENCE_MS 10000
#define USO_OFFLOADS (OFFLOAD_USO4 | OFFLOAD_USO6) /* Linux >= 6.2 */

/* Zeroed, as uswitchd makes it; a port takes it over. */
struct us_state_page *new_page(void);

/* A port on the device, max_frame 1514; ended by end_port(). */
struct port *new_port(const struct tap_wire *w, int news_fd);
void end_port(struct port *p);

/* To be freed. */
struct burst *new_burst(void);

/* An Ethernet frame of an experimental type, its payload made from @seed. */
void make_frame(uint8_t *frame, uint32_t len, uint32_t seed);

/* A TCP over IPv4 frame with a segmentation request; @frame has room for 54 + @payload. */
struct virtio_net_hdr make_tso(uint8_t *frame, uint32_t payload);

/* The same for UDP; @frame has room for 42 + @payload. */
struct virtio_net_hdr make_uso(uint8_t *frame, uint32_t payload);

/* A frame with a snapshot of @snap bytes and the rest in pieces of @piece bytes, in @iov. */
struct frame view_of(uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece, struct iovec *iov);

/* tx_burst() of one frame: frames delivered. */
unsigned transmit(struct port *p, struct frame *f);

#endif /* USWITCH_TESTS_TAP_FIXTURE_H */
