/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_packed.h - the words of a packed ring (virtio 1.2, 2.8): positions,
 * what is available, handing back, and whether the other side wants to hear of
 * it.  Included by the packed_* sources and the chain walk only.
 *
 * A position is the index of a descriptor (bits 0-14) with the wrap counter of
 * that turn around the ring (bit 15), as vhost-user passes it; a ring starts
 * at 0x8000.  Chains are handed back in the order they came, each where it
 * began, so "next to hand back" is "next to take" whenever nothing is in
 * flight, and at most a whole ring is in flight.
 *
 * Memory order, both directions:
 *   [A] packed_load() loads length, id and flags of a descriptor at once, with
 *       acquire; the driver's half is its barrier before it stores the flags of
 *       a chain's first descriptor.
 *   [U] packed_put_used() stores length, id and flags at once, with release;
 *       the driver's half is its load of the flags before it reads the rest.
 *   [N] a full fence between that store and reading the driver's event
 *       suppression (and the same in packed_arm()); the driver has the mirror
 *       image.  Without it both sides could go to sleep.
 *
 * Who takes over from a killed process finds no used index in guest memory.
 * us_ring_state.burst says which positions were being handed back, before the
 * first of them is: from where to where, and how far apart the chains begin.
 * A chain was handed back if and only if its descriptor is not available any
 * more at its position (a driver cannot make it so again before two turns).
 * Therefore each store publishes one whole chain, in ascending order, and
 * what differs in length goes in several bursts.  A frame in several buffers
 * must appear at once, so there the first is stored last: PACKED_WHOLE.
 */
#ifndef USWITCH_VIRTQ_PACKED_H
#define USWITCH_VIRTQ_PACKED_H

#include "vhost/virtq.h"
#include "vhost/virtq_desc.h"

#define PACKED_WRAP 0x8000u
#define PACKED_INDEX 0x7fffu
/* us_ring_state.burst: from: bits 0-15, to: 16-31, step: 32-47. */
#define PACKED_WHOLE (1ULL << 48)
#define PACKED_LAYOUT_FLAGS (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)

/* The position n descriptors on, n at most the ring's size. */
static inline uint16_t packed_add(uint16_t pos, uint32_t n, uint32_t size)
{
    const uint32_t index = (pos & PACKED_INDEX) + n;

    if (index < size)
        return (uint16_t)((pos & PACKED_WRAP) | index);
    return (uint16_t)(((pos & PACKED_WRAP) ^ PACKED_WRAP) | (index - size));
}

/* How far it is from one position to a later one, at most a turn ahead. */
static inline uint32_t packed_distance(uint16_t from, uint16_t to, uint32_t size)
{
    const uint32_t d = (to & PACKED_INDEX) - (from & PACKED_INDEX);

    return (from ^ to) & PACKED_WRAP ? d + size : d;
}

/* Of n descriptors from a position on, those before the ring's end: all of one turn, their bits of layout the same. */
static inline uint32_t packed_run(uint16_t pos, uint32_t n, uint32_t size)
{
    const uint32_t left = size - (pos & PACKED_INDEX);

    return n < left ? n : left;
}

/* 2.8.1: the bits of layout of a turn where pvirtq_desc.state has them: available, and used. */
static inline uint64_t packed_avail_bits(uint16_t pos)
{
    return (uint64_t)(pos & PACKED_WRAP ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED) << 48;
}

static inline uint64_t packed_used_bits(uint16_t pos)
{
    return pos & PACKED_WRAP ? (uint64_t)PACKED_LAYOUT_FLAGS << 48 : 0;
}

static inline struct desc packed_desc(uint64_t addr, uint64_t state)
{
    return (struct desc){ .addr = addr, .len = (uint32_t)state, .flags = (uint16_t)(state >> 48),
                          .next = (uint16_t)(state >> 32) };
}

/* 2.8.1: available in this turn: AVAIL is its wrap counter, USED is not. */
static inline bool packed_is_avail(uint64_t state, uint16_t pos)
{
    return (state & (uint64_t)PACKED_LAYOUT_FLAGS << 48) == packed_avail_bits(pos);
}

/**
 * packed_load() - copy the descriptor at a position, if it is available
 * @map: ring
 * @pos: position inside the ring
 * @d: the copy
 */
static inline bool packed_load(const struct virtq_map *map, uint16_t pos, struct desc *d)
{
    const struct pvirtq_desc *const at = &map->ring[pos & PACKED_INDEX];
    const uint64_t state = guest_load64_acquire(&at->state); /* [A] */

    if (!packed_is_avail(state, pos))
        return false;
    *d = packed_desc(guest_load64(&at->addr), state);
    return true;
}

/* 2.8.8: a used descriptor but for its bits of layout. */
static inline uint64_t packed_used(uint16_t id, uint32_t len)
{
    return (uint64_t)(len ? VRING_DESC_F_WRITE : 0) << 48 | (uint64_t)id << 32 | len;
}

/* Hand the chain that began at a position back. */
static inline void packed_put_used(const struct virtq_map *map, uint16_t pos, uint16_t id, uint32_t len)
{
    guest_store64_release(&map->ring[pos & PACKED_INDEX].state, packed_used_bits(pos) | packed_used(id, len)); /* [U] */
}

/**
 * packed_begin() - what is handed back next
 * @vq: ring
 * @from: position of the first chain
 * @to: position behind the last one
 * @step: descriptors of each chain; 0 with PACKED_WHOLE: they differ
 * @whole: 0 or PACKED_WHOLE
 */
