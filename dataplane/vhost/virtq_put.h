/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_put.h - frames into a guest's receive ring, as far as the layout of the
 * ring does not matter: the burst's state, the front of each frame, and the
 * fast path for frames that fit the first, direct descriptor of the next
 * chain; virtq_merge.c has the general one.  Included by the two layouts'
 * sources and virtq_merge.c only.  Worker thread, under the ring's lock when
 * the switch has more than one worker.
 */
#ifndef USWITCH_VIRTQ_PUT_H
#define USWITCH_VIRTQ_PUT_H

#include <string.h>

#include "vhost/virtq.h"
#include "vhost/virtq_desc.h"
#include "vnet.h"

#define NUM_BUFFERS_OFFSET 10
/* Room for header, addresses and tag: 28 bytes at most. */
#define FRONT_SIZE 32

/**
 * struct slot - a chain that is next in turn, looked at in advance (worker's stack)
 * @dst: where its first descriptor's buffer starts
 * @room: bytes that follow @dst contiguously; 0: only put_chains() can tell
 * @head: its head; packed: its buffer id
 * @d: its first descriptor, copied once
 */
struct slot {
    uint8_t *dst;
    uint32_t room;
    uint16_t head;
    struct desc d;
};

/**
 * struct put - the burst being delivered (worker's stack)
 * @vq: ring
 * @map: its map, for the whole burst
 * @hint: region that was hit last
 * @avail: chains known to be available from last_avail on; packed: no limit, since there is no count
 * @used: chains consumed
 * @first: position (from last_avail) of slot[0]
 * @slots: slots filled
 * @walked: steps along chains so far
 * @known: a frame that needs more bytes than this cannot be placed before a chain is consumed; see @why
 * @why: what to count for it
 * @slot: chains from @first on
 */
struct put {
    struct virtq *vq;
    const struct virtq_map *map;
    const struct guest_region *hint;
    unsigned avail;
    unsigned used;
    unsigned first;
    unsigned slots;
    uint32_t walked;
    uint32_t known;
    enum drop_reason why;
    struct slot slot[BURST_MAX];
};

/* The virtio-net header (5.1.6.1), addresses and egress tag into @out; returns their length. */
static inline uint32_t put_write_front(const struct virtq *vq, const struct frame *f, uint8_t out[FRONT_SIZE])
{
    const uint32_t hdr_len = vq->hdr_len;
    uint8_t *p = out + hdr_len;

    memset(out, 0, VNET_WIRE_LEN_MRG);
    if (__builtin_expect((f->vnet.flags | f->vnet.gso_type) != 0, 0)) {
        struct vnet v = f->vnet;

        if (!(vq->offloads & OFFLOAD_CSUM))
            v.flags = 0; /* DATA_VALID would be news to this guest; NEEDS_CSUM does not get here */
        vnet_format(&v, f->out_vid == US_VID_UNTAGGED ? 0 : VLAN_TAG_LEN, out);
    }
    if (hdr_len == VNET_WIRE_LEN_MRG)
        out[NUM_BUFFERS_OFFSET] = 1;
    memcpy(p, f->hdr, 2 * ETH_ALEN);
    p += 2 * ETH_ALEN;
    if (f->out_vid != US_VID_UNTAGGED) {
        const uint16_t tci = f->pcp | f->out_vid;

        p[0] = ETHERTYPE_VLAN >> 8;
        p[1] = ETHERTYPE_VLAN & 0xff;
        p[2] = (uint8_t)(tci >> 8);
        p[3] = (uint8_t)tci;
        p += VLAN_TAG_LEN;
    }
    return (uint32_t)(p - out);
}

/*
 * The general path: a frame that the fast path left (no chains looked at, or not a matter of one descriptor) into
 * as many chains of any shape as it takes.  Returns DROP_none, or why not; malformed chains are consumed then,
 * good ones are not.
 */
typedef enum drop_reason put_frame(struct put *t, const struct frame *f);
put_frame split_put_frame, packed_put_frame;

