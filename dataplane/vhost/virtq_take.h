/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_take.h - frames out of a guest's transmit ring, as far as the layout
 * of the ring does not matter: descriptors that are copied already become
 * frames of the burst.  Here is the fast path, for frames in one direct
 * descriptor inside one region; virtq_take.c has the general one.  Included
 * by the two layouts' sources and virtq_take.c only.  Worker thread.
 */
#ifndef USWITCH_VIRTQ_TAKE_H
#define USWITCH_VIRTQ_TAKE_H

#include "vhost/virtq.h"
#include "vhost/virtq_desc.h"
#include "vnet.h"

/**
 * struct take - the burst being taken (worker's stack)
 * @vq: ring
 * @map: its map, for the whole burst
 * @b: burst to fill
 * @hint: region that was hit last
 * @max_frame: longest frame without segmentation request, tag not counted
 * @bytes: of the frames so far
 * @walked: steps along chains so far
 * @longest: descriptors of the last chain of several
 */
struct take {
    struct virtq *vq;
    const struct virtq_map *map;
    struct burst *b;
    const struct guest_region *hint;
    uint32_t max_frame;
    uint64_t bytes;
    uint32_t walked;
    uint32_t longest;
};

struct chain; /* virtq_chain.h */

/**
 * struct single - a frame that is one direct descriptor, translated
 * @src: virtio-net header and frame, at least SNAP_SHORT bytes readable behind the header; NULL: it is something
 *      else, for take_chain()
 * @len: bytes of both
 */
struct single {
    const uint8_t *src;
    uint32_t len;
};

/**
 * take_single() - translate a descriptor, if it is a single one of ordinary length
 * @mem: table
 * @hdr_len: of the ring
 * @max_frame: of the port; both apart from struct take, so that they stay in registers
 * @r: the region hit last; updated
 * @d: descriptor, copied
 *
 * Prefetches what take_run() will read.
 */
static inline struct single take_single(const struct guest_mem *mem, uint32_t hdr_len, uint32_t max_frame,
                                        const struct guest_region **r, const struct desc *d)
{
    const uint32_t least = hdr_len + US_FRAME_MIN, readable = hdr_len + SNAP_SHORT;
    const uint32_t span = max_frame + VLAN_TAG_LEN - US_FRAME_MIN;
    const uint32_t need = d->len > readable ? d->len : readable;
    struct single s = { .src = NULL, .len = d->len };
    uint64_t off = d->addr - (*r)->gpa;

    if (__builtin_expect((d->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) == 0 &&
                         d->len - least <= span, 1)) {
        if (__builtin_expect(off >= (*r)->size, 0)) {
            const struct guest_region *const hit = guest_mem_find(mem, d->addr);

            *r = hit ? hit : *r;
            off = d->addr - (*r)->gpa;
        }
        if (__builtin_expect(off < (*r)->size && need <= (*r)->size - off, 1)) {
            s.src = (*r)->host + guest_index_nospec(off, (*r)->size);
            guest_prefetch(s.src);
            guest_prefetch(s.src + 64);
        }
    }
    return s;
}

/* DROP_none, or why a frame is too long: only a segmentation request may exceed the port's maximum. */
enum drop_reason take_check_len(const struct take *t, const struct frame *f);

/**
 * take_vnet() - a frame with offload request in one contiguous buffer
 * @vq: ring
 * @f: the frame, its snapshot SNAP_SHORT bytes or the whole frame
 * @rest: its one scatter entry
 * @src: where the frame begins in guest memory
 * @wire: the virtio-net header, copied
 *
 * The header is validated, and the snapshot made longer, so that the software offloads find all headers in it.
 * Return: DROP_none, or why not.
 */
enum drop_reason take_vnet(const struct virtq *vq, struct frame *f, struct iovec *rest, const uint8_t *src,
                           const uint8_t wire[VNET_WIRE_LEN]);

/**
 * take_chain() - the general path: a chain of any shape becomes the next frame of the burst
 * @t: burst, with room for a frame
 * @d: the chain's head descriptor, copied
 * @pos: packed: its position
 * @c: the walk, as far as it went; who has a packed ring goes on to the chain's end
 *
 * Return: DROP_none, or why not; then the scatter entries it used are given back.
 */
enum drop_reason take_chain(struct take *t, const struct desc *d, uint16_t pos, struct chain *c);

/*
 * The fast path: frames in single descriptors, up to the first one that is not, or the end of the burst's
 * bytes.  Everything it counts with is in registers, since the barriers of the copies spoil what is not.
 * Returns chains consumed.
 */
static inline unsigned take_run(struct take *t, const struct single *s, unsigned n)
{
    struct burst *const b = t->b;
    const struct virtq *const vq = t->vq;
    const uint32_t hdr_len = vq->hdr_len, max_frame = t->max_frame;
    struct frame *f = &b->frame[b->n];
    uint8_t *snap = b->snap[b->n] + HDR_ROOM;
    struct iovec *iov = &b->iov[b->n_iov];
    uint64_t bytes = t->bytes;
    unsigned i;

    for (i = 0; i < n && s[i].src; i++) {
        const uint8_t *const src = s[i].src + hdr_len;
        const uint32_t len = s[i].len - hdr_len, snapped = len < SNAP_SHORT ? len : SNAP_SHORT;
        struct { uint64_t low; uint16_t high; } __attribute__((packed)) wire;
        enum drop_reason why = DROP_none;

        if (__builtin_expect(bytes + len > BURST_BYTES, 0))
            break;
        /* The header once (G3); its num_buffers means nothing in this direction. */
        guest_copy_const(&wire, s[i].src, VNET_WIRE_LEN);
        guest_copy64(snap, src);
        *f = (struct frame){ .hdr = snap, .iov = iov, .hdr_len = snapped, .len = len, .n_iov = len > SNAP_SHORT };
        /* Filled in any case, kept if it is not empty. */
        *iov = (struct iovec){ (void *)(uintptr_t)(src + SNAP_SHORT), len - snapped };
        if (__builtin_expect((wire.low | wire.high) != 0, 0))
            why = take_vnet(vq, f, iov, src, (const uint8_t *)&wire);
        if (__builtin_expect(!why && len > max_frame, 0))
            why = take_check_len(t, f);
        if (__builtin_expect(why != DROP_none, 0)) {
            count_drop_in(vq->port, vq->index / 2, why);
            continue;
        }
        iov += f->n_iov;
        bytes += len;
        snap += sizeof(b->snap[0]);
        f++;
    }
    b->n = (uint32_t)(f - b->frame);
    b->n_iov = (uint32_t)(iov - b->iov);
    t->bytes = bytes;
    return i;
}

#endif /* USWITCH_VIRTQ_TAKE_H */
