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

bool split_arm(struct virtq *vq, const struct virtq_map *map)
{
    if (vq->event_idx) {
        guest_store16(split_avail_event(vq, map), vq->last_avail);
    } else if (!vq->armed) {
        guest_store16(&map->used->flags, 0);
    }
    vq->armed = true;
    guest_fence(); /* [N] */
    return guest_load16_acquire(&map->avail->idx) != vq->last_avail;
}

void split_disarm(struct virtq *vq, const struct virtq_map *map)
{
    /* With EVENT_IDX the event index simply stays behind: at most one kick in 65536 buffers. */
    if (vq->armed && !vq->event_idx)
        guest_store16(&map->used->flags, VRING_USED_F_NO_NOTIFY);
    vq->armed = false;
}
