/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_packed_merge.c - frames into a packed receive ring the general way, as
 * virtq_merge.c does for a split one.  Worker thread, under the same lock as
 * the burst.
 *
 * Handing back a chain overwrites its descriptor, so what a frame took is
 * noted, and handed back when the frame is complete; a frame in several chains
 * at once, its first chain last: the driver expects the others when it sees
 * that one (5.1.6.4.1).
 */
#include "vhost/virtq_merge.h"
#include "vhost/virtq_packed_put.h"
#include "vhost/virtq_spread.h"

/* Chains of one frame at most: one of 64 KiB in buffers of 64 bytes. */
#define FRAME_CHAINS 1032

/**
 * struct filled - the chains that a frame took (worker's stack)
 * @n: how many
 * @end: position behind the last
 * @step: descriptors of each; 0: they differ
 * @chain: position, bytes and buffer id of each
 */
struct filled {
    unsigned n;
    uint16_t end;
    uint16_t step;
    struct {
        uint16_t pos;
        uint16_t id;
        uint32_t len;
    } chain[FRAME_CHAINS];
};

/* Note the chain at @pos, whose walk has come to its end. */
static void note(struct filled *filled, uint16_t pos, const struct packed_cursor *end, uint32_t len, uint32_t size)
{
    if (filled->n == 0)
        filled->step = end->n;
    else if (filled->step != end->n)
        filled->step = 0;
    filled->chain[filled->n].pos = pos;
    filled->chain[filled->n].id = end->id;
    filled->chain[filled->n].len = len;
    filled->n++;
    filled->end = packed_add(end->pos, 1, size);
}

/* Everything before is handed back: these chains next. */
static void hand_back(struct packed_put *p, const struct filled *filled)
{
    struct virtq *const vq = p->t.vq;

    packed_begin(vq, vq->used_idx, filled->end, filled->step, filled->n > 1 ? PACKED_WHOLE : 0);
    for (unsigned i = filled->n; i--;)
        packed_put_used(p->t.map, filled->chain[i].pos, filled->chain[i].id, filled->chain[i].len);
    p->back += packed_distance(vq->used_idx, filled->end, vq->mask + 1u);
    vq->used_idx = vq->last_avail = filled->end;
    p->t.used += filled->n;
    p->t.first = p->t.used; /* what was looked at in advance is used up, or looked at again */
    p->t.slots = 0;
    p->t.known = UINT32_MAX;
    vq->merged = (uint16_t)(filled->n < BURST_MAX ? filled->n : BURST_MAX);
}

/* The last chain is malformed, and in the way of everything behind it: all go back, empty. */
static enum drop_reason consume_bad(struct packed_put *p, struct filled *filled)
{
    for (unsigned i = 0; i < filled->n; i++)
        filled->chain[i].len = 0;
    packed_flush(p);
    hand_back(p, filled);
    return DROP_out_chain;
}

/* Why there is no further chain at @pos, or DROP_none and its head. */
static enum drop_reason next_chain(const struct packed_put *p, const struct filled *filled, uint16_t pos,
                                   struct desc *d)
{
    const struct virtq *const vq = p->t.vq;
    const uint32_t size = vq->mask + 1u, mine = packed_distance(vq->last_avail, pos, size);

    if (filled->n && !vq->mergeable)
        return DROP_ring_small;
    if (mine == size || filled->n == FRAME_CHAINS)
        return DROP_ring_small; /* all of the ring does not suffice */
    if (mine == packed_room(vq) || !packed_load(p->t.map, pos, d))
        return DROP_ring_full;
    return DROP_none;
}

/* Noinline: the fast path's stack has no room for struct filled. */
static __attribute__((noinline)) enum drop_reason put_chains(struct packed_put *p, const struct frame *f,
                                                              uint32_t need)
{
    struct put *const t = &p->t;
    struct virtq *const vq = t->vq;
    const uint32_t size = vq->mask + 1u;
    struct filled filled;
    struct source s;
    uint16_t pos = vq->last_avail;

    filled.n = 0;
    filled.step = 0;
    filled.end = pos;
    merge_begin(&s, vq, f);
    for (; s.done < need; pos = filled.end) {
        struct desc d;
        struct chain c;
        uint32_t got = 0;
        bool bad;
        const enum drop_reason why = next_chain(p, &filled, pos, &d);

        if (why)
            return merge_no_room(t, s.done, why);
        /* 5.1.6.4.1: the header is never split over buffers; and an empty chain is no buffer at all. */
        bad = merge_fill(t, &s, need, &d, pos, &c, &got) || got == 0 || s.done < vq->hdr_len ||
              (t->walked > CHAIN_BURST && s.done < need);
        if (!packed_cursor_end(&c.cursor, vq, t->map, packed_room(vq) - packed_distance(vq->last_avail, pos, size)))
            return DROP_broken;
        note(&filled, pos, &c.cursor, got, size);
        if (bad)
            return consume_bad(p, &filled);
    }
    if (filled.n > 1)
        merge_set_buffers(&s, t->map->log, filled.n);
    packed_flush(p);
    hand_back(p, &filled);
    return DROP_none;
}

/* The same for buffers that were looked at in advance and are full now, the last one with what was left. */
static void hand_back_slots(struct packed_put *p, const struct slot *s, unsigned n, uint32_t need)
{
    struct virtq *const vq = p->t.vq;
    const uint32_t size = vq->mask + 1u;
    const uint16_t start = vq->last_avail, end = packed_add(start, n, size);
    uint32_t last = need;

    for (unsigned i = 0; i + 1 < n; i++)
        last -= s[i].room;
    packed_flush(p);
    packed_begin(vq, start, end, 1, n > 1 ? PACKED_WHOLE : 0);
    for (unsigned i = n; i--;)
        packed_put_used(p->t.map, packed_add(start, i, size), s[i].head, i + 1 == n ? last : s[i].room);
    p->back += n;
    vq->used_idx = vq->last_avail = end;
    p->t.used += n;
    p->t.known = UINT32_MAX;
    vq->merged = (uint16_t)n;
}

enum drop_reason packed_put_frame(struct put *t, const struct frame *f)
{
    const uint32_t need = t->vq->hdr_len + f->len + tag_len(f);
    const struct slot *const s = put_slot(t);
    unsigned n;

    if (port_is_broken(t->vq->port))
        return DROP_broken;
    n = spread_frame(t->vq, s, put_slots(t), f, need);
    if (n) {
        hand_back_slots((struct packed_put *)t, s, n, need);
        return DROP_none;
    }
    if (need > t->known)
        return t->why;
    if (t->walked > CHAIN_BURST)
        return DROP_ring_full;
    return put_chains((struct packed_put *)t, f, need);
}
