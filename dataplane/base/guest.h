/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guest.h - the one door to memory that a guest can write while we look at it.
 *
 * What lies there is reached by these functions and nothing else.  Ring words
 * are loaded once, atomically, into a value of ours; longer pieces are copied
 * once into private memory.  A compiler barrier after each copy forbids the
 * compiler to fetch the source a second time when it runs out of registers:
 * what was checked is what is used (design law 4).
 *
 * The callers' job is the address: a pointer handed in here has been
 * translated together with its length (vhost/guest_mem.h).  Worker threads,
 * and the control thread while it starts a ring.
 *
 * ThreadSanitizer: the guest is the other thread.  Single words are relaxed
 * or ordered atomics, and copies go byte by byte through atomics in that
 * build, so a report is never about the guest's side and always ours.
 */
#ifndef USWITCH_GUEST_H
#define USWITCH_GUEST_H

#include <stdint.h>
#include <string.h>

#include "base/le.h"

#if defined(__SANITIZE_THREAD__)
#define GUEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GUEST_TSAN 1
#endif
#endif
#ifndef GUEST_TSAN
#define GUEST_TSAN 0
#endif

/* No load of guest memory before it may be repeated, and no store delayed, past this point. */
static inline void guest_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

/* ---- ring words: naturally aligned, loaded or stored once ---- */

static inline uint16_t guest_load16(const le16 *p)
{
    return le16_to_cpu((le16){ __atomic_load_n(&p->raw, __ATOMIC_RELAXED) });
}

static inline uint32_t guest_load32(const le32 *p)
{
    return le32_to_cpu((le32){ __atomic_load_n(&p->raw, __ATOMIC_RELAXED) });
}

static inline uint64_t guest_load64(const le64 *p)
{
    return le64_to_cpu((le64){ __atomic_load_n(&p->raw, __ATOMIC_RELAXED) });
}

/* What the driver wrote before it stored *p is visible after this load. */
static inline uint16_t guest_load16_acquire(const le16 *p)
{
    return le16_to_cpu((le16){ __atomic_load_n(&p->raw, __ATOMIC_ACQUIRE) });
}

static inline uint64_t guest_load64_acquire(const le64 *p)
{
    return le64_to_cpu((le64){ __atomic_load_n(&p->raw, __ATOMIC_ACQUIRE) });
}

static inline void guest_store16(le16 *p, uint16_t v)
{
    __atomic_store_n(&p->raw, cpu_to_le16(v).raw, __ATOMIC_RELAXED);
}

static inline void guest_store32(le32 *p, uint32_t v)
{
    __atomic_store_n(&p->raw, cpu_to_le32(v).raw, __ATOMIC_RELAXED);
}

static inline void guest_store64(le64 *p, uint64_t v)
{
    __atomic_store_n(&p->raw, cpu_to_le64(v).raw, __ATOMIC_RELAXED);
}

/* Everything stored before is visible to a driver that sees the new *p. */
static inline void guest_store16_release(le16 *p, uint16_t v)
{
    __atomic_store_n(&p->raw, cpu_to_le16(v).raw, __ATOMIC_RELEASE);
}

static inline void guest_store64_release(le64 *p, uint64_t v)
{
    __atomic_store_n(&p->raw, cpu_to_le64(v).raw, __ATOMIC_RELEASE);
}

/*
 * Store before, load after: the one order x86 does not keep by itself, needed between "here is work"
 * and "do you want to hear of it" (virtio 1.2, 2.7.7.2 and 2.7.10).
 */
