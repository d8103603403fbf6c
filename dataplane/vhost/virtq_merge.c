/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_merge.c - frames that do not fit the next buffer of a receive ring: into
 * several of those looked at in advance, or the general way: chains of several
 * descriptors, indirect tables, mergeable buffers (5.1.6.4), buffers over a
 * region border.  Worker thread, under the same lock as the burst.
 *
 * The bytes are streamed into the chains as these are walked, and only then is
 * it decided whether they count: nothing is visible to the guest before the
 * used index moves, and what lies in buffers that were not given back is
 * nobody's business.
 */
#include "vhost/virtq_merge.h"

#include "vhost/virtq_split.h"
#include "vhost/virtq_spread.h"

/* All known chains are used up: look at the guest's index again. True if there are more. */
static bool more_avail(struct put *t)
{
    const unsigned n = split_avail(t->vq, t->map, UINT16_MAX + 1u);

    if (n <= t->avail)
        return false; /* none, or the index broke the port */
    t->avail = n;
    return true;
}

/* The chain at a position from last_avail on: from the slots, or fetched now. */
static bool chain_at(struct put *t, unsigned pos, uint16_t *head, struct desc *d)
{
    if (pos - t->first < t->slots) {
        *head = t->slot[pos - t->first].head;
        *d = t->slot[pos - t->first].d;
        return true;
    }
    if (!split_head(t->vq, t->map, (uint16_t)(t->vq->last_avail + pos), head))
        return false;
    *d = split_desc_load(&t->map->desc[*head]);
    return true;
}

/* Stream up to len bytes of the frame to dst, which is guest memory at gpa. */
static void stream(struct source *s, uint8_t *dst, uint64_t gpa, uint64_t len)
{
    while (len && s->n) {
        const size_t left = s->iov->iov_len - s->off, part = left < len ? left : len;

        /* The field's final value is known when all chains are; remember where it lies. */
        for (unsigned i = 0; i < 2; i++) {
            const uint32_t at = NUM_BUFFERS_OFFSET + i;

            if (at >= s->done && at - s->done < part) {
                s->num_buffers[i] = dst + (at - s->done);
                s->num_gpa[i] = gpa + (at - s->done);
            }
        }
        guest_copy(dst, (const uint8_t *)s->iov->iov_base + s->off, part);
        dst += part;
        gpa += part;
        len -= part;
        s->done += (uint32_t)part;
        s->off += part;
        if (s->off == s->iov->iov_len) {
            s->off = 0;
            s->iov++;
            if (--s->n == 0) {
                s->iov = s->more;
                s->n = s->n_more;
                s->n_more = 0;
            }
        }
    }
}

void merge_begin(struct source *s, const struct virtq *vq, const struct frame *f)
{
    *s = (struct source){ .more = f->iov, .n_more = f->n_iov };
    s->piece[0] = (struct iovec){ s->front, put_write_front(vq, f, s->front) };
    s->piece[1] = (struct iovec){ f->hdr + 2 * ETH_ALEN, f->hdr_len - 2 * ETH_ALEN };
    s->iov = s->piece;
    s->n = 2;
}

static void stream_logged(const struct dirty_log *log, struct source *s, uint8_t *dst, uint64_t gpa, uint64_t len)
{
    const uint32_t before = s->done;

    stream(s, dst, gpa, len);
    if (__builtin_expect(log != NULL, 0))
        dirty_log_mark(log, gpa, s->done - before);
}

enum drop_reason merge_fill(struct put *t, struct source *s, uint32_t need, const struct desc *d, uint16_t pos,
                            struct chain *c, uint32_t *got)
{
    const uint32_t start = s->done;
    enum drop_reason why = chain_first(c, t->vq, t->map->mem, &t->hint, d, pos);

