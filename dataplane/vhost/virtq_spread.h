/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_spread.h - a frame into several mergeable buffers (virtio 1.2,
 * 5.1.6.4), the fast path: all of them were looked at in advance, each is one
 * direct descriptor inside a region.  How many it takes is known before the
 * first byte is written, so nothing is mended afterwards.  Included by
 * virtq_merge.c and virtq_packed_merge.c, which have the general way.  Worker thread,
 * under the ring's lock when the switch has more than one worker.
 */
#ifndef USWITCH_VIRTQ_SPREAD_H
#define USWITCH_VIRTQ_SPREAD_H

#include "vhost/virtq_put.h"

#define WARM_LINES 8

/* Where the next byte goes: the rest of a buffer, and the buffers behind it. */
struct spread {
    const struct slot *s;
    uint8_t *dst;
    size_t left;
};

/* The beginning of what is copied next: the processor's own look-ahead ends with a page. */
static inline void warm(const uint8_t *p)
{
    for (unsigned line = 0; line < WARM_LINES; line++)
        guest_prefetch(p + (size_t)line * 64);
}

/* Whoever calls has added up that the buffers suffice. */
static inline void spread_copy(struct spread *to, const uint8_t *src, size_t len)
{
    while (len) {
        size_t part;

        if (to->left == 0) {
            to->s++;
            to->dst = to->s->dst;
            to->left = to->s->room;
        }
        part = len < to->left ? len : to->left;
        guest_copy(to->dst, src, part);
        to->dst += part;
        to->left -= part;
        src += part;
        len -= part;
    }
}

/**
 * spread_frame() - fill as many buffers as a frame takes
 * @vq: ring
 * @s: chains that are next in turn
 * @n: how many were looked at
 * @f: the frame
 * @need: its bytes with virtio-net header and tag
 *
 * Return: how many, all but the last of them full; 0: these do not suffice, or one is no matter for this path, or
 * the ring is not mergeable.
 */
static inline unsigned spread_frame(const struct virtq *vq, const struct slot *s, unsigned n, const struct frame *f,
                                    uint32_t need)
{
    uint8_t front[FRONT_SIZE];
    uint64_t room = 0;
    struct spread to;
    uint32_t len;
    unsigned used;

    if (!vq->mergeable)
        return 0;
    for (used = 0; used < n && room < need; used++) {
        /* Not looked at to its end, or to the border of a region only. */
        if (s[used].room == 0 || s[used].room != s[used].d.len || (s[used].d.flags & VRING_DESC_F_NEXT))
            return 0;
        room += s[used].room;
    }
    if (room < need || s[0].room < FRONT_SIZE) /* 5.1.6.4.1: the header is never split */
        return 0;
    len = put_write_front(vq, f, front);
    front[NUM_BUFFERS_OFFSET] = (uint8_t)used;
    front[NUM_BUFFERS_OFFSET + 1] = (uint8_t)(used >> 8);
    guest_copy_short(s[0].dst, front, len);
    to = (struct spread){ .s = s, .dst = s[0].dst + len, .left = s[0].room - len };
    spread_copy(&to, f->hdr + 2 * ETH_ALEN, f->hdr_len - 2 * ETH_ALEN);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        if (i + 1 < f->n_iov)
            warm(f->iov[i + 1].iov_base);
        spread_copy(&to, f->iov[i].iov_base, f->iov[i].iov_len);
    }
    return used;
}

#endif /* USWITCH_VIRTQ_SPREAD_H */
