/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split_tx.c - a guest's receive ring, split layout: looks at chains in
 * advance and fills the used ring.  Worker thread; under the ring's lock when
 * the switch has more than one worker.
 *
 * As on the other side, a burst goes in passes over heads and descriptors
 * that let the cache misses overlap.  A frame that fits the first, direct
 * descriptor of the next chain is written there; all others go through
 * split_put_frame().
 */
#include "vhost/virtq_put.h"
#include "vhost/virtq_split.h"

/* Elements of the used ring in a cache line. */
#define USED_LINE 8

/* Look at up to @want more chains; false when a head breaks the port. */
static bool look_ahead(struct put *t, unsigned want)
{
    struct virtq *const vq = t->vq;
    const struct virtq_map *const map = t->map;
    const struct vring_desc *const desc = map->desc;
    const unsigned left = t->avail - t->used;
    const uint16_t start = (uint16_t)(vq->last_avail + t->used);
    const struct guest_region *r = t->hint;
    unsigned n = want < left ? want : left;

    if (n > BURST_MAX)
        n = BURST_MAX;
    t->first = t->used;
    t->slots = 0;
    for (unsigned i = 0; i < n; i++) {
        uint16_t head;

        if (!split_head(vq, map, (uint16_t)(start + i), &head))
            return false;
        t->slot[i].head = head;
        guest_prefetch(&desc[head]);
    }
    for (unsigned i = 0; i < n; i += USED_LINE)
        guest_prefetch_write(&map->used->ring[(vq->used_idx + t->used + i) & vq->mask]);
    for (unsigned i = 0; i < n; i++) {
        const struct desc d = split_desc_load(&desc[t->slot[i].head]);

        slot_fill(&t->slot[i], map, &r, &d);
    }
    t->hint = r;
    t->slots = n;
    return true;
}

/*
 * The fast path: frames that fit the chains looked at in advance, up to the first that does not.  Everything
 * it counts with is in registers, since the barriers of the copies spoil what is not.  Returns frames done.
 */
static inline unsigned run(struct put *t, struct frame *const *frames, unsigned n, struct tally *sum)
{
    const struct virtq *const vq = t->vq;
    struct vring_used_elem *const ring = t->map->used->ring;
    const uint32_t hdr_len = vq->hdr_len, mask = vq->mask;
    const struct slot *s = put_slot(t);
    const unsigned left = put_slots(t), most = n < left ? n : left;
    uint32_t used_idx = vq->used_idx + t->used;
    struct tally got = { 0 };
    unsigned i;

    for (i = 0; i < most; i++, s++, used_idx++) {
        const struct frame *const f = frames[i];
        const uint32_t need = hdr_len + f->len + tag_len(f);

        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): look_ahead() fills t->slots of them */
        if (__builtin_expect(need > s->room, 0))
            break;
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): dst is set, since need > 0 and so is room */
        put_single(vq, hdr_len, s->dst, f);
        split_fill_used(&ring[used_idx & mask], s->head, need);
        tally_frame(&got, f);
    }
    if (i) {
        t->used += i;
        t->known = UINT32_MAX;
        t->vq->merged = 1;
        tally_add(sum, &got);
    }
    return i;
}

void split_warm(struct virtq *vq, const struct virtq_map *map)
{
    const struct guest_region *r = virtq_region_hint(vq, map->mem);
    struct slot next;
    uint16_t head;

    guest_prefetch_write(&map->used->ring[vq->used_idx & vq->mask]);
    guest_prefetch_write(&map->used->idx);
    if (split_avail(vq, map, 1) && split_head(vq, map, vq->last_avail, &head)) {
        const struct desc d = split_desc_load(&map->desc[head]);

        slot_fill(&next, map, &r, &d); /* which prefetches */
    }
}

unsigned split_tx_burst(struct virtq *vq, const struct virtq_map *map, struct frame *const *frames, unsigned n)
{
    struct put t;
    unsigned delivered;

    put_begin(&t, vq, map);
    t.avail = split_avail(vq, map, n * vq->merged);
    if (port_is_broken(vq->port)) {
        vq->count->drop[DROP_broken] += n;
        return 0;
    }
    delivered = put_burst(&t, frames, n, look_ahead, run, split_put_frame);
    vq->region = (uint16_t)(t.hint - map->mem->region);
    if (t.used) {
        vq->last_avail = (uint16_t)(vq->last_avail + t.used);
        split_publish(vq, map, (uint16_t)t.used);
    }
    return delivered;
}
