/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * packets.h - one honest frame of each kind that a guarded port may send, for
 * tests that spoil them.  All are from OWN_MAC; the pairs that cover them are
 * in own_pairs.
 */
#ifndef USWITCH_TESTS_PACKETS_H
#define USWITCH_TESTS_PACKETS_H

#include "drop.h"
#include "include/uswitch.h"

#define PACKET_MAX 256

/* Offsets in the frames. */
#define AT_SOURCE 6
#define AT_TYPE 12
#define AT_ARP_SHA 22
#define AT_ARP_SPA 28
#define AT_IPV4 14
#define AT_IPV4_TOTAL 16
#define AT_IPV4_FRAGMENT 20
#define AT_IPV4_PROTOCOL 23
#define AT_IPV4_SOURCE 26
#define AT_IPV4_UP 34
#define AT_IPV6 14
#define AT_IPV6_PAYLOAD 18
#define AT_IPV6_NEXT 20
#define AT_IPV6_HOPS 21
#define AT_IPV6_SOURCE 22
#define AT_IPV6_DESTINATION 38
#define AT_IPV6_UP 54

enum packet_kind {
    PACKET_ARP_REQUEST, PACKET_ARP_REPLY, PACKET_ARP_PROBE, PACKET_RARP,
    PACKET_TCP, PACKET_UDP, PACKET_PING, PACKET_IP_OPTIONS, PACKET_LATER_FRAGMENT, PACKET_DISCOVER,
    PACKET_TCP6, PACKET_UDP6, PACKET_PING6, PACKET_EXTENSIONS, PACKET_FIRST_FRAGMENT6, PACKET_LATER_FRAGMENT6,
    PACKET_AH, PACKET_ESP,
    PACKET_NS, PACKET_NA, PACKET_RS, PACKET_DAD, PACKET_MLD2, PACKET_MLD2_UNSPECIFIED,
    PACKET_KINDS
};

/**
 * struct packet - a frame
 * @len: bytes
 * @judged: so many of them decide; a frame cut below that is dropped
 * @cut: under this name, if it is not cut before
 * @cut_from: this byte; else it is guard_ip
 */
struct packet {
    uint32_t len;
    uint32_t judged;
    enum drop_reason cut;
    uint32_t cut_from;
    uint8_t data[PACKET_MAX];
};

extern const uint8_t own_mac[6];
/* 10.0.0.5; 10.1.0.0/16; fe80::5; 2001:db8:1::/64; another MAC address with 10.0.0.6; a third one alone. */
#define OWN_PAIRS 6
extern const struct us_guard_pair own_pairs[OWN_PAIRS];

const char *packet_name(enum packet_kind kind);
void packet_make(struct packet *p, enum packet_kind kind);

#endif /* USWITCH_TESTS_PACKETS_H */
