/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split_tx.c - puts frames into a guest's receive ring (split).  Worker
 * thread; under the ring's lock when the switch has more than one worker.
 *
 * As on the other side, a burst goes in passes over heads and descriptors
 * that let the cache misses overlap.  A frame that fits the first, direct
 * descriptor of the next chain is written there; all others go through
 * split_put_chains().
 */
#include "vhost/virtq_split_tx.h"

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
    for (unsigned i = 0; i < n; i++) {
        struct slot *const s = &t->slot[i];
        const struct split_desc d = split_desc_load(&desc[s->head]);
        uint64_t off = d.addr - r->gpa;

        s->d = d;
        s->room = 0;
        if (__builtin_expect((d.flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) != VRING_DESC_F_WRITE, 0))
            continue;
        if (__builtin_expect(off >= r->size, 0)) {
            const struct guest_region *const hit = guest_mem_find(map->mem, d.addr);

            if (!hit)
                continue;
            r = hit;
            off = d.addr - r->gpa;
        }
        s->dst = r->host + guest_index_nospec(off, r->size);
        s->room = d.len <= r->size - off ? d.len : (uint32_t)(r->size - off);
        guest_prefetch_write(s->dst);
        guest_prefetch_write(s->dst + 64);
    }
    t->hint = r;
    t->slots = n;
    return true;
}

/* The fast path: everything fits at dst. Untagged frames without offload request need no detour. */
static inline void put_single(const struct virtq *vq, uint32_t hdr_len, uint8_t *dst, const struct frame *f)
{
    static const uint8_t plain[VNET_WIRE_LEN_MRG] = { [NUM_BUFFERS_OFFSET] = 1 };
    uint32_t hdr_done = 0;

    if (__builtin_expect((f->vnet.flags | f->vnet.gso_type) == 0 && f->out_vid == US_VID_UNTAGGED, 1)) {
        if (__builtin_expect(hdr_len == VNET_WIRE_LEN_MRG, 1))
            guest_copy_const(dst, plain, VNET_WIRE_LEN_MRG);
        else
            guest_copy_const(dst, plain, VNET_WIRE_LEN);
        dst += hdr_len;
    } else {
        uint8_t out[FRONT_SIZE];
        const uint32_t front = split_write_front(vq, f, out);

        guest_copy_short(dst, out, front);
        dst += front;
        hdr_done = 2 * ETH_ALEN;
    }
    guest_copy(dst, f->hdr + hdr_done, f->hdr_len - hdr_done);
    dst += f->hdr_len - hdr_done;
    for (uint32_t i = 0; i < f->n_iov; i++) {
        guest_copy(dst, f->iov[i].iov_base, f->iov[i].iov_len);
        dst += f->iov[i].iov_len;
    }
}

static inline uint32_t tag_len(const struct frame *f)
{
    return f->out_vid == US_VID_UNTAGGED ? 0 : VLAN_TAG_LEN;
}

/**
 * struct tally - what a burst delivered (worker's stack)
 * @frames: frames
 * @bytes: of them, tags included
 * @flooded: flood copies among them
 * @gso: segmentation requests among them
 */
struct tally {
    uint64_t frames, bytes, flooded, gso;
};

static inline void tally_frame(struct tally *sum, const struct frame *f)
{
    sum->frames++;
    sum->bytes += f->len + tag_len(f);
    sum->flooded += f->flooded;
    sum->gso += f->vnet.gso_type != VNET_GSO_NONE;
}

/*
 * The fast path: frames that fit the chains looked at in advance, up to the first that does not.  Everything
 * it counts with is in registers, since the barriers of the copies spoil what is not.  Returns frames done.
 */
static inline unsigned put_run(struct put *t, struct frame *const *frames, unsigned n, struct tally *sum)
{
    const struct virtq *const vq = t->vq;
    struct vring_used_elem *const ring = t->map->used->ring;
    const uint32_t hdr_len = vq->hdr_len, mask = vq->mask;
    /* More than there are if the last frame took chains that had not been looked at; none are left then. */
    const unsigned done = t->used - t->first < t->slots ? t->used - t->first : t->slots;
    const struct slot *s = t->slot + done;
    const unsigned left = t->slots - done, most = n < left ? n : left;
    uint32_t used_idx = vq->used_idx + t->used;
    struct tally got = { 0 };
    unsigned i;

    for (i = 0; i < most; i++, s++, used_idx++) {
        const struct frame *const f = frames[i];
        const uint32_t need = hdr_len + f->len + tag_len(f);

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
        sum->frames += got.frames;
        sum->bytes += got.bytes;
        sum->flooded += got.flooded;
        sum->gso += got.gso;
    }
    return i;
}

/* A frame that put_run() left: no chains looked at, or not a matter of one descriptor. */
static __attribute__((noinline)) enum drop_reason put_frame(struct put *t, const struct frame *f)
{
    if (t->used == t->avail && !split_more_avail(t))
        return DROP_ring_full;
    return split_put_chains(t, f, t->vq->hdr_len + f->len + tag_len(f));
}

/* All frames of a burst, the ring being up. */
static unsigned put_burst(struct put *t, struct frame *const *frames, unsigned n)
{
    struct us_queue_counters *const count = t->vq->count;
    struct tally sum = { 0 };
    unsigned i = 0;

    while (i < n) {
        enum drop_reason why;

        if (t->used - t->first >= t->slots && t->used < t->avail && !look_ahead(t, n - i)) {
            count->drop[DROP_broken] += n - i;
            break;
        }
        i += put_run(t, &frames[i], n - i, &sum);
        if (i == n)
            break;
        why = put_frame(t, frames[i]);
        if (why)
            count->drop[why]++;
        else
            tally_frame(&sum, frames[i]);
        i++;
    }
    count->frames += sum.frames;
    count->bytes += sum.bytes;
    count->flooded += sum.flooded;
    count->gso += sum.gso;
    count->bursts++;
    return (unsigned)sum.frames;
}

/* False: the port is broken, or its avail index just broke it. */
static inline bool put_begin(struct put *t, struct virtq *vq, const struct virtq_map *map, unsigned n)
{
    t->vq = vq;
    t->map = map;
    t->hint = split_region_hint(vq, map->mem);
    t->avail = split_avail(vq, map, n);
    t->used = t->first = t->slots = 0;
    t->walked = 0;
    t->known = UINT32_MAX;
    t->why = DROP_ring_full;
    return !port_is_broken(vq->port);
}

unsigned split_tx_burst(struct virtq *vq, struct frame *const *frames, unsigned n)
{
    const struct virtq_map *map;
    struct put t;
    unsigned delivered = 0;

    if (vq->port->shared)
        spin_lock(&vq->lock);
    /* acquire: the map was filled before it was published */
    map = atomic_load_explicit(&vq->map, memory_order_acquire);
    if (__builtin_expect(!map || !atomic_load_explicit(&vq->enabled, memory_order_relaxed), 0)) {
        vq->count->drop[DROP_link_down] += n;
    } else if (__builtin_expect(!put_begin(&t, vq, map, n), 0)) {
        vq->count->drop[DROP_broken] += n;
    } else {
        delivered = put_burst(&t, frames, n);
        vq->region = (uint16_t)(t.hint - map->mem->region);
        if (t.used) {
            vq->last_avail = (uint16_t)(vq->last_avail + t.used);
            split_publish(vq, map, (uint16_t)t.used);
        }
    }
    if (vq->port->shared)
        spin_unlock(&vq->lock);
    return delivered;
}
