/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * random_ring.h - one ring of a driver with a taste for odd chains, for
 * test_virtq_random.c: buffers of every size cut from an arena, chains of
 * every legal shape and some illegal ones, and a walk over a chain that is as
 * simple as the specification (virtio 1.2, 2.7).
 *
 * The arena is a circle: buffers come back in the order in which they were
 * offered, or the test fails.  Whatever is not offered holds ARENA_GUARD, gaps
 * between buffers included.
 */
#ifndef USWITCH_TESTS_RANDOM_RING_H
#define USWITCH_TESTS_RANDOM_RING_H

#include "vhost/driver.h"
#include "vhost/virtq_chain.h"

#define ARENA_SIZE (1536u << 10)
#define ARENA_GUARD 0xc5
#define PARTS_MAX 24                    /* of a chain as the driver makes it */

/* Deterministic; state never 0. */
static inline uint32_t rnd(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 16);
}

/* 0 .. n - 1 */
static inline uint32_t below(uint64_t *state, uint32_t n)
{
    return rnd(state) % n;
}

static inline bool one_in(uint64_t *state, uint32_t n)
{
    return rnd(state) % n == 0;
}

/**
 * struct offer - a chain on the ring
 * @head: its head
 * @n_desc: entries of the descriptor table it occupies
 * @desc: those
 * @arena_end: position in the arena behind its buffers
 * @tag: what the owner wants to remember of it: where its bytes came from
 */
struct offer {
    uint16_t head;
    uint16_t n_desc;
    uint16_t desc[PARTS_MAX];
    uint64_t arena_end;
    uint32_t tag[5];
};

/**
 * struct random_ring - a ring, its arena and what is offered on it
 * @d: driver; @r: its ring
 * @seed: generator
 * @writable: VRING_DESC_F_WRITE for the receive ring
 * @in_order: descriptors are used in the order of the table
 * @indirect: negotiated
 * @base: guest-physical start of the arena
 * @from: position of the oldest byte in use; @to: behind the newest; both count on
 * @free: unused entries of the descriptor table, the last is taken next; @n_free of them
 * @offers: what is on the ring, by avail index
 */
struct random_ring {
    struct driver *d;
    struct drv_ring *r;
    uint64_t *seed;
    uint16_t writable;
    bool in_order;
    bool indirect;
    uint64_t base;
    uint64_t from, to;
    uint16_t free[1024];
    uint32_t n_free;
    struct offer offers[1024];
};

/* After the ring was placed or cleared: nothing is offered, the arena is all guard. */
void ring_reset(struct random_ring *rr);

/**
 * ring_offer() - offer a chain, visible after drv_publish()
 * @rr: ring
 * @bytes: of all its buffers
 * @n: parts it is cut into, 1 .. PARTS_MAX; some of them are empty
 * @spoil: make it malformed, somehow
 *
 * Return: the offer, or NULL when ring or arena are full.
 */
struct offer *ring_offer(struct random_ring *rr, uint32_t bytes, uint32_t n, bool spoil);

/* The offer at an avail index. */
struct offer *ring_at(struct random_ring *rr, uint16_t avail);

/* The oldest offer has come back: its memory is guard again. */
void ring_return(struct random_ring *rr, uint16_t avail);

/* Every byte of the arena that is not offered is guard. */
bool ring_guards_hold(struct random_ring *rr, uint16_t oldest);

/**
 * struct walk - the walk over a chain
 * @table: the descriptors it runs through
 * @copy: of an indirect table
 * @n: descriptors the table has
 * @left: that may still come
 * @at: current one
 * @steps: taken
 */
struct walk {
    const struct vring_desc *table;
    struct vring_desc copy[1024];
    uint32_t n;
    uint32_t left;
    struct desc at;
    uint32_t steps;
};

/* Both: DROP_none when w->at is a descriptor to use, else why not. */
enum drop_reason walk_first(struct walk *w, const struct random_ring *rr, uint16_t head);
enum drop_reason walk_next(struct walk *w, const struct random_ring *rr);

/* How much of a buffer lies in memory, contiguously or not; contiguously in one region. */
bool in_memory(uint64_t gpa, uint64_t len);
uint64_t in_one_region(const struct driver *d, uint64_t gpa, uint64_t len);

#endif /* USWITCH_TESTS_RANDOM_RING_H */
