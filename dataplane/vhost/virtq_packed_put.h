/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_packed_put.h - what the two halves of the way into a packed receive
 * ring share: chains that are filled and not handed back yet.  The ring's
 * last_avail is the next chain to fill, its used_idx the next to hand back.
 * Included by virtq_packed_tx.c and virtq_packed_merge.c only.
 */
#ifndef USWITCH_VIRTQ_PACKED_PUT_H
#define USWITCH_VIRTQ_PACKED_PUT_H

#include "vhost/virtq_packed.h"
#include "vhost/virtq_put.h"

/**
 * struct packed_put - the burst being delivered (worker's stack)
 * @t: what both layouts have, first
 * @back: descriptors handed back so far; no difference of positions, since a driver may offer them again meanwhile
 * @n: chains of one descriptor that are filled, from used_idx to last_avail
 * @filled: them, used, but for the bits of layout
 */
struct packed_put {
    struct put t;
    uint32_t back;
    unsigned n;
    uint64_t filled[BURST_MAX];
};

/* Descriptors that can be looked at: the ring but for what is in flight. */
static inline uint32_t packed_room(const struct virtq *vq)
{
    const uint32_t size = vq->mask + 1u;

    return size - packed_distance(vq->used_idx, vq->last_avail, size);
}

/* Hand back what is filled. */
static inline void packed_flush(struct packed_put *p)
{
    struct virtq *const vq = p->t.vq;

    if (p->n == 0)
        return;
    packed_put_singles(vq, p->t.map, p->filled, p->n);
    p->back += p->n;
    p->n = 0;
}

#endif /* USWITCH_VIRTQ_PACKED_PUT_H */
