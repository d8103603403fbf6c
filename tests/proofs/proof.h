/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * proof.h - the words of a proof: a value that may be anything, what is taken
 * for granted, and what is claimed.  Included first by every proof; only CBMC
 * reads these files, no compiler.
 *
 * A claim's name is what tools/prove.py looks for when a seeded bug must be
 * refuted, so each is written once in a proof.
 */
#ifndef USWITCH_PROOF_H
#define USWITCH_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ASSUME(cond) __CPROVER_assume(cond)
#define CLAIM(cond, name) __CPROVER_assert(cond, name)

/* Any value of the type; CBMC knows functions of such names for that. */
bool nondet_bool(void);
uint8_t nondet_u8(void);
uint16_t nondet_u16(void);
uint32_t nondet_u32(void);
uint64_t nondet_u64(void);

/* Waiting for somebody who is not there. */
#define __builtin_ia32_pause() ((void)0)

/* The longest mapping there can be: user addresses on x86-64 have 47 bits. */
#define MAPPING_MAX (1ULL << 47)

/* An object of any contents. */
static inline void *any_bytes(uint64_t size)
{
    void *const p = malloc(size);

    ASSUME(p != NULL);
    return p;
}

#endif /* USWITCH_PROOF_H */
