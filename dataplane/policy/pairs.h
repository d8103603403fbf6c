/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * pairs.h - what a guarded port may claim to be: MAC addresses, each with the
 * IP addresses that go with it.
 *
 * Immutable once filled.  Almost every port has one MAC address and an address
 * or two, so tables are looked through from the front; the longest there can
 * be (US_GUARD_PAIRS_MAX) costs its own port, since a queue's cycles are its
 * own (fair.h).  Addresses are compared as they lie on the wire.
 */
#ifndef USWITCH_POLICY_PAIRS_H
#define USWITCH_POLICY_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/uswitch.h"

/* A MAC address, a little-endian number of 48 bits, as struct pair_ipv4 has it. */
#define PAIRS_FROM_IPV4(mac) ((mac) | 0x0008ULL << 48)

/**
 * struct pair_ipv4 - IPv4 addresses that go with a MAC address
 * @from: what an Ethernet header has behind the destination, as a little-endian number: the MAC address, and IPv4's
 *      type above it, so that one comparison finds both
 * @net: the addresses' common bits, in network byte order
 * @mask: which those are
 */
struct pair_ipv4 {
    uint64_t from;
    uint32_t net;
    uint32_t mask;
};

/* The same for IPv6, whose type is not compared: a little-endian number of 48 bits. */
struct pair_ipv6 {
    uint64_t mac;
    uint64_t net[2];
    uint64_t mask[2];
};

/**
 * struct pairs - all that one port may claim
 * @n_mac: entries of @mac
 * @n_ipv4: entries of @ipv4
 * @n_ipv6: entries of @ipv6
 * @mac: each MAC address once, as little-endian numbers of 48 bits
 * @ipv4: in the order they were given
 * @ipv6: likewise
 */
struct pairs {
    uint32_t n_mac;
    uint32_t n_ipv4;
    uint32_t n_ipv6;
    const uint64_t *mac;
    const struct pair_ipv4 *ipv4;
    const struct pair_ipv6 *ipv6;
};

/**
 * pairs_check() - are these pairs?
 * @pair: as they came
 * @n: how many
 *
 * Return: 0; -E2BIG for more than US_GUARD_PAIRS_MAX; -EINVAL for a MAC address that is no station's, a family or
 * prefix length that does not exist, or bits behind the prefix.
 */
int pairs_check(const struct us_guard_pair *pair, uint32_t n);

/* Bytes that pairs_fill() needs for @n pairs, aligned as struct pair_ipv4 is. */
size_t pairs_bytes(uint32_t n);

/* Make tables of checked pairs in @memory, which must live as long as @out. */
void pairs_fill(struct pairs *out, void *memory, const struct us_guard_pair *pair, uint32_t n);

static inline bool pairs_have_mac(const struct pairs *p, uint64_t mac)
{
    for (uint32_t i = 0; i < p->n_mac; i++) {
        if (p->mac[i] == mac)
            return true;
    }
    return false;
}

/* @from: PAIRS_FROM_IPV4(MAC address), @ip: in network byte order. */
static inline bool pairs_have_ipv4(const struct pairs *p, uint64_t from, uint32_t ip)
{
    for (uint32_t i = 0; i < p->n_ipv4; i++) {
        const struct pair_ipv4 *const row = &p->ipv4[i];

        if (row->from == from && (ip & row->mask) == row->net)
            return true;
    }
    return false;
}

/* @ip: the two halves as they lie in memory. */
static inline bool pairs_have_ipv6(const struct pairs *p, uint64_t mac, const uint64_t ip[2])
{
    for (uint32_t i = 0; i < p->n_ipv6; i++) {
        const struct pair_ipv6 *const row = &p->ipv6[i];

        if (row->mac == mac && (ip[0] & row->mask[0]) == row->net[0] && (ip[1] & row->mask[1]) == row->net[1])
            return true;
    }
    return false;
}

#endif /* USWITCH_POLICY_PAIRS_H */
