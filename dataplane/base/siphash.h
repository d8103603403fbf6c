/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * siphash.h - SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input
 * PRF", 2012; the reduced-round form that hash tables use) of one 64-bit word.
 *
 * For tables whose keys strangers choose: who does not know the seed cannot
 * choose keys that collide, not even after watching which ones do.
 */
#ifndef USWITCH_SIPHASH_H
#define USWITCH_SIPHASH_H

#include <stdint.h>

/**
 * struct siphash_seed - 128 secret bits
 * @k: both halves
 */
struct siphash_seed {
    uint64_t k[2];
};

static inline uint64_t siphash_rotl(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

/* SipRound of the paper's section 2.2. */
static inline void siphash_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = siphash_rotl(v[1], 13) ^ v[0];
    v[3] = siphash_rotl(v[3], 16) ^ v[2];
    v[0] = siphash_rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = siphash_rotl(v[1], 17) ^ v[2];
    v[3] = siphash_rotl(v[3], 21) ^ v[0];
    v[2] = siphash_rotl(v[2], 32);
}

/* The hash of the word's eight bytes in little-endian order. */
static inline uint64_t siphash13_u64(const struct siphash_seed *seed, uint64_t word)
{
    const uint64_t length = 8ULL << 56;
    uint64_t v[4] = {
        seed->k[0] ^ 0x736f6d6570736575,
        seed->k[1] ^ 0x646f72616e646f6d,
        seed->k[0] ^ 0x6c7967656e657261,
        seed->k[1] ^ 0x7465646279746573,
    };

    v[3] ^= word;
    siphash_round(v);
    v[0] ^= word;
    v[3] ^= length;
    siphash_round(v);
    v[0] ^= length;
    v[2] ^= 0xff;
    siphash_round(v);
    siphash_round(v);
    siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif /* USWITCH_SIPHASH_H */