    for (; !why; why = chain_next(c, t->map, &t->hint, &t->walked)) {
        uint64_t addr = c->d.addr, left = c->d.len, span;

        for (; left && s->done < need; addr += span, left -= span) {
            uint8_t *const p = guest_mem_span(t->map->mem, &t->hint, addr, left, &span);

            if (!p)
                return DROP_out_chain;
            stream_logged(t->map->log, s, p, addr, span);
        }
        *got = s->done - start;
        if (s->done == need || !chain_has_next(c))
            return DROP_none;
    }
    return DROP_out_chain;
}

void merge_set_buffers(const struct source *s, const struct dirty_log *log, unsigned chains)
{
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t byte = (uint8_t)(chains >> (8 * i));

        /* Several chains only with the long header, so the field is out; the analyser cannot know. */
        if (!s->num_buffers[i])
            return;
        guest_copy_const(s->num_buffers[i], &byte, 1);
        if (__builtin_expect(log != NULL, 0))
            dirty_log_mark(log, s->num_gpa[i], 1);
    }
}

/* Return chains to the guest empty: the last of them is malformed, and it is in the way of everything behind it. */
static enum drop_reason consume_bad(struct put *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct desc d;
        uint16_t head;

        if (!chain_at(t, t->used, &head, &d))
            return DROP_broken;
        split_put_used(t->vq, t->map, (uint16_t)(t->vq->used_idx + t->used), head, 0);
        t->used++;
    }
    t->known = UINT32_MAX;
    return DROP_out_chain;
}

static enum drop_reason put_chains(struct put *t, const struct frame *f, uint32_t need)
{
    const struct virtq *const vq = t->vq;
    struct source s;
    unsigned chains = 0;

    if (need > t->known)
        return t->why;
    if (t->walked > CHAIN_BURST)
        return DROP_ring_full;
    merge_begin(&s, vq, f);
    while (s.done < need) {
        struct desc d;
        struct chain c;
        uint16_t head;
        uint32_t got = 0;

        if (chains && !vq->mergeable)
            return merge_no_room(t, s.done, DROP_ring_small);
        if (t->used + chains == t->avail && !more_avail(t))
            return merge_no_room(t, s.done, chains > vq->mask ? DROP_ring_small : DROP_ring_full);
        if (!chain_at(t, t->used + chains, &head, &d))
            return DROP_broken;
        chains++;
        /* 5.1.6.4.1: the header is never split over buffers; and an empty chain is no buffer at all. */
        if (merge_fill(t, &s, need, &d, 0, &c, &got) || got == 0 || s.done < vq->hdr_len ||
            (t->walked > CHAIN_BURST && s.done < need))
            return consume_bad(t, chains);
        split_put_used(vq, t->map, (uint16_t)(vq->used_idx + t->used + chains - 1), head, got);
    }
    if (chains > 1)
        merge_set_buffers(&s, t->map->log, chains);
    t->used += chains;
    t->known = UINT32_MAX;
    t->vq->merged = (uint16_t)(chains < BURST_MAX ? chains : BURST_MAX);
    return DROP_none;
}

/* Buffers that were looked at in advance are full now, the last one with what was left. */
static void use_slots(struct put *t, const struct slot *s, unsigned n, uint32_t need)
{
    for (unsigned i = 0; i < n; i++) {
        const uint32_t len = need < s[i].room ? need : s[i].room;

        split_put_used(t->vq, t->map, (uint16_t)(t->vq->used_idx + t->used + i), s[i].head, len);
        need -= len;
    }
    t->used += n;
    t->known = UINT32_MAX;
    t->vq->merged = (uint16_t)n;
}

enum drop_reason split_put_frame(struct put *t, const struct frame *f)
{
    const uint32_t need = t->vq->hdr_len + f->len + tag_len(f);
    const struct slot *const s = put_slot(t);
    const unsigned n = spread_frame(t->vq, s, put_slots(t), f, need);

    if (n) {
        use_slots(t, s, n, need);
        return DROP_none;
    }
    if (t->used == t->avail && !more_avail(t))
        return DROP_ring_full;
    return put_chains(t, f, need);
}
