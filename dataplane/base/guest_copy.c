/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guest_copy.c - copies of GUEST_COPY_LONG bytes and more from and to guest
 * memory: jumbo frames and segmentation requests.  Worker threads.
 *
 * Vectors, and not libc's memcpy(): from about that length on it may be one
 * "rep movsb", which some processors run at full speed only if source and
 * destination lie alike.  Here they hardly ever do, since virtio-net headers,
 * tags and buffer borders move them apart by some bytes.  4 KiB moved by 12, in
 * the L2 cache of a Zen 3: 1.2 bytes a cycle that way, 14 this way; aligned: 10
 * and 12.  Below that length memcpy() is as good or better.
 *
 * The same text is compiled for the baseline and for AVX2, and the processor
 * chooses at run time.
 */
#include "base/guest.h"

#if !GUEST_TSAN

#define VECTOR 32
#define BLOCK (4 * VECTOR)

typedef uint8_t vector_t __attribute__((vector_size(VECTOR), aligned(1), may_alias));

static inline __attribute__((always_inline)) void copy_block(uint8_t *to, const uint8_t *from)
{
    const vector_t a = *(const vector_t *)from, b = *(const vector_t *)(from + VECTOR);
    const vector_t c = *(const vector_t *)(from + 2 * VECTOR), d = *(const vector_t *)(from + 3 * VECTOR);

    *(vector_t *)to = a;
    *(vector_t *)(to + VECTOR) = b;
    *(vector_t *)(to + 2 * VECTOR) = c;
    *(vector_t *)(to + 3 * VECTOR) = d;
}

/*
 * The first vector brings the destination to a border of vectors, so that no store crosses a cache line; the last
 * block overlaps the one before it, so that there is no rest to deal with.
 */
static inline __attribute__((always_inline)) void copy_long(uint8_t *to, const uint8_t *from, size_t len)
{
    size_t i = VECTOR - ((uintptr_t)to & (VECTOR - 1));

    *(vector_t *)to = *(const vector_t *)from;
    for (; i < len - BLOCK; i += BLOCK)
        copy_block(to + i, from + i);
    copy_block(to + len - BLOCK, from + len - BLOCK);
}

static void copy_baseline(uint8_t *to, const uint8_t *from, size_t len)
{
    copy_long(to, from, len);
}

#if defined(__x86_64__)
static __attribute__((target("avx2"))) void copy_avx2(uint8_t *to, const uint8_t *from, size_t len)
{
    copy_long(to, from, len);
}
#endif

void guest_copy_long(void *dst, const void *src, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_expect(__builtin_cpu_supports("avx2") != 0, 1)) {
        copy_avx2(dst, src, len);
        return;
    }
#endif
    copy_baseline(dst, src, len);
}

#endif /* !GUEST_TSAN */
