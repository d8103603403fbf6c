/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * antispoof.h - a policy: a port sends only what it may claim to be.
 *
 * Theory of operation.  Rules are per protocol, one function each: Ethernet,
 * ARP, IPv4 and DHCP in antispoof.c, IPv6 with DHCPv6 and neighbor discovery
 * in antispoof_ipv6.c.  Each looks at the snapshot alone and names the drop;
 * what cannot be judged because the frame does not hold what its headers
 * promise, or hides it beyond POLICY_VIEW bytes, is dropped as well.  Whether
 * a frame passes depends on its bytes only, not on the driver it came by, its
 * offload request, or frames before it.
 *
 * doc/source/switching.rst has the rules for operators.
 */
#ifndef USWITCH_POLICY_ANTISPOOF_H
#define USWITCH_POLICY_ANTISPOOF_H

#include "policy.h"

/**
 * antispoof_create() - a policy that lets pass what these pairs cover
 * @pair: MAC and IP addresses
 * @n: how many, 0 .. US_GUARD_PAIRS_MAX; none: nothing passes
 * @out: the policy, for free() after a grace period
 *
 * Control thread.  Return: 0; -EINVAL, -E2BIG as pairs_check() does; -ENOMEM.
 */
int antispoof_create(const struct us_guard_pair *pair, uint32_t n, const struct policy **out);

#endif /* USWITCH_POLICY_ANTISPOOF_H */
