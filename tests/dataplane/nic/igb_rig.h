/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_rig.h - the igb driver on its model, for tests: a nic without
 * nic_port.c, whose bursts the test makes itself.
 */
#ifndef USWITCH_TESTS_IGB_RIG_H
#define USWITCH_TESTS_IGB_RIG_H

#include "nic/igb_model.h"
#include "nic/nic.h"

#define IGR_IOVA 0x7f00000000ull
#define IGR_82576 0x10c9

/**
 * struct igr - device, driver, a port around them
 * @m: the device
 * @n: as the driver sees it
 * @page: counters
 * @b: the last burst that was received
 */
struct igr {
    struct igb_model m;
    struct nic n;
    struct us_state_page page;
    struct burst b;
};

/* 1 queue, rings of 128, frames of 1514, no moderation. */
struct nic_config igr_config(void);

/* A device on the bus, not opened. NULL: no memory. */
struct igr *igr_create(uint16_t device);
void igr_destroy(struct igr *r);

/* Open (if need be) and start; 0 or -errno of either. */
int igr_start(struct igr *r, const struct nic_config *cfg);
/* The same with queues and longest frame alone; NULL if anything fails. */
struct igr *igr_up(uint32_t n_queues, uint32_t ring_size, uint32_t max_frame);
/* Stop and close; true if the device is quiet and was treated well. Frees the rig. */
bool igr_down(struct igr *r);

/* One burst from a queue into r->b; frames received. */
unsigned igr_rx(struct igr *r, uint32_t queue);
void igr_complete(struct igr *r, uint32_t queue);

/* All bytes of a frame, up to @room; its length. */
uint32_t igr_bytes(const struct frame *f, uint8_t *to, uint32_t room);

/**
 * struct igr_out - a frame to be sent, with the memory it needs
 * @f: the frame
 * @iov: two pieces behind the snapshot
 * @snap: the snapshot
 */
struct igr_out {
    struct frame f;
    struct iovec iov[2];
    uint8_t snap[HDR_ROOM + SNAP_SIZE];
};

/* A frame of contiguous bytes; @vnet may be NULL, @vid US_VID_UNTAGGED. */
void igr_frame(struct igr_out *out, const uint8_t *data, uint32_t len, uint16_t vid, const struct vnet *vnet);

/* Send one such frame; the driver's answer. */
enum drop_reason igr_tx(struct igr *r, uint32_t queue, const uint8_t *data, uint32_t len, uint16_t vid,
                        const struct vnet *vnet);

/* ---- frames ---- */

/* What igr_packet() makes. */
struct igr_flow {
    bool ip6, udp, tagged;
    bool bare;                  /* TCP without options */
    uint32_t from, to;          /* last word of the addresses */
    uint16_t sport, dport;
    uint16_t id;                /* IPv4 identification */
    uint32_t seq;
    uint8_t flags;
};

/* A TCP or UDP packet with right checksums and @payload bytes that depend on @seq; its length. */
uint32_t igr_packet(uint8_t *out, const struct igr_flow *flow, uint32_t payload);

/* The request of a sender for a packet of igr_packet(): the field is set to the pseudo header's sum; @gso_size 0: none. */
struct vnet igr_request(uint8_t *packet, uint32_t len, uint32_t gso_size);

/* Patterned bytes with Ethernet addresses and a type nobody knows. */
void igr_pattern(uint8_t *out, uint32_t len, uint32_t seed);

#endif /* USWITCH_TESTS_IGB_RIG_H */
