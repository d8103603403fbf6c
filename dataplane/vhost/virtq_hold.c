/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_hold.c - see virtq_hold.h.
 */
#include "vhost/virtq_hold.h"

#include <stdlib.h>

struct virtq_hold *virtq_hold_create(uint32_t ring_size)
{
    /* A driver has a ring's worth of buffers at most; who claims more stops at the burst that finds no room. */
    const uint32_t size = ring_size + BURST_MAX;
    struct virtq_hold *const h = calloc(1, sizeof(*h) + size * sizeof(h->buf[0]));

    if (!h)
        return NULL;
    h->limit = ring_size / 2;
    h->size = size;
    return h;
}

void virtq_hold_destroy(struct virtq_hold *h)
{
    if (!h)
        return;
    for (uint32_t i = 0; i < h->n_bursts; i++)
        hold_end(&h->burst[(h->burst_first + i) % HELD_BURSTS].hold);
    free(h);
}

void virtq_hold_offer(const struct virtq *vq, struct burst *b)
{
    const struct virtq_hold *const h = vq->hold;

    if (vq->n_held + vq->n_taken > h->limit || h->n_bursts == HELD_BURSTS)
        return;
    for (uint32_t i = 0; i < b->n; i++)
        b->frame[i].hold = &b->hold;
}

/* The n oldest buffers go back, as if they had just been taken. */
static void hand_back(struct virtq *vq, const struct virtq_map *map, uint32_t n)
{
    struct virtq_hold *const h = vq->hold;

    while (n) {
        const uint32_t part = n < BURST_MAX ? n : BURST_MAX;
        uint32_t total = 0;

        for (uint32_t i = 0; i < part; i++) {
            const uint32_t at = (h->first + i) % h->size;

            vq->taken[i] = h->buf[at].head;
            vq->taken_len[i] = h->buf[at].len;
            total += h->buf[at].len;
        }
        vq->n_taken = (uint16_t)part;
        if (map->packed)
            packed_rx_complete(vq, map, total);
        else
            split_rx_complete(vq, map);
        h->first = (h->first + part) % h->size;
        vq->n_held -= part;
        n -= part;
    }
}

bool virtq_hold_release(struct virtq *vq, const struct virtq_map *map)
{
    struct virtq_hold *const h = vq->hold;
    uint32_t n = 0;

    while (h->n_bursts && hold_is_over(&h->burst[h->burst_first].hold)) {
        hold_end(&h->burst[h->burst_first].hold);
        n += h->burst[h->burst_first].n;
        h->burst_first = (h->burst_first + 1) % HELD_BURSTS;
        h->n_bursts--;
    }
    if (n)
        hand_back(vq, map, n);
    return vq->n_held + BURST_MAX <= h->size;
}

void virtq_hold_keep(struct virtq *vq, const struct virtq_map *map, struct burst *b)
{
    struct virtq_hold *const h = vq->hold;
    const uint32_t n = vq->n_taken;
    uint32_t last;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = (h->first + vq->n_held + i) % h->size;

        h->buf[at].head = vq->taken[i];
        h->buf[at].len = map->packed ? vq->taken_len[i] : 1;
    }
    vq->n_held += n;
    vq->n_taken = 0;
    /* What waits for nothing of its own goes back with what is before it. */
    if (b->hold.n || h->n_bursts == 0) {
        last = (h->burst_first + h->n_bursts++) % HELD_BURSTS;
        h->burst[last].hold = b->hold;
        h->burst[last].n = 0;
        b->hold.n = 0;
    } else {
        last = (h->burst_first + h->n_bursts - 1) % HELD_BURSTS;
    }
    h->burst[last].n += n;
    (void)virtq_hold_release(vq, map);
}

void virtq_hold_settle(struct virtq *vq, const struct virtq_map *map)
{
    struct virtq_hold *const h = vq->hold;

    for (uint32_t i = 0; i < h->n_bursts; i++)
        hold_settle(&h->burst[(h->burst_first + i) % HELD_BURSTS].hold);
    (void)virtq_hold_release(vq, map);
}