static inline void packed_begin(struct virtq *vq, uint16_t from, uint16_t to, uint16_t step, uint64_t whole)
{
    /* One store, and before the release of packed_put_used(): never behind what the guest can see. */
    __atomic_store_n(&vq->state->burst, whole | (uint64_t)step << 32 | (uint64_t)to << 16 | from, __ATOMIC_RELAXED);
}

/**
 * packed_put_singles() - hand back chains of one descriptor
 * @vq: ring; its used_idx moves
 * @map: its map
 * @used: packed_used() of each
 * @n: how many, 1 .. BURST_MAX, all of them in flight
 */
static inline void packed_put_singles(struct virtq *vq, const struct virtq_map *map, const uint64_t *used, unsigned n)
{
    const uint32_t size = vq->mask + 1u;
    uint16_t pos = vq->used_idx;

    packed_begin(vq, pos, packed_add(pos, n, size), 1, 0);
    while (n) {
        const uint32_t run = packed_run(pos, n, size);
        struct pvirtq_desc *const at = &map->ring[pos & PACKED_INDEX];
        const uint64_t bits = packed_used_bits(pos);

        for (unsigned i = 0; i < run; i++)
            guest_store64_release(&at[i].state, bits | used[i]); /* [U] */
        used += run;
        n -= run;
        pos = packed_add(pos, run, size);
    }
    vq->used_idx = pos;
}

/**
 * struct packed_cursor - a walk over the descriptors that a chain has in the ring (worker's stack)
 * @pos: the current one
 * @id: its buffer id; the chain's is that of the last one (2.8.6)
 * @n: descriptors so far
 * @more: another one follows
 */
struct packed_cursor {
    uint16_t pos;
    uint16_t id;
    uint16_t n;
    bool more;
};

static inline struct packed_cursor packed_cursor(uint16_t pos, const struct desc *d)
{
    return (struct packed_cursor){ pos, d->next, 1, d->flags & VRING_DESC_F_NEXT };
}

/* One step; false: the chain is longer than the ring, or a part of it is not available, against 2.8.6. */
static inline bool packed_cursor_next(struct packed_cursor *c, const struct virtq_map *map, uint32_t size,
                                      struct desc *d)
{
    const uint16_t pos = packed_add(c->pos, 1, size);

    if (c->n >= size || !packed_load(map, pos, d))
        return false;
    *c = (struct packed_cursor){ pos, d->next, (uint16_t)(c->n + 1), d->flags & VRING_DESC_F_NEXT };
    return true;
}

/**
 * packed_cursor_end() - go to a chain's last descriptor
 * @c: cursor, anywhere in the chain
 * @vq: ring
 * @map: its map
 * @room: descriptors that the chain may have, since others are in flight
 *
 * Return: false when the chain breaks the port: where the next one begins nobody knows.
 */
static inline bool packed_cursor_end(struct packed_cursor *c, struct virtq *vq, const struct virtq_map *map,
                                     uint32_t room)
{
    struct desc d;

    while (c->more && packed_cursor_next(c, map, vq->mask + 1u, &d))
        ;
    if (c->more || c->n > room) {
        port_break(vq->port, vq->index, BREAK_ring_chain, c->pos);
        return false;
    }
    return true;
}

/*
 * Record the descriptors at n positions before @end / all that is ours of a ring.  Only with a log; out of line,
 * since the burst pays for nothing but the question.  The ring is in guest memory like any other, whatever address
 * for "the used ring" the front-end names.
 */
void packed_mark_used(const struct virtq *vq, const struct virtq_map *map, uint16_t end, uint32_t n);
void packed_mark_ring(const struct virtq *vq, const struct virtq_map *map);

/**
 * packed_wants_signal() - 2.8.14: do used descriptors concern a driver that asks for one of them?
 * @event: its event suppression: offset, wrap counter, flags
 * @event_idx: VIRTIO_F_RING_EVENT_IDX
 * @pos: position behind the used descriptors
 * @n: how many since the last answer, at most @size
 * @size: descriptors of the ring
 *
 * A position names one descriptor of two turns.  Taken for one of the turn up to @pos, the one asked for is used if
 * it is among the last n.  What is less than a turn ahead of @pos comes out as a turn or more behind, or negative.
 */
static inline bool packed_wants_signal(uint32_t event, bool event_idx, uint16_t pos, uint32_t n, uint32_t size)
{
    const uint32_t flags = event >> 16 & 3;
    uint32_t behind;

    if (__builtin_expect(!event_idx || flags != RING_EVENT_FLAGS_DESC, 1))
        return flags != RING_EVENT_FLAGS_DISABLE;
    behind = (pos & PACKED_INDEX) - (event & PACKED_INDEX);
    if ((event ^ pos) & PACKED_WRAP)
        behind += size;
    return behind - 1 < n;
}

/**
 * packed_signal() - chains were handed back: record it, signal if the driver wants to hear of it
 * @vq: ring; used_idx is behind them
 * @map: its map
 * @n: descriptors since the last call; more than a turn if the driver offered them again meanwhile
 */
static inline void packed_signal(struct virtq *vq, const struct virtq_map *map, uint32_t n)
{
    const uint32_t size = vq->mask + 1u;

    /* What a driver asks for is at most a turn behind: it waits for something it has offered. */
    if (__builtin_expect(n > size, 0))
        n = size;
    if (__builtin_expect(map->log != NULL, 0))
        packed_mark_used(vq, map, vq->used_idx, n);
    guest_fence(); /* [N] */
    if (packed_wants_signal(guest_load32(&map->driver->state), vq->event_idx, vq->used_idx, n, size))
        virtq_signal(vq);
}

#endif /* USWITCH_VIRTQ_PACKED_H */
