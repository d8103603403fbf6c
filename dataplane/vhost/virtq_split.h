/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split.h - the words of a split ring (virtio 1.2, 2.7): how many
 * entries are available, which head comes next, publishing the used index,
 * and whether the other side wants to hear of it.  Included by the split_*
 * sources only; everything is inline because it runs once a frame or burst.
 *
 * Memory order, both directions, once a burst:
 *   [A] split_avail() loads avail->idx with acquire; the driver's half is its
 *       barrier between filling descriptors and storing avail->idx.
 *   [U] split_publish() stores used->idx with release; the driver's half is
 *       its load of used->idx before it reads used elements and buffers.
 *   [N] a full fence between storing used->idx and reading what the driver
 *       wrote about notifications (and the same in split_arm()); the driver
 *       has the mirror image.  Without it both sides could go to sleep.
 */
#ifndef USWITCH_VIRTQ_SPLIT_H
#define USWITCH_VIRTQ_SPLIT_H

#include "vhost/virtq.h"
#include "vhost/virtq_desc.h"

static inline struct desc split_desc_load(const struct vring_desc *d)
{
    return (struct desc){
        .addr = guest_load64(&d->addr),
        .len = guest_load32(&d->len),
        .flags = guest_load16(&d->flags),
        .next = guest_load16(&d->next),
    };
}

/* used_event: behind the avail ring, written by the driver. */
static inline const le16 *split_used_event(const struct virtq *vq, const struct virtq_map *map)
{
    return &map->avail->ring[vq->mask + 1u];
}

/* avail_event: behind the used ring, written by us. */
static inline le16 *split_avail_event(const struct virtq *vq, const struct virtq_map *map)
{
    return (le16 *)&map->used->ring[vq->mask + 1u];
}

/**
 * split_avail() - entries the guest made available and we did not take
 * @vq: ring
 * @map: its map
 * @want: do not look at the guest's index while this many are known
 *
 * The index never goes back (2.7.6.1: what was made available stays so); who takes a buffer back could
 * otherwise make us count further than there are entries.
 *
 * Return: 0 .. ring size; 0 also when the claimed index breaks the port.
 */
static inline unsigned split_avail(struct virtq *vq, const struct virtq_map *map, unsigned want)
{
    const uint16_t known = (uint16_t)(vq->avail_idx - vq->last_avail);
    uint16_t n = known;

    if (n < want) {
        const uint16_t claimed_idx = guest_load16_acquire(&map->avail->idx); /* [A] */

        n = (uint16_t)(claimed_idx - vq->last_avail);
        if (__builtin_expect(n < known || n > vq->mask + 1u, 0)) {
            port_break(vq->port, vq->index, BREAK_avail_index, claimed_idx);
            return 0;
        }
        vq->avail_idx = claimed_idx;
    }
    return n;
}

/**
 * split_head() - head of the chain at a position of the avail ring
 * @vq: ring
 * @map: its map
 * @pos: avail index, free running
 * @head: a descriptor index inside the ring
 *
 * Return: false when the claimed head breaks the port.
 */
static inline bool split_head(struct virtq *vq, const struct virtq_map *map, uint16_t pos, uint16_t *head)
{
    const uint16_t claimed_head = guest_load16(&map->avail->ring[pos & vq->mask]);

    if (__builtin_expect(claimed_head > vq->mask, 0)) {
        port_break(vq->port, vq->index, BREAK_avail_head, claimed_head);
        return false;
    }
    *head = claimed_head & vq->mask; /* no effect, except on a processor that guesses */
    return true;
}

/* Fill a used element; not visible to the driver before split_publish(). */
static inline void split_fill_used(struct vring_used_elem *e, uint16_t head, uint32_t len)
{
    guest_store32(&e->id, head);
    guest_store32(&e->len, len);
}

static inline void split_put_used(const struct virtq *vq, const struct virtq_map *map, uint16_t pos, uint16_t head,
                                  uint32_t len)
{
    split_fill_used(&map->used->ring[pos & vq->mask], head, len);
}

/* 2.7.7.2: did the index pass the event index on its way from old to new? */
static inline bool split_need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/*
 * Record used elements at n positions from pos on / one of the used ring's other words.  Only with a log; out of
 * line, since the burst pays for nothing but the question.
 */
void split_mark_elements(const struct virtq *vq, const struct virtq_map *map, uint16_t pos, uint16_t n);
void split_mark_word(const struct virtq *vq, const struct virtq_map *map, const le16 *word);

/**
 * split_publish() - hand n chains back, in the order in which they were taken; signal if wanted
 * @vq: ring; its last_avail already counts them
 * @map: the map their used elements were written by
 * @n: chains, > 0
 */
static inline void split_publish(struct virtq *vq, const struct virtq_map *map, uint16_t n)
{
    const uint16_t old_idx = vq->used_idx, new_idx = (uint16_t)(old_idx + n);
    bool wanted;

    if (__builtin_expect(map->log != NULL, 0))
        split_mark_elements(vq, map, old_idx, n);
    vq->used_idx = new_idx;
    /* The state page first: whoever takes over must not be behind what the guest saw. */
    vq->state->last_avail = vq->last_avail;
    vq->state->used_idx = new_idx;
    guest_store16_release(&map->used->idx, new_idx); /* [U] */
    guest_fence();                                   /* [N] */
    if (__builtin_expect(map->log != NULL, 0))
        split_mark_word(vq, map, &map->used->idx);
    if (vq->event_idx)
        wanted = split_need_event(guest_load16(split_used_event(vq, map)), new_idx, old_idx);
    else
        wanted = !(guest_load16(&map->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    if (wanted)
        virtq_signal(vq);
}

#endif /* USWITCH_VIRTQ_SPLIT_H */