static inline void guest_fence(void)
{
#if GUEST_TSAN
    uint32_t lock = 0; /* TSan knows no fences; a locked operation is one on x86 */

    (void)__atomic_fetch_or(&lock, 1, __ATOMIC_SEQ_CST);
    guest_barrier();
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* ---- bytes: any alignment ---- */

typedef uint8_t guest_v16 __attribute__((vector_size(16), aligned(1), may_alias));

#if GUEST_TSAN
static inline void guest_bytes(void *dst, const void *src, size_t len)
{
    uint8_t *to = dst;
    const uint8_t *from = src;

    for (size_t i = 0; i < len; i++)
        __atomic_store_n(&to[i], __atomic_load_n(&from[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}
#endif

/* Exactly 64 bytes; four loads, four stores. */
static inline void guest_copy64(void *dst, const void *src)
{
#if GUEST_TSAN
    guest_bytes(dst, src, 64);
#else
    const guest_v16 *from = src;
    guest_v16 *to = dst;
    const guest_v16 a = from[0], b = from[1], c = from[2], d = from[3];

    to[0] = a;
    to[1] = b;
    to[2] = c;
    to[3] = d;
#endif
    guest_barrier();
}

/**
 * guest_copy_const() - copy a short piece whose length is a constant (headers, descriptors)
 * @dst: where to
 * @src: where from; either may be guest memory
 * @len: a compile-time constant
 */
static inline __attribute__((always_inline)) void guest_copy_const(void *dst, const void *src, size_t len)
{
#if GUEST_TSAN
    guest_bytes(dst, src, len);
#else
    memcpy(dst, src, len);
#endif
    guest_barrier();
}

/**
 * guest_copy_short() - copy up to 64 bytes; either side may be guest memory
 * @dst: where to, exactly @len bytes are written
 * @src: where from, exactly @len bytes are read
 * @len: 0 .. 64
 *
 * Fixed-size vectors that overlap in the middle: no call, one or two well predicted branches.
 */
static inline void guest_copy_short(void *dst, const void *src, size_t len)
{
#if GUEST_TSAN
    guest_bytes(dst, src, len);
#else
    const uint8_t *from = src;
    uint8_t *to = dst;

    if (len >= 32) {
        const guest_v16 a = *(const guest_v16 *)from, b = *(const guest_v16 *)(from + 16);
        const guest_v16 c = *(const guest_v16 *)(from + len - 32), d = *(const guest_v16 *)(from + len - 16);

        *(guest_v16 *)to = a;
        *(guest_v16 *)(to + 16) = b;
        *(guest_v16 *)(to + len - 32) = c;
        *(guest_v16 *)(to + len - 16) = d;
    } else if (len >= 16) {
        const guest_v16 a = *(const guest_v16 *)from, b = *(const guest_v16 *)(from + len - 16);

        *(guest_v16 *)to = a;
        *(guest_v16 *)(to + len - 16) = b;
    } else if (len >= 8) {
        uint64_t a, b;

        memcpy(&a, from, 8);
        memcpy(&b, from + len - 8, 8);
        memcpy(to, &a, 8);
        memcpy(to + len - 8, &b, 8);
    } else {
        for (size_t i = 0; i < len; i++)
            to[i] = from[i];
    }
#endif
    guest_barrier();
}

/* Where libc's way to copy begins to depend on how source and destination lie; see guest_copy.c. */
#define GUEST_COPY_LONG 2048

/* guest_copy() of GUEST_COPY_LONG bytes and more. */
void guest_copy_long(void *dst, const void *src, size_t len);

/**
 * guest_copy() - copy @len bytes; either side may be guest memory
 * @dst: where to, exactly @len bytes are written
 * @src: where from, exactly @len bytes are read
 * @len: any length
 */
static inline void guest_copy(void *dst, const void *src, size_t len)
{
    if (len <= 64) {
        guest_copy_short(dst, src, len);
        return;
    }
#if GUEST_TSAN
    guest_bytes(dst, src, len);
#else
    if (__builtin_expect(len < GUEST_COPY_LONG, 1))
        memcpy(dst, src, len);
    else
        guest_copy_long(dst, src, len);
#endif
    guest_barrier();
}

/* Bring a line closer; any address may be given, a wrong one costs nothing. */
static inline void guest_prefetch(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}

/*
 * The same for a line that the other core has and we shall write: exclusive at once, not in two steps.  The
 * compiler would use PREFETCHW only for newer processors than our baseline; x86-64 ones that lack it take it
 * for a NOP.
 */
static inline void guest_prefetch_write(const void *p)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const uint8_t *)p));
#else
    __builtin_prefetch(p, 1, 3);
#endif
}

/**
 * guest_index_nospec() - an index that stays in bounds even while the processor guesses
 * @index: already compared with @bound
 * @bound: exclusive
 *
 * After a mispredicted bounds check the processor may run ahead with a guest's value; this returns 0
 * then, by data flow instead of control flow.
 */
static inline uint64_t guest_index_nospec(uint64_t index, uint64_t bound)
{
#if defined(__x86_64__)
    uint64_t mask;

    __asm__("cmp %2, %1\n\tsbb %0, %0" : "=r"(mask) : "r"(index), "r"(bound) : "cc");
    return index & mask;
#else
    return index < bound ? index : 0;
#endif
}

#endif /* USWITCH_GUEST_H */
