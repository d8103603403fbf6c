/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_packed_tx.c - a guest's receive ring, packed layout: looks at chains in
 * advance and hands them back.  Worker thread; under the ring's lock when the
 * switch has more than one worker.
 *
 * A frame that fits the one direct descriptor of the next chain is written
 * there; all others go through packed_put_frame().
 */
#include "vhost/virtq_packed_put.h"

/* Look at up to @n chains of one descriptor, all of one turn, into the slots from @first on. Returns how many. */
static inline unsigned look_run(struct put *t, const struct guest_region **r, unsigned first, unsigned n, uint16_t pos)
{
    const uint64_t mask = (uint64_t)(PACKED_LAYOUT_FLAGS | VRING_DESC_F_NEXT) << 48, want = packed_avail_bits(pos);
    const struct pvirtq_desc *const at = &t->map->ring[pos & PACKED_INDEX];
    struct slot *const slot = &t->slot[first];
    unsigned i;

    for (i = 0; i < n; i++) {
        const uint64_t state = guest_load64_acquire(&at[i].state); /* [A] */
        struct desc d;

        if (__builtin_expect((state & mask) != want, 0))
            break;
        d = packed_desc(guest_load64(&at[i].addr), state);
        slot[i].head = d.next;
        slot_fill(&slot[i], t->map, r, &d);
    }
    return i;
}

/* Look at up to @want more chains of one descriptor. */
static bool look_ahead(struct put *t, unsigned want)
{
    struct virtq *const vq = t->vq;
    const uint32_t size = vq->mask + 1u, room = packed_room(vq);
    const unsigned left = want < room ? want : room, most = left < BURST_MAX ? left : BURST_MAX;
    const struct guest_region *r = t->hint;
    uint16_t pos = vq->last_avail;
    unsigned i = 0, run, found;

    do {
        run = packed_run(pos, most - i, size);
        found = look_run(t, &r, i, run, pos);
        i += found;
        pos = packed_add(pos, found, size);
    } while (found == run && i < most);
    t->hint = r;
    t->first = t->used;
    t->slots = i;
    return true;
}

/*
 * The fast path: frames that fit the chains looked at in advance, up to the first that does not.  Everything
 * it counts with is in registers, since the barriers of the copies spoil what is not.  Returns frames done.
 */
static inline unsigned run(struct put *t, struct frame *const *frames, unsigned n, struct tally *sum)
{
    struct packed_put *const p = (struct packed_put *)t;
    struct virtq *const vq = t->vq;
    const uint32_t hdr_len = vq->hdr_len;
    const struct slot *s = put_slot(t);
    const unsigned left = put_slots(t), most = n < left ? n : left;
    uint64_t *const filled = &p->filled[p->n];
    struct tally got = { 0 };
    unsigned i;

    for (i = 0; i < most; i++, s++) {
        const struct frame *const f = frames[i];
        const uint32_t need = hdr_len + f->len + tag_len(f);

        if (__builtin_expect(need > s->room, 0))
            break;
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): dst is set, since need > 0 and so is room */
        put_single(vq, hdr_len, s->dst, f);
        filled[i] = packed_used(s->head, need);
        tally_frame(&got, f);
    }
    if (i) {
        t->used += i;
        p->n += i;
        vq->last_avail = packed_add(vq->last_avail, i, vq->mask + 1u);
        t->known = UINT32_MAX;
        vq->merged = 1;
        tally_add(sum, &got);
    }
    return i;
}

unsigned packed_tx_burst(struct virtq *vq, const struct virtq_map *map, struct frame *const *frames, unsigned n)
{
    struct packed_put p;
    unsigned delivered;

    if (port_is_broken(vq->port)) {
        vq->count->drop[DROP_broken] += n;
        return 0;
    }
    put_begin(&p.t, vq, map);
    p.t.avail = UINT32_MAX;
    p.n = p.back = 0;
    delivered = put_burst(&p.t, frames, n, look_ahead, run, packed_put_frame);
    packed_flush(&p);
    vq->region = (uint16_t)(p.t.hint - map->mem->region);
    if (p.back) {
        vq->state->last_avail = vq->last_avail;
        vq->state->used_idx = vq->used_idx;
        packed_signal(vq, map, p.back);
    }
    return delivered;
}
