/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_siphash.c - the unrolled hash of one word against a plain byte-wise
 * SipHash-c-d, which in turn is held against the vector of the paper.
 */
#include "base/siphash.h"
#include "harness.h"

/* SipHash-c-d as the paper describes it: words, then the last bytes with the length on top. */
static uint64_t reference(unsigned c, unsigned d, const struct siphash_seed *seed, const uint8_t *data, size_t len)
{
    uint64_t v[4] = { seed->k[0] ^ 0x736f6d6570736575, seed->k[1] ^ 0x646f72616e646f6d,
                      seed->k[0] ^ 0x6c7967656e657261, seed->k[1] ^ 0x7465646279746573 };

    for (size_t at = 0; at <= len; at += 8) {
        uint64_t m = 0;

        for (size_t i = 0; i < 8 && at + i < len; i++)
            m |= (uint64_t)data[at + i] << (8 * i);
        if (len - at < 8)
            m |= (uint64_t)len << 56;
        v[3] ^= m;
        for (unsigned i = 0; i < c; i++)
            siphash_round(v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < d; i++)
        siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const struct siphash_seed paper_seed = { { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };

TEST(round_is_the_papers)
{
    uint8_t data[15];

    for (uint8_t i = 0; i < sizeof(data); i++)
        data[i] = i;
    CHECK_EQ(reference(2, 4, &paper_seed, data, sizeof(data)), 0xa129ca6149be45e5);
}

TEST(word_equals_reference)
{
    uint64_t word = 0x0123456789abcdef;

    for (unsigned i = 0; i < 1000; i++) {
        const struct siphash_seed seed = { { word * 3, ~word } };
        uint8_t bytes[8];

        for (unsigned k = 0; k < 8; k++)
            bytes[k] = (uint8_t)(word >> (8 * k));
        CHECK_EQ(siphash13_u64(&seed, word), reference(1, 3, &seed, bytes, 8));
        word = word * 6364136223846793005 + 1442695040888963407;
    }
}

/* A flipped bit of the word or the seed flips about half of the hash: 32 +- 8 on the average of many. */
TEST(every_bit_counts)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        unsigned by_word = 0, by_seed = 0;

        for (uint64_t i = 0; i < 200; i++) {
            const uint64_t word = i * 0x9e3779b97f4a7c15;
            struct siphash_seed other = paper_seed;

            other.k[i & 1] ^= 1ULL << bit;
            by_word += (unsigned)__builtin_popcountll(siphash13_u64(&paper_seed, word) ^
                                                      siphash13_u64(&paper_seed, word ^ 1ULL << bit));
            by_seed += (unsigned)__builtin_popcountll(siphash13_u64(&paper_seed, word) ^
                                                      siphash13_u64(&other, word));
        }
        CHECK(by_word > 200 * 24 && by_word < 200 * 40);
        CHECK(by_seed > 200 * 24 && by_seed < 200 * 40);
    }
}

MAIN
{
    RUN(round_is_the_papers);
    RUN(word_equals_reference);
    RUN(every_bit_counts);
}
