/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_csum.c - the fast checksum against the definition (RFC 1071), byte by
 * byte, for every length and alignment that its inner loop could mind.
 */
#include "base/csum.h"

#include "harness.h"

static uint16_t naive(const uint8_t *at, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? at[i] : (uint32_t)at[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* csum_fold() gives memory order. */
static uint16_t fast(uint64_t sum)
{
    const uint16_t word = csum_fold(sum);
    uint8_t bytes[2];

    memcpy(bytes, &word, sizeof(word));
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void fill(uint8_t *at, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        at[i] = (uint8_t)(seed >> 24);
    }
}

TEST(lengths_and_alignments)
{
    uint8_t bytes[700];
    unsigned wrong = 0;

    fill(bytes, sizeof(bytes), 1);
    for (size_t start = 0; start < 16; start++)
        for (size_t len = 0; len < 600; len++)
            wrong += fast(csum_add(0, bytes + start, len)) != naive(bytes + start, len);
    CHECK_EQ(wrong, 0);
}

/* All ones is where carries live. */
TEST(carries)
{
    static uint8_t bytes[65562];

    memset(bytes, 0xff, sizeof(bytes));
    for (size_t len = 65540; len <= sizeof(bytes); len++)
        CHECK_EQ(fast(csum_add(0, bytes, len)), naive(bytes, len));
    CHECK_EQ(fast(csum_add(UINT64_MAX, bytes, 64)), 0xffff);
    CHECK_EQ(fast(csum_add(UINT64_MAX, "\0\1", 2)), 1);
}

TEST(pieces_add_up)
{
    static uint8_t bytes[9000];
    unsigned wrong = 0;

    fill(bytes, sizeof(bytes), 2);
    for (size_t cut = 0; cut < sizeof(bytes); cut += 2)
        wrong += fast(csum_add(csum_add(0, bytes, cut), bytes + cut, sizeof(bytes) - cut)) !=
                 naive(bytes, sizeof(bytes));
    CHECK_EQ(wrong, 0);
}

/* The worked example of RFC 1071, section 3. */
TEST(rfc_example)
{
    const uint8_t bytes[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

    CHECK_EQ(fast(csum_add(0, bytes, sizeof(bytes))), 0xddf2);
}

MAIN
{
    RUN(lengths_and_alignments);
    RUN(carries);
    RUN(pieces_add_up);
    RUN(rfc_example);
}
