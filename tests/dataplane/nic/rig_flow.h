/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * rig_flow.h - packets that tests send and receive.
 */
#ifndef USWITCH_TESTS_RIG_FLOW_H
#define USWITCH_TESTS_RIG_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "vnet.h"

/* What rig_packet() makes. */
struct rig_flow {
    bool ip6, udp, tagged;
    bool bare;                  /* TCP without options */
    uint32_t from, to;          /* last word of the addresses */
    uint16_t sport, dport;
    uint16_t id;                /* IPv4 identification */
    uint32_t seq;
    uint8_t flags;
};

/*
 * A TCP or UDP packet with right checksums and a payload of @payload bytes, each by its place in the stream (seq); its
 * length.
 */
uint32_t rig_packet(uint8_t *out, const struct rig_flow *flow, uint32_t payload);

/* The request of a sender for a rig_packet(), whose checksum becomes the pseudo header's; @gso_size 0: none. */
struct vnet rig_request(uint8_t *packet, uint32_t len, uint32_t gso_size);

/* Patterned bytes with Ethernet addresses and a type nobody knows. */
void rig_pattern(uint8_t *out, uint32_t len, uint32_t seed);

#endif /* USWITCH_TESTS_RIG_FLOW_H */
