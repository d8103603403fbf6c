/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split_rx.c - a guest's transmit ring, split layout: which chains come
 * next, and giving them back.  Worker thread, the queue's own.
 *
 * A burst goes in three passes, so that the cache misses of all its frames
 * overlap: heads (prefetch descriptors), descriptors (translate, prefetch
 * buffers), frames (copy virtio-net header and snapshot).  A frame in one
 * direct descriptor inside one region stays on that path (virtq_take.h);
 * everything else, malformed chains included, goes through take_chain().
 */
#include "vhost/virtq_chain.h"
#include "vhost/virtq_split.h"
#include "vhost/virtq_take.h"

/* Descriptors of a chain that are worth having early. */
#define CHAIN_AHEAD 32

/* First pass: which chains; breaks the port at a bad head. */
static inline bool take_heads(struct take *t, unsigned n)
{
    struct virtq *const vq = t->vq;
    const struct virtq_map *const map = t->map;
    const struct vring_desc *const desc = map->desc;
    const uint16_t start = vq->last_avail;

    for (unsigned i = 0; i < n; i++) {
        uint16_t head;

        if (!split_head(vq, map, (uint16_t)(start + i), &head))
            return false;
        vq->taken[i] = head;
        guest_prefetch(&desc[head]);
        /* A chain's descriptors mostly lie one behind the other. */
        for (unsigned at = DESC_LINE; at < vq->longest; at += DESC_LINE)
            guest_prefetch(&desc[(head + at) & vq->mask]);
    }
    return true;
}

/* Second pass: each head descriptor is copied, once, and translated if it is a single one of ordinary length. */
static inline void take_descs(struct take *t, unsigned n, struct single *single, struct desc *other)
{
    const struct vring_desc *const desc = t->map->desc;
    const uint16_t *const head = t->vq->taken;
    const struct guest_mem *const mem = t->map->mem;
    const uint32_t hdr_len = t->vq->hdr_len, max_frame = t->max_frame;
    const struct guest_region *r = t->hint;

    for (unsigned i = 0; i < n; i++) {
        const struct desc d = split_desc_load(&desc[head[i]]);

        single[i] = take_single(mem, hdr_len, max_frame, &r, &d);
        if (__builtin_expect(!single[i].src, 0))
            other[i] = d;
    }
    t->hint = r;
}

/* Third pass: frames, until the burst has its bytes or its steps. Returns chains consumed. */
static inline unsigned take_frames(struct take *t, unsigned n, const struct single *single,
                                   const struct desc *other)
{
    struct burst *const b = t->b;
    unsigned i = take_run(t, single, n);

    while (__builtin_expect(i < n, 0)) {
        enum drop_reason why;
        uint32_t steps;
        struct chain c;

        if (single[i].src || t->walked > CHAIN_BURST)
            break;
        /* The longest frame must still fit, since its length is known only after the walk. */
        if (t->bytes + US_FRAME_MAX > BURST_BYTES && b->n)
            break;
        steps = t->walked;
        why = take_chain(t, &other[i], 0, &c);
        t->longest = t->walked - steps + 1;
        if (why == DROP_chain_loop && b->n_iov)
            break; /* perhaps only the pool was short: it is the first of the next burst */
        if (why) {
            count_drop_in(t->vq->port, t->vq->index / 2, why);
        } else {
            t->bytes += b->frame[b->n].len;
            b->n++;
        }
        i++;
        i += take_run(t, &single[i], n - i);
    }
    return i;
}

/* Drivers go through their descriptors in steps, or take the same one again and again. */
static inline void guess_head(struct virtq *vq, unsigned n)
{
    const uint16_t last = vq->taken[n - 1], before = n > 1 ? vq->taken[n - 2] : vq->last_head;

    vq->last_head = last;
    vq->next_head = (uint16_t)(2 * last - before);
}

unsigned split_rx_burst(struct virtq *vq, const struct virtq_map *map, struct burst *b)
{
    struct take t = { .vq = vq, .map = map, .b = b, .longest = 1 };
    struct single single[BURST_MAX];
    struct desc other[BURST_MAX];
    unsigned n;

    /* A frame that comes alone: its entry and, if the guess is right, its descriptor come with the index. */
    guest_prefetch(&map->avail->ring[vq->last_avail & vq->mask]);
    guest_prefetch(&map->desc[vq->next_head & vq->mask]);
    n = split_avail(vq, map, BURST_MAX / 2);
    if (n == 0)
        return 0;
    if (n > BURST_MAX - b->held_back)
        n = BURST_MAX - b->held_back;
    t.hint = virtq_region_hint(vq, map->mem);
    t.max_frame = atomic_load_explicit(&vq->port->max_frame, memory_order_relaxed);
    if (!take_heads(&t, n))
        return 0;
    guess_head(vq, n);
    take_descs(&t, n, single, other);
    n = take_frames(&t, n, single, other);
    vq->region = (uint16_t)(t.hint - map->mem->region);
    vq->longest = (uint16_t)(t.longest < CHAIN_AHEAD ? t.longest : CHAIN_AHEAD);
    vq->taken_map = map;
    vq->n_taken = (uint16_t)n;
    vq->last_avail = (uint16_t)(vq->last_avail + n);
    return b->n;
}

void split_rx_complete(struct virtq *vq, const struct virtq_map *map)
{
    const unsigned n = vq->n_taken;

    /* 2.7.9: one element stands for a batch: in the place of its first, with the head of its last. */
    if (vq->in_order) {
        split_put_used(vq, map, vq->used_idx, vq->taken[n - 1], 0);
    } else {
        for (unsigned i = 0; i < n; i++)
            split_put_used(vq, map, (uint16_t)(vq->used_idx + i), vq->taken[i], 0);
    }
    vq->n_taken = 0;
    split_publish(vq, map, (uint16_t)n);
}
