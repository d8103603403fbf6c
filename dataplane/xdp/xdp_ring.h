/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_ring.h - one of the four rings that an AF_XDP socket shares with the
 * kernel (Documentation/networking/af_xdp.rst).
 *
 * Of each ring one side moves the producer index, the other the consumer
 * index; both run freely over 32 bits.  Our own index is private and only
 * stored in the ring, the kernel's is loaded once a burst and checked: it can
 * never be more than a ring away.  Pair [X]: our acquire load of the kernel's
 * index with its release store, and the other way round.
 *
 * One thread at a time, as xdp_queue.h says.
 */
#ifndef USWITCH_XDP_RING_H
#define USWITCH_XDP_RING_H

#include <linux/if_xdp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/guest.h"

/**
 * struct xdp_ring - a mapped ring
 * @ours: index that we move (we store, never load)
 * @theirs: index that the kernel moves
 * @flags: XDP_RING_NEED_WAKEUP, set by the kernel (fill and transmit ring)
 * @entry: struct xdp_desc (receive, transmit) or uint64_t (fill, completion)
 * @mask: entries - 1; entries are a power of two
 * @at: our index
 * @map: the mapping (owned), NULL: memory of a test
 * @map_len: bytes of it
 */
struct xdp_ring {
    uint32_t *ours;
    const uint32_t *theirs;
    const uint32_t *flags;
    void *entry;
    uint32_t mask;
    uint32_t at;
    void *map;
    size_t map_len;
};

/* Which ring, and with that who produces. */
enum xdp_ring_kind { XDP_RING_RECEIVE, XDP_RING_TRANSMIT, XDP_RING_FILL, XDP_RING_COMPLETION, XDP_RING_KINDS };

/**
 * xdp_ring_open() - have the kernel make a ring of a socket, and map it
 * @r: to fill
 * @fd: AF_XDP socket, with memory registered, not bound
 * @kind: which one
 * @size: entries, a power of two
 *
 * Control thread.  Return: 0 or -errno.
 */
int xdp_ring_open(struct xdp_ring *r, int fd, enum xdp_ring_kind kind, uint32_t size);

/* Unmap; legal on a zeroed ring. Control thread. */
void xdp_ring_close(struct xdp_ring *r);

/* Of a ring that the kernel fills: entries we have not taken. False: the index makes no sense. */
static inline bool xdp_ring_filled(const struct xdp_ring *r, uint32_t *n)
{
    *n = __atomic_load_n(r->theirs, __ATOMIC_ACQUIRE) - r->at;     /* [X] */
    return *n <= r->mask + 1;
}

/* Of a ring that we fill: entries the kernel has not taken. False: the index makes no sense. */
static inline bool xdp_ring_pending(const struct xdp_ring *r, uint32_t *n)
{
    *n = r->at - __atomic_load_n(r->theirs, __ATOMIC_ACQUIRE);     /* [X] */
    return *n <= r->mask + 1;
}

/* Show the kernel how far we are. */
static inline void xdp_ring_publish(struct xdp_ring *r)
{
    __atomic_store_n(r->ours, r->at, __ATOMIC_RELEASE);            /* [X] */
}

/*
 * Whether the kernel waits for a system call.  Fence: our index is visible before its flag is read, so that not both
 * sides wait.
 */
static inline bool xdp_ring_wants_wakeup(const struct xdp_ring *r)
{
    guest_fence();
    return (__atomic_load_n(r->flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0;
}

/* A descriptor, loaded once: the kernel could write to it again. */
static inline struct xdp_desc xdp_ring_desc(const struct xdp_ring *r, uint32_t at)
{
    const struct xdp_desc *const d = (const struct xdp_desc *)r->entry + (at & r->mask);

    return (struct xdp_desc){
        .addr = __atomic_load_n(&d->addr, __ATOMIC_RELAXED),
        .len = __atomic_load_n(&d->len, __ATOMIC_RELAXED),
        .options = __atomic_load_n(&d->options, __ATOMIC_RELAXED),
    };
}

static inline uint64_t xdp_ring_addr(const struct xdp_ring *r, uint32_t at)
{
    return __atomic_load_n((const uint64_t *)r->entry + (at & r->mask), __ATOMIC_RELAXED);
}

static inline void xdp_ring_put_desc(struct xdp_ring *r, uint64_t addr, uint32_t len, uint32_t options)
{
    ((struct xdp_desc *)r->entry)[r->at++ & r->mask] = (struct xdp_desc){ addr, len, options };
}

static inline void xdp_ring_put_addr(struct xdp_ring *r, uint64_t addr)
{
    ((uint64_t *)r->entry)[r->at++ & r->mask] = addr;
}

#endif /* USWITCH_XDP_RING_H */
