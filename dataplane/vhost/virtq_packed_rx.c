/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_packed_rx.c - a guest's transmit ring, packed layout: which chains come
 * next, and giving them back.  Worker thread, the queue's own.
 *
 * As in a split ring, a burst goes in passes, so that the cache misses of its
 * frames overlap; here heads and descriptors are one.  Where a chain of several
 * descriptors ends only a walk can tell, so such a chain ends a pass.
 */
#include "vhost/virtq_packed.h"
#include "vhost/virtq_chain.h"
#include "vhost/virtq_take.h"

/**
 * struct pass - chains of one descriptor that follow each other (worker's stack)
 * @pos: position of the first
 * @n: how many
 * @single: those that are a frame in one piece, translated
 * @other: the others, copied
 */
struct pass {
    uint16_t pos;
    unsigned n;
    struct single single[BURST_MAX];
    struct desc other[BURST_MAX];
};

/*
 * Copies chains of one descriptor, @n at most, all of one turn.  Returns how many there are: the next one is not
 * available, or goes on.  Positions are no matter within a turn: a run is an array, its bits of layout a constant.
 */
static inline unsigned scan_run(const struct take *t, const struct guest_region **r, struct pass *p, unsigned first,
                                unsigned n, uint16_t pos)
{
    const uint64_t one = (uint64_t)(PACKED_LAYOUT_FLAGS | VRING_DESC_F_NEXT) << 48, want = packed_avail_bits(pos);
    const uint64_t plain = one | (uint64_t)(VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT) << 48;
    const struct pvirtq_desc *const at = &t->map->ring[pos & PACKED_INDEX];
    const uint32_t hdr_len = t->vq->hdr_len, max_frame = t->max_frame;
    uint16_t *const id = &t->vq->taken[t->vq->n_taken + first];
    struct single *const single = &p->single[first];
    unsigned i;

    for (i = 0; i < n; i++) {
        const uint64_t state = guest_load64_acquire(&at[i].state); /* [A] */
        struct desc d = { .len = (uint32_t)state };

        if (__builtin_expect((state & plain) != want && (state & one) != want, 0))
            break;
        d.addr = guest_load64(&at[i].addr);
        /* The one comparison has seen all flags; so told, the compiler leaves out take_single()'s own. */
        d.flags = (state & plain) == want ? 0 : (uint16_t)(state >> 48);
        id[i] = (uint16_t)(state >> 32);
        single[i] = take_single(t->map->mem, hdr_len, max_frame, r, &d);
        if (__builtin_expect(!single[i].src, 0))
            p->other[first + i] = packed_desc(d.addr, state);
    }
    return i;
}

/* First pass: copy each descriptor, once. *longer becomes the head of a chain that ended the pass. */
static inline bool scan(struct take *t, struct pass *p, unsigned most, struct desc *longer)
{
    const uint32_t size = t->vq->mask + 1u;
    const struct guest_region *r = t->hint;
    uint16_t pos = p->pos;
    unsigned i = 0, run, found;

    do {
        run = packed_run(pos, most - i, size);
        found = scan_run(t, &r, p, i, run, pos);
        i += found;
        pos = packed_add(pos, found, size);
    } while (found == run && i < most);
    t->hint = r;
    p->n = i;
    /* Where the pass ended may be a longer chain, or nothing yet: a second look, whose word is the only one used. */
    return i < most && packed_load(t->map, pos, longer) && longer->flags & VRING_DESC_F_NEXT;
}

/* A chain the general way. False: not now, the burst is full. Its end is @c's. */
static bool take_other(struct take *t, const struct desc *d, uint16_t pos, struct chain *c)
{
    struct burst *const b = t->b;
    enum drop_reason why;

    /* The longest frame must still fit, since its length is known only after the walk. */
    if (t->walked > CHAIN_BURST || (t->bytes + US_FRAME_MAX > BURST_BYTES && b->n))
        return false;
    why = take_chain(t, d, pos, c);
    if (why == DROP_chain_loop && b->n_iov)
        return false; /* perhaps only the pool was short: it is the first of the next burst */
    if (why) {
        count_drop_in(t->vq->port, t->vq->index / 2, why);
    } else {
        t->bytes += b->frame[b->n].len;
        b->n++;
    }
    return true;
}

