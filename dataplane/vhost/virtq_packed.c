/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_packed.c - a packed ring apart from its bursts: where it starts, also
 * after a killed process, and asking the driver for kicks (virtio 1.2, 2.8.14).
 */
#include "vhost/virtq_packed.h"

#include <errno.h>

/* Our event suppression is one word, so the driver never sees half of it. */
static void ask(const struct virtq_map *map, uint16_t pos, uint32_t flags)
{
    guest_store32(&map->device->state, flags << 16 | pos);
    if (__builtin_expect(map->log != NULL, 0))
        dirty_log_mark(map->log, map->device_gpa, sizeof(map->device->state));
}

void packed_mark_used(const struct virtq *vq, const struct virtq_map *map, uint16_t end, uint32_t n)
{
    const uint32_t size = vq->mask + 1u, behind = end & PACKED_INDEX;
    const uint32_t tail = n < behind ? n : behind; /* the rest lies at the end of the turn before */
    const uint64_t desc = sizeof(map->ring[0]);

    dirty_log_mark(map->log, map->desc_gpa + (behind - tail) * desc, tail * desc);
    dirty_log_mark(map->log, map->desc_gpa + (size - (n - tail)) * desc, (n - tail) * desc);
}

void packed_mark_ring(const struct virtq *vq, const struct virtq_map *map)
{
    packed_mark_used(vq, map, 0, vq->mask + 1u);
    dirty_log_mark(map->log, map->device_gpa, sizeof(*map->device));
}

static void want_kick(const struct virtq *vq, const struct virtq_map *map)
{
    ask(map, vq->last_avail, vq->event_idx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE);
}

static bool is_avail(const struct virtq_map *map, uint16_t pos)
{
    struct desc d;

    return packed_load(map, pos, &d);
}

/*
 * A frame in several buffers whose first one was not handed back yet: the driver has seen none, and what lay in
 * the others' descriptors is lost.  They go back empty, which a driver takes for frames that are too short; the
 * first of them last, so that whoever is killed here is followed by one who does the same.
 */
static void hand_back_empty(const struct virtq_map *map, uint16_t from, uint32_t n, uint32_t size)
{
    while (n--) {
        const uint16_t pos = packed_add(from, n, size);
        /* The id is where a used descriptor has it, too; it is the driver's. */
        const uint64_t state = guest_load64_acquire(&map->ring[pos & PACKED_INDEX].state);

        packed_put_used(map, pos, (uint16_t)(state >> 32), 0);
    }
}

/* Where a killed process stopped handing back. The state page may be damaged: nothing in it is trusted. */
static int resume(const struct virtq *vq, const struct virtq_map *map, uint16_t *out)
{
    const uint64_t burst = __atomic_load_n(&vq->state->burst, __ATOMIC_RELAXED);
    const uint16_t from = (uint16_t)burst, to = (uint16_t)(burst >> 16), step = (uint16_t)(burst >> 32);
    const uint32_t size = vq->mask + 1u;
    uint32_t left;

    if ((from & PACKED_INDEX) >= size || (to & PACKED_INDEX) >= size)
        return -EINVAL;
    left = packed_distance(from, to, size);
    if (left > size || (burst & PACKED_WHOLE ? step > 1 : step == 0 || left % step))
        return -EINVAL;
    *out = to;
    if (burst & PACKED_WHOLE) {
        if (!is_avail(map, from))
            return 0;
        if (step == 0)
            return -EINVAL; /* buffers of several descriptors: how many each had is lost */
        hand_back_empty(map, from, left, size);
        return 0;
    }
    for (uint16_t pos = from; left; left -= step, pos = packed_add(pos, step, size)) {
        if (is_avail(map, pos)) {
            *out = pos;
            return 0;
        }
    }
    return 0;
}

int packed_reset(struct virtq *vq, const struct virtq_map *map, uint32_t base)
{
    uint16_t pos = (uint16_t)base;

    if (base == US_BASE_FROM_USED) {
        const int rc = resume(vq, map, &pos);

        if (rc)
            return rc;
    }
    if ((pos & PACKED_INDEX) > vq->mask)
        return -EINVAL;
    vq->last_avail = vq->used_idx = pos;
    packed_begin(vq, pos, pos, 1, 0);
    vq->region = 0;
    /*
     * A TX ring starts armed, since its worker may be asleep.  An RX ring is looked at when there is
     * something to deliver, and never asks.
     */
    vq->armed = virtq_is_tx(vq);
    if (vq->armed)
        want_kick(vq, map);
    else
        ask(map, 0, RING_EVENT_FLAGS_DISABLE);
    guest_fence(); /* [N] whoever looks at the ring after publication sees kicks that were not asked for before */
    return 0;
}

bool packed_arm(struct virtq *vq, const struct virtq_map *map)
{
    want_kick(vq, map);
    vq->armed = true;
    guest_fence(); /* [N] */
    return is_avail(map, vq->last_avail);
}

void packed_disarm(struct virtq *vq, const struct virtq_map *map)
{
    if (vq->armed)
        ask(map, 0, RING_EVENT_FLAGS_DISABLE);
    vq->armed = false;
}
