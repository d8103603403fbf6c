/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_pairs.c - which pairs are refused, and what a table covers: every
 * prefix length of both families, bit by bit.
 */
#include <errno.h>

#include "harness.h"
#include "policy/pairs.h"

#define MAC 0x0a0000000002ULL   /* 02-00-00-00-00-0a */

static const struct us_guard_pair plain = { .mac = { 2, 0, 0, 0, 0, 0x0a }, .family = US_GUARD_IPV4, .prefix_len = 32,
                                            .ip = { 10, 0, 0, 5 } };

static int check_with(const struct us_guard_pair *pair)
{
    const struct us_guard_pair two[2] = { plain, *pair };

    return pairs_check(two, 2);
}

TEST(refusals)
{
    static struct us_guard_pair many[US_GUARD_PAIRS_MAX + 1];
    struct us_guard_pair p = plain;

    CHECK_EQ(pairs_check(NULL, 0), 0);
    CHECK_EQ(check_with(&p), 0);
    p.mac[0] = 3;
    CHECK_EQ(check_with(&p), -EINVAL);
    memset(p.mac, 0, sizeof(p.mac));
    CHECK_EQ(check_with(&p), -EINVAL);
    for (unsigned family = 0; family < 256; family++) {
        const bool known = family == US_GUARD_MAC || family == US_GUARD_IPV4 || family == US_GUARD_IPV6;

        p = plain;
        p.family = (uint8_t)family;
        p.prefix_len = 0;
        memset(p.ip, 0, sizeof(p.ip));
        CHECK_EQ(check_with(&p), known ? 0 : -EINVAL);
    }
    for (unsigned len = 0; len < 256; len++) {
        p = plain;
        p.prefix_len = (uint8_t)len;
        memset(p.ip, 0, sizeof(p.ip));
        CHECK_EQ(check_with(&p), len <= 32 ? 0 : -EINVAL);
        p.family = US_GUARD_IPV6;
        CHECK_EQ(check_with(&p), len <= 128 ? 0 : -EINVAL);
        p.family = US_GUARD_MAC;
        CHECK_EQ(check_with(&p), len == 0 ? 0 : -EINVAL);
    }
    p = plain;
    p.ip[4] = 1;                /* behind an IPv4 address */
    CHECK_EQ(check_with(&p), -EINVAL);
    p = plain;
    p.family = US_GUARD_MAC;    /* with an address */
    p.prefix_len = 0;
    CHECK_EQ(check_with(&p), -EINVAL);
    for (unsigned i = 0; i <= US_GUARD_PAIRS_MAX; i++)
        many[i] = plain;
    CHECK_EQ(pairs_check(many, US_GUARD_PAIRS_MAX), 0);
    CHECK_EQ(pairs_check(many, US_GUARD_PAIRS_MAX + 1), -E2BIG);
    CHECK_EQ(pairs_check(many, UINT32_MAX), -E2BIG);
}

static void flip(uint8_t *ip, unsigned bit)
{
    ip[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
}

/* Bit by bit: those of the prefix decide, the others do not; one behind it that is set is refused. */
static void check_prefix(uint8_t family, unsigned len)
{
    const unsigned bits = family == US_GUARD_IPV4 ? 32 : 128;
    struct us_guard_pair pair = { .mac = { 2, 0, 0, 0, 0, 0x0a }, .family = family, .prefix_len = (uint8_t)len };
    void *memory = malloc(pairs_bytes(1));
    struct pairs t;

    for (unsigned bit = 0; bit < len; bit += 3)
        flip(pair.ip, bit);
    CHECK_EQ(pairs_check(&pair, 1), 0);
    pairs_fill(&t, memory, &pair, 1);
    for (unsigned bit = 0; bit < bits; bit++) {
        uint64_t ip[2];
        uint32_t ip4;

        flip(pair.ip, bit);
        memcpy(ip, pair.ip, sizeof(ip));
        memcpy(&ip4, pair.ip, sizeof(ip4));
        CHECK_EQ(pairs_have_ipv4(&t, PAIRS_FROM_IPV4(MAC), ip4), family == US_GUARD_IPV4 && bit >= len);
        CHECK_EQ(pairs_have_ipv6(&t, MAC, ip), family == US_GUARD_IPV6 && bit >= len);
        CHECK(!pairs_have_ipv4(&t, PAIRS_FROM_IPV4(MAC + 1), ip4) && !pairs_have_ipv6(&t, MAC + 1, ip));
        CHECK_EQ(pairs_check(&pair, 1), bit >= len ? -EINVAL : 0);
        flip(pair.ip, bit);
    }
    free(memory);
}

TEST(prefixes)
{
    for (unsigned len = 0; len <= 32; len++)
        check_prefix(US_GUARD_IPV4, len);
    for (unsigned len = 0; len <= 128; len++)
        check_prefix(US_GUARD_IPV6, len);
}

/* Each MAC address once, with or without an IP address. */
TEST(macs)
{
    const struct us_guard_pair pair[] = {
        plain,
        { .mac = { 2, 0, 0, 0, 0, 0x0b } },
        plain,
        { .mac = { 2, 0, 0, 0, 0, 0x0a }, .family = US_GUARD_IPV6 },
    };
    void *memory = malloc(pairs_bytes(4));
    struct pairs t;

    pairs_fill(&t, memory, pair, 4);
    CHECK_EQ(t.n_mac, 2);
    CHECK_EQ(t.n_ipv4, 2);
    CHECK_EQ(t.n_ipv6, 1);
    CHECK(pairs_have_mac(&t, MAC) && pairs_have_mac(&t, 0x0b0000000002ULL));
    CHECK(!pairs_have_mac(&t, 0x0c0000000002ULL) && !pairs_have_mac(&t, 0));
    free(memory);
}

MAIN
{
    RUN(refusals);
    RUN(prefixes);
    RUN(macs);
}
