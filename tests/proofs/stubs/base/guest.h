/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The door to guest memory as the proofs see it; found before the product's
 * base/guest.h.  Whatever is loaded may be anything, each time anew: the guest
 * writes while we look.  Every access is a claim that it stays inside the
 * object its pointer was made for, and a prefetch is nothing.
 *
 * guest_index_nospec() masks what a processor guesses, which CBMC does not
 * model: here it is the claim that the index was compared with its bound.
 */
#ifndef USWITCH_GUEST_H
#define USWITCH_GUEST_H

#include "base/le.h"
#include "proof.h"

#define GUEST_READ(p, len) CLAIM(__CPROVER_r_ok(p, len), "guest memory is read inside its mapping")
#define GUEST_WRITE(p, len) CLAIM(__CPROVER_w_ok(p, len), "guest memory is written inside its mapping")

/* A proof that follows bytes gives these a body. */
void on_copy(void *dst, const void *src, uint64_t len);

static inline void guest_barrier(void)
{
}

static inline void guest_fence(void)
{
}

static inline uint16_t guest_load16(const le16 *p)
{
    GUEST_READ(p, 2);
    return nondet_u16();
}

static inline uint32_t guest_load32(const le32 *p)
{
    GUEST_READ(p, 4);
    return nondet_u32();
}

static inline uint64_t guest_load64(const le64 *p)
{
    GUEST_READ(p, 8);
    return nondet_u64();
}

static inline uint16_t guest_load16_acquire(const le16 *p)
{
    return guest_load16(p);
}

static inline uint64_t guest_load64_acquire(const le64 *p)
{
    return guest_load64(p);
}

static inline void guest_store16(le16 *p, uint16_t v)
{
    (void)v;
    GUEST_WRITE(p, 2);
}

static inline void guest_store32(le32 *p, uint32_t v)
{
    (void)v;
    GUEST_WRITE(p, 4);
}

static inline void guest_store16_release(le16 *p, uint16_t v)
{
    guest_store16(p, v);
}

/* What was stored last. */
static uint64_t guest_stored64;

static inline void guest_store64_release(le64 *p, uint64_t v)
{
    GUEST_WRITE(p, 8);
    guest_stored64 = v;
}

/* The bytes themselves are on_copy()'s business. */
static inline void guest_copy(void *dst, const void *src, size_t len)
{
    GUEST_READ(src, len);
    GUEST_WRITE(dst, len);
    on_copy(dst, src, len);
}

static inline void guest_copy_const(void *dst, const void *src, size_t len)
{
    guest_copy(dst, src, len);
}

static inline void guest_copy_short(void *dst, const void *src, size_t len)
{
    CLAIM(len <= 64, "a short copy is short");
    guest_copy(dst, src, len);
}

static inline void guest_copy64(void *dst, const void *src)
{
    guest_copy(dst, src, 64);
}

static inline void guest_prefetch(const void *p)
{
    (void)p;
}

static inline void guest_prefetch_write(const void *p)
{
    (void)p;
}

static inline uint64_t guest_index_nospec(uint64_t index, uint64_t bound)
{
    CLAIM(index < bound, "an index was compared with its bound");
    return index;
}

#endif /* USWITCH_GUEST_H */
