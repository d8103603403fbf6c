/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_rig.h - the ixgbe driver on its model, for tests: a nic without
 * nic_port.c, whose bursts the test makes itself.
 */
#ifndef USWITCH_TESTS_IXGBE_RIG_H
#define USWITCH_TESTS_IXGBE_RIG_H

#include "nic/ixgbe_model.h"
#include "nic/nic.h"

#define RIG_IOVA 0x7f00000000ull

/**
 * struct rig - device, driver, a port around them
 * @m: the device
 * @n: as the driver sees it
 * @page: counters
 * @b: the last burst that was received
 * @no_vectors: there are no interrupts
 */
struct rig {
    struct ixgbe_model m;
    struct nic n;
    struct us_state_page page;
    struct burst b;
    bool no_vectors;
};

/* The configuration that tests begin with: 1 queue, rings of 128, frames of 1514, no moderation. */
struct nic_config rig_config(void);

/* A device on the bus, not opened. NULL: no memory. */
struct rig *rig_create(uint16_t device);
void rig_destroy(struct rig *r);

/* Open and start; 0 or -errno of either. */
int rig_start(struct rig *r, const struct nic_config *cfg);
/* Stop and close, and see that the device is quiet and was treated well: 1 if so. */
int rig_stop(struct rig *r);

/* One burst from a queue into r->b; frames received. */
unsigned rig_rx(struct rig *r, uint32_t queue);
void rig_complete(struct rig *r, uint32_t queue);

/* All bytes of a received frame, up to @room; its length. */
uint32_t rig_bytes(const struct frame *f, uint8_t *to, uint32_t room);

/* Send one frame that lies in one piece; the driver's answer. */
enum drop_reason rig_tx(struct rig *r, uint32_t queue, const uint8_t *data, uint32_t len, uint16_t vid,
                        const struct vnet *vnet);

/* ---- frames ---- */

/* What rig_tcp() makes. */
struct rig_flow {
    bool ip6, udp, tagged;
    uint32_t from, to;          /* last word of the addresses */
    uint16_t sport, dport;
    uint32_t seq;
    uint8_t flags;
};

/*
 * A TCP or UDP packet with right checksums and a payload of @payload bytes, each by its place in the stream (seq); its
 * length.
 */
uint32_t rig_packet(uint8_t *out, const struct rig_flow *flow, uint32_t payload);

#endif /* USWITCH_TESTS_IXGBE_RIG_H */
