/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_tx.c - see virtio_tx.h.  Worker thread, the life apart.
 */
#include "nic/virtio_tx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/nic_copy.h"
#include "vnet.h"

#define LINE 64
/* Room for a few of the longest frames, however short the ring. */
#define AREA_MIN 524288
#define HDR_LEN VNET_WIRE_LEN_MRG
#define NO_ROOM UINT32_MAX

_Static_assert(AREA_MIN > 2 * (HDR_LEN + US_FRAME_MAX + VLAN_TAG_LEN),
               "the longest frame fits, wherever the area is cut");

/* ---- life ---- */

static uint32_t area_size(uint32_t ring_size)
{
    return ring_size * DMA_BUF_SIZE > AREA_MIN ? ring_size * DMA_BUF_SIZE : AREA_MIN;
}

size_t virtio_tx_bytes(uint32_t ring_size)
{
    return virtio_ring_bytes(ring_size) + area_size(ring_size) + LINE;
}

int virtio_tx_init(struct virtio_tx *tx, struct dma_pool *pool)
{
    tx->area_size = area_size(tx->ring.size);
    tx->end = calloc(tx->ring.size, sizeof(*tx->end));
    tx->done = calloc(tx->ring.size, sizeof(*tx->done));
    tx->area = dma_alloc(pool, tx->area_size, LINE);
    if (!tx->end || !tx->done || !tx->area)
        return -ENOMEM;
    tx->area_iova = dma_iova(pool, tx->area);
    return virtio_ring_init(&tx->ring, pool);
}

void virtio_tx_fini(struct virtio_tx *tx)
{
    virtio_ring_fini(&tx->ring);
    free(tx->end);
    free(tx->done);
    tx->end = NULL;
    tx->done = NULL;
}

/* ---- space ---- */

static uint16_t after(const struct virtio_tx *tx, uint16_t id)
{
    return id + 1 == tx->ring.size ? 0 : (uint16_t)(id + 1);
}

/* What the device has sent, oldest first, is free again.  False: the device reports what cannot be. */
static bool reclaim(struct virtio_tx *tx)
{
    struct virtio_used used[BURST_MAX];
    int n;

    do {
        n = virtio_ring_take(&tx->ring, used, BURST_MAX);
        for (int i = 0; i < n; i++)
            tx->done[used[i].id] = true;
        while (tx->held && tx->done[tx->oldest]) {
            tx->done[tx->oldest] = false;
            tx->tail = tx->end[tx->oldest];
            tx->oldest = after(tx, tx->oldest);
            tx->held--;
        }
    } while (n == BURST_MAX);
    if (tx->held == 0)
        tx->head = tx->tail = 0;
    return n >= 0;
}

/* Where @bytes fit in one piece, or NO_ROOM.  The area is never filled up: equal positions mean that it is empty. */
static uint32_t find_room(const struct virtio_tx *tx, uint32_t bytes)
{
    if (tx->held == tx->ring.size)
        return NO_ROOM;
    if (tx->head < tx->tail)
        return tx->tail - tx->head > bytes ? tx->head : NO_ROOM;
    if (tx->area_size - tx->head >= bytes)
        return tx->head;
    return tx->tail > bytes ? 0 : NO_ROOM;
}

/* ---- frames ---- */

/* 5.1.6.2: the header, and right behind it the frame. */
static void write_frame(uint8_t *to, const struct frame *f)
{
    struct { uint8_t byte[HDR_LEN]; } wire = { { 0 } };

    if (f->vnet.flags & VNET_NEEDS_CSUM)        /* DATA_VALID is not the driver's to say (5.1.6.2.1) */
        vnet_format(&f->vnet, f->out_vid == US_VID_UNTAGGED ? 0 : VLAN_TAG_LEN, wire.byte);
    guest_copy_const(to, &wire, HDR_LEN);
    nic_copy_flat(to + HDR_LEN, f);
}

/* Returns false if there is no room. */
static bool put(struct virtio_tx *tx, const struct frame *f)
{
    const uint32_t bytes = HDR_LEN + nic_wire_len(f), lines = (bytes + LINE - 1) / LINE * LINE;
    const uint32_t at = find_room(tx, lines);

    if (at == NO_ROOM)
        return false;
    write_frame(tx->area + at, f);
    virtio_ring_post(&tx->ring, tx->next, tx->area_iova + at, bytes, 0);
    tx->head = at + lines;
    tx->end[tx->next] = tx->head;
    tx->next = after(tx, tx->next);
    tx->held++;
    return true;
}

void virtio_tx_burst(struct nic_queue *q, struct frame *const *frames, unsigned n, uint8_t *why)
{
    struct virtio_tx *const tx = q->tx;
    uint64_t packets = 0, bytes = 0, tso = 0;

    if (!reclaim(tx)) {
        nic_fail(q->nic, q->index, BREAK_nic_descriptor, tx->ring.bad);
        memset(why, DROP_broken, n);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        why[i] = put(tx, frames[i]) ? DROP_none : DROP_ring_full;
        if (why[i] != DROP_none)
            continue;
        packets++;
        bytes += nic_wire_len(frames[i]);
        tso += frames[i]->vnet.gso_type != VNET_GSO_NONE;
    }
    virtio_ring_publish(&tx->ring);
    virtio_count_add(&tx->count->tx_packets, packets);
    virtio_count_add(&tx->count->tx_bytes, bytes);
    virtio_count_add(&tx->count->tx_tso, tso);
}
