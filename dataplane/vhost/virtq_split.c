/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split.c - a split ring apart from its bursts: where it starts, and
 * asking the driver for kicks (virtio 1.2, 2.7.7 and 2.7.10).
 */
#include "vhost/virtq_split.h"

void split_reset(struct virtq *vq, const struct virtq_map *map, uint32_t base)
{
    vq->used_idx = guest_load16(&map->used->idx);
    vq->last_avail = base == US_BASE_FROM_USED ? vq->used_idx : (uint16_t)base;
    vq->avail_idx = vq->last_avail;
    vq->region = 0;
    /*
     * A TX ring starts armed, since its worker may be asleep.  An RX ring is looked at when there is
     * something to deliver, and never asks (with EVENT_IDX: once in 65536 buffers, 2.7.10).
     */
    vq->armed = virtq_is_tx(vq);
    guest_store16(&map->used->flags, vq->armed || vq->event_idx ? 0 : VRING_USED_F_NO_NOTIFY);
    if (vq->event_idx)
        guest_store16(split_avail_event(vq, map), vq->armed ? vq->last_avail : (uint16_t)(vq->last_avail - 1));
    guest_fence(); /* [N] whoever looks at the ring after publication sees kicks that were not asked for before */
}

void split_mark_elements(const struct virtq *vq, const struct virtq_map *map, uint16_t pos, uint16_t n)
{
    const uint32_t size = vq->mask + 1u, first = pos & vq->mask;
    const uint32_t to_end = n < size - first ? n : size - first; /* the rest begins at the top again */
    const uint64_t elem = sizeof(map->used->ring[0]);

    dirty_log_mark_used(map->log, vq->index, sizeof(*map->used) + first * elem, to_end * elem);
    dirty_log_mark_used(map->log, vq->index, sizeof(*map->used), (n - to_end) * elem);
}

void split_mark_word(const struct virtq *vq, const struct virtq_map *map, const le16 *word)
{
    if (map->log)
        dirty_log_mark_used(map->log, vq->index, (uint64_t)((const uint8_t *)word - (const uint8_t *)map->used),
                            sizeof(*word));
}

bool split_arm(struct virtq *vq, const struct virtq_map *map)
{
    if (vq->event_idx) {
        guest_store16(split_avail_event(vq, map), vq->last_avail);
        split_mark_word(vq, map, split_avail_event(vq, map));
    } else if (!vq->armed) {
        guest_store16(&map->used->flags, 0);
        split_mark_word(vq, map, &map->used->flags);
    }
    vq->armed = true;
    guest_fence(); /* [N] */
    return guest_load16_acquire(&map->avail->idx) != vq->last_avail;
}

void split_disarm(struct virtq *vq, const struct virtq_map *map)
{
    /* With EVENT_IDX the event index simply stays behind: at most one kick in 65536 buffers. */
    if (vq->armed && !vq->event_idx) {
        guest_store16(&map->used->flags, VRING_USED_F_NO_NOTIFY);
        split_mark_word(vq, map, &map->used->flags);
    }
    vq->armed = false;
}