/* Second pass: frames, until the burst has its bytes or its steps. Returns chains consumed. */
static inline unsigned take_pass(struct take *t, const struct pass *p)
{
    unsigned i = take_run(t, p->single, p->n);

    while (__builtin_expect(i < p->n, 0)) {
        struct chain c;

        if (p->single[i].src ||
            !take_other(t, &p->other[i], packed_add(p->pos, i, t->vq->mask + 1u), &c))
            break;
        i++;
        i += take_run(t, &p->single[i], p->n - i);
    }
    return i;
}

/* A chain of several descriptors. False: the burst is full, or the chain broke the port. */
static __attribute__((noinline)) bool take_longer(struct take *t, const struct desc *d, unsigned room)
{
    struct virtq *const vq = t->vq;
    const uint32_t n_before = t->b->n;
    struct chain c;

    if (!take_other(t, d, vq->last_avail, &c))
        return false;
    if (!packed_cursor_end(&c.cursor, vq, t->map, room)) {
        t->b->n = n_before;
        return false;
    }
    vq->taken[vq->n_taken] = c.cursor.id;
    vq->taken_len[vq->n_taken] = c.cursor.n;
    vq->n_taken++;
    vq->last_avail = packed_add(vq->last_avail, c.cursor.n, vq->mask + 1u);
    return true;
}

unsigned packed_rx_burst(struct virtq *vq, const struct virtq_map *map, struct burst *b)
{
    struct take t = { .vq = vq, .map = map, .b = b };
    const uint32_t size = vq->mask + 1u, most = BURST_MAX - b->held_back;
    struct pass p;

    t.hint = virtq_region_hint(vq, map->mem);
    t.max_frame = atomic_load_explicit(&vq->port->max_frame, memory_order_relaxed);
    vq->taken_map = map;
    while (vq->n_taken < most) {
        /* What is in flight is less than a turn: no descriptor is looked at again before it was handed back. */
        const unsigned room = size - packed_distance(vq->used_idx, vq->last_avail, size);
        const unsigned left = most - vq->n_taken;
        struct desc longer;
        unsigned done;
        bool stopped;

        p.pos = vq->last_avail;
        stopped = scan(&t, &p, room < left ? room : left, &longer);
        done = take_pass(&t, &p);
        for (unsigned i = 0; i < done; i++)
            vq->taken_len[vq->n_taken + i] = 1;
        vq->n_taken = (uint16_t)(vq->n_taken + done);
        vq->last_avail = packed_add(vq->last_avail, done, size);
        if (!stopped || done < p.n || vq->n_taken == most || !take_longer(&t, &longer, room - done))
            break;
    }
    vq->region = (uint16_t)(t.hint - map->mem->region);
    return b->n;
}

static inline void complete_singles(struct virtq *vq, const struct virtq_map *map)
{
    const unsigned n = vq->n_taken;
    uint64_t used[BURST_MAX];

    for (unsigned i = 0; i < n; i++)
        used[i] = packed_used(vq->taken[i], 0);
    packed_put_singles(vq, map, used, n);
}

/* Chains from @i on that have the same length. */
static inline unsigned same_len(const struct virtq *vq, unsigned i)
{
    unsigned end = i + 1;

    while (end < vq->n_taken && vq->taken_len[end] == vq->taken_len[i])
        end++;
    return end;
}

static __attribute__((noinline)) void complete_chains(struct virtq *vq, const struct virtq_map *map)
{
    const uint32_t size = vq->mask + 1u;
    uint16_t pos = vq->used_idx;

    for (unsigned i = 0, end; i < vq->n_taken; i = end) {
        const uint16_t len = vq->taken_len[i];

        end = same_len(vq, i);
        packed_begin(vq, pos, packed_add(pos, (end - i) * len, size), len, 0);
        for (unsigned k = i; k < end; k++, pos = packed_add(pos, len, size))
            packed_put_used(map, pos, vq->taken[k], 0);
    }
}

void packed_rx_complete(struct virtq *vq, const struct virtq_map *map, uint32_t part)
{
    const uint32_t size = vq->mask + 1u, total = part ? part : packed_distance(vq->used_idx, vq->last_avail, size);
    const uint16_t end = packed_add(vq->used_idx, total, size);

    if (__builtin_expect(part == 0 && total == vq->n_taken, 1))
        complete_singles(vq, map);
    else
        complete_chains(vq, map);
    vq->n_taken = 0;
    vq->used_idx = end;
    vq->state->last_avail = vq->last_avail;
    vq->state->used_idx = vq->used_idx;
    packed_signal(vq, map, total);
}