/* A burst begins; the layout's source says how many chains there are. */
static inline void put_begin(struct put *t, struct virtq *vq, const struct virtq_map *map)
{
    t->vq = vq;
    t->map = map;
    t->hint = virtq_region_hint(vq, map->mem);
    t->avail = t->used = t->first = t->slots = 0;
    t->walked = 0;
    t->known = UINT32_MAX;
    t->why = DROP_ring_full;
}

/*
 * Slots that are left, and the first of them.  More are used than there are if the last frame took chains that had
 * not been looked at; none is left then.
 */
static inline unsigned put_slots(const struct put *t)
{
    const unsigned done = t->used - t->first;

    return done < t->slots ? t->slots - done : 0;
}

static inline const struct slot *put_slot(const struct put *t)
{
    return t->slot + t->slots - put_slots(t);
}

/**
 * slot_fill() - look at the first descriptor of a chain
 * @s: slot; its head or id is the caller's
 * @map: ring
 * @r: the region hit last; updated
 * @d: the descriptor, copied
 *
 * Prefetches what put_single() will write.
 */
static inline void slot_fill(struct slot *s, const struct virtq_map *map, const struct guest_region **r,
                             const struct desc *d)
{
    uint64_t off = d->addr - (*r)->gpa;

    s->room = 0;
    s->d = *d;
    if (__builtin_expect((d->flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) != VRING_DESC_F_WRITE, 0))
        return;
    if (__builtin_expect(off >= (*r)->size, 0)) {
        const struct guest_region *const hit = guest_mem_find(map->mem, d->addr);

        if (!hit)
            return;
        *r = hit;
        off = d->addr - (*r)->gpa;
    }
    s->dst = (*r)->host + guest_index_nospec(off, (*r)->size);
    s->room = d->len <= (*r)->size - off ? d->len : (uint32_t)((*r)->size - off);
    guest_prefetch_write(s->dst);
    guest_prefetch_write(s->dst + 64);
    if (__builtin_expect(map->log != NULL, 0))
        s->room = 0; /* the general path records what it writes */
}

static inline uint32_t tag_len(const struct frame *f)
{
    return f->out_vid == US_VID_UNTAGGED ? 0 : VLAN_TAG_LEN;
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
        const uint32_t front = put_write_front(vq, f, out);

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

static inline void tally_add(struct tally *sum, const struct tally *more)
{
    sum->frames += more->frames;
    sum->bytes += more->bytes;
    sum->flooded += more->flooded;
    sum->gso += more->gso;
}

/* What the burst below asks of a layout; constant arguments of an inlined function, so never called by pointer. */
typedef bool put_look_ahead(struct put *t, unsigned want);
typedef unsigned put_run(struct put *t, struct frame *const *frames, unsigned n, struct tally *sum);

/**
 * put_burst() - all frames of a burst, the ring being up
 * @t: burst
 * @frames: frames, in order
 * @n: how many
 * @look_ahead: fills t->slot with the next @want chains, if there are so many; false when one breaks the port
 * @run: puts frames into slots, up to the first that does not fit one; returns frames done
 * @general: puts a frame that @run left
 *
 * Return: frames delivered.
 */
static inline __attribute__((always_inline)) unsigned put_burst(struct put *t, struct frame *const *frames, unsigned n,
                                                                put_look_ahead *look_ahead, put_run *run,
                                                                put_frame *general)
{
    struct us_queue_counters *const count = t->vq->count;
    struct tally sum = { 0 };
    unsigned i = 0;

    while (i < n) {
        enum drop_reason why;

        if (put_slots(t) < t->vq->merged && t->used < t->avail && !look_ahead(t, (n - i) * t->vq->merged)) {
            count->drop[DROP_broken] += n - i;
            break;
        }
        i += run(t, &frames[i], n - i, &sum);
        if (i == n)
            break;
        why = general(t, frames[i]);
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

#endif /* USWITCH_VIRTQ_PUT_H */
