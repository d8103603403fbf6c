/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * antispoof_priv.h - what the rules of antispoof.c and antispoof_ipv6.c
 * share: who sends, and how far a frame can be seen.  Worker thread.
 */
#ifndef USWITCH_POLICY_ANTISPOOF_PRIV_H
#define USWITCH_POLICY_ANTISPOOF_PRIV_H

#include <endian.h>
#include <string.h>

#include "policy.h"
#include "policy/pairs.h"

#define MAC48_MASK 0xffffffffffffULL
/* IPv4 protocol, and next header of IPv6. */
#define PROTOCOL_UDP 17
#define PORTS_LEN 4
#define TO_PORT 2
#define UDP_LEN 8

static inline uint16_t load_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* Six bytes as a little-endian number; two more can be read. */
static inline uint64_t load_mac(const uint8_t *p)
{
    uint64_t raw;

    memcpy(&raw, p, sizeof(raw));
    return le64toh(raw) & MAC48_MASK;
}

/**
 * reach() - can the first @end bytes of a frame be judged?
 * @f: frame
 * @end: exclusive
 * @why_not: drop if they are not there, or will never be in a snapshot
 *
 * Return: DROP_none; POLICY_MORE if they are there, but not in this snapshot; or @why_not.
 */
static inline enum drop_reason reach(const struct frame *f, uint32_t end, enum drop_reason why_not)
{
    if (__builtin_expect(end <= f->hdr_len && end <= POLICY_VIEW, 1))
        return DROP_none;
    return end <= f->len && end <= POLICY_VIEW ? POLICY_MORE : why_not;
}

/* Verdict on an IPv6 packet whose source MAC address @mac is one of the pairs'. */
enum drop_reason antispoof_ipv6(const struct pairs *pairs, const struct frame *f, uint64_t mac);

#endif /* USWITCH_POLICY_ANTISPOOF_PRIV_H */
