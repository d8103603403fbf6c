/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_io.c - a worker's way to a ring: is it up, whose turn is it, and which
 * layout has it.  Worker thread.
 *
 * The layout is a property of the map, not of the ring: only who has found a
 * map may look at anything else (virtq.h).
 */
#include "vhost/virtq_hold.h"

/* Idle looks after a delivery, each about 0.1 us, in which a driver takes the frame and puts a new buffer there. */
#define WARM_AFTER 6

/* acquire: the map was filled before it was published */
static inline const struct virtq_map *map_of(const struct virtq *vq)
{
    return atomic_load_explicit(&vq->map, memory_order_acquire);
}

static inline bool is_enabled(const struct virtq *vq)
{
    return atomic_load_explicit(&vq->enabled, memory_order_relaxed);
}

unsigned virtq_rx_burst(struct virtq *vq, struct burst *b)
{
    const struct virtq_map *const map = map_of(vq);
    bool has_room = true;
    unsigned n;

    b->n = 0;
    b->n_iov = 0;
    b->hold.n = 0;
    /* What waits goes back whatever the ring's state, so that it can come to rest. */
    if (map && __builtin_expect(vq->n_held != 0, 0))
        has_room = virtq_hold_release(vq, map);
    /* A stopped ring belongs to the control thread, its positions included. */
    if (!map || !is_enabled(vq) || port_is_broken(vq->port) || !has_room)
        return 0;
    n = map->packed ? packed_rx_burst(vq, map, b) : split_rx_burst(vq, map, b);
    if (__builtin_expect(atomic_load_explicit(&vq->lends, memory_order_relaxed), 0))
        virtq_hold_offer(vq, b);
    return n;
}

void virtq_rx_complete(struct virtq *vq, struct burst *b)
{
    const struct virtq_map *const map = vq->taken_map;

    if (vq->n_taken == 0)
        return;
    if (__builtin_expect(vq->n_held != 0 || b->hold.n != 0, 0))
        virtq_hold_keep(vq, map, b);
    else if (map->packed)
        packed_rx_complete(vq, map, 0);
    else
        split_rx_complete(vq, map);
}

/* The ring is ours for a burst. */
static unsigned deliver(struct virtq *vq, struct frame *const *frames, unsigned n)
{
    const struct virtq_map *const map = map_of(vq);

    if (__builtin_expect(!map || !is_enabled(vq), 0)) {
        vq->count->drop[DROP_link_down] += n;
        return 0;
    }
    atomic_store_explicit(&vq->warm_in, WARM_AFTER, memory_order_relaxed);
    return map->packed ? packed_tx_burst(vq, map, frames, n) : split_tx_burst(vq, map, frames, n);
}

unsigned virtq_tx_burst(struct virtq *vq, struct frame *const *frames, unsigned n)
{
    unsigned delivered;

    if (!vq->port->shared)
        return deliver(vq, frames, n);
    spin_lock(&vq->lock);
    delivered = deliver(vq, frames, n);
    spin_unlock(&vq->lock);
    return delivered;
}

static void warm(struct virtq *vq)
{
    const struct virtq_map *const map = map_of(vq);

    if (map && !map->packed && is_enabled(vq) && !port_is_broken(vq->port))
        split_warm(vq, map);
}

void virtq_idle(struct virtq *vq)
{
    const uint8_t left = atomic_load_explicit(&vq->warm_in, memory_order_relaxed);

    if (left == 0)
        return;
    atomic_store_explicit(&vq->warm_in, (uint8_t)(left - 1), memory_order_relaxed);
    if (left > 1)
        return;
    if (!vq->port->shared) {
        warm(vq);
    } else if (spin_try_lock(&vq->lock)) {
        warm(vq);
        spin_unlock(&vq->lock);
    }
}

bool virtq_arm(struct virtq *vq)
{
    const struct virtq_map *const map = map_of(vq);

    /* Nobody tells when an adapter has read what waits: the worker stays awake for it. */
    if (map && vq->n_held != 0 && !port_is_broken(vq->port)) {
        (void)virtq_hold_release(vq, map);
        if (vq->n_held != 0)
            return true;
    }
    if (!map || !is_enabled(vq) || port_is_broken(vq->port))
        return false;
    return map->packed ? packed_arm(vq, map) : split_arm(vq, map);
}

void virtq_disarm(struct virtq *vq)
{
    const struct virtq_map *const map = map_of(vq);

    if (!map)
        return;
    if (map->packed)
        packed_disarm(vq, map);
    else
        split_disarm(vq, map);
}
