/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_ring.h - one virtqueue, the driver's end: buffers are posted, used
 * ones taken back, and both sides told as little as possible.
 *
 * Theory of operation.  The pool is one stretch of addresses for the device,
 * so every buffer, 64 KiB included, is a single descriptor, and chains and
 * indirect tables are not needed; only a command of the control queue is a
 * pair.  A buffer has an id, 0 .. size - 1, chosen by the caller and his alone
 * until virtio_ring_take() gives it back.
 *
 * What the device writes is believed in one place: virtio_ring_take().  It
 * hands out an id only if the device has that buffer (@posted), so no id comes
 * back twice and none from nowhere, and no count exceeds what was posted.
 * Nothing we wrote to the ring is ever read back.
 *
 * With IN_ORDER a device may report only the last buffer of a batch (2.7.9,
 * 2.8.8: the others count as used up whole); @order says which those are.
 *
 * Memory order: [P] our release store of what makes a buffer available pairs
 * with the device's acquire, [T] our acquire load of what makes it used with
 * the device's release, [N] is the full fence on both sides between either of
 * them and "does the other one want to be told" (2.7.7, 2.7.10, 2.8.10).
 *
 * A ring belongs to whoever has the queue: worker, or control thread while
 * nobody has.
 */
#ifndef USWITCH_NIC_VIRTIO_RING_H
#define USWITCH_NIC_VIRTIO_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guest.h"
#include "base/virtq_spec.h"
#include "nic/bar.h"
#include "nic/dma.h"

/* The position of a packed ring: slot, and the wrap counter in the top bit, as in 2.8.14. */
#define VIRTIO_PACKED_WRAP 0x8000u

/**
 * struct virtio_used - a buffer that came back
 * @id: its id, < size, not posted any more
 * @whole: it came back as a part of a batch, filled up; @len means nothing
 * @len: bytes the device says it wrote, unchecked
 */
struct virtio_used {
    uint16_t id;
    bool whole;
    uint32_t len;
};

/**
 * struct virtio_ring - a virtqueue
 * @desc, @avail, @used: the parts of a split ring, in the pool
 * @pdesc, @driver, @device: the parts of a packed one
 * @bar, @notify_offset: where notifications go (@bar borrowed)
 * @index: number of the queue
 * @size: descriptors
 * @packed, @event_idx, @in_order: as negotiated
 * @step: descriptors a buffer: 1, or 2 in the control queue
 * @next_avail: split: index, free-running; packed: position
 * @next_used: likewise (writer: who has the queue; reader: virtio_ring_pending() as well)
 * @added: descriptors (packed) or buffers (split) since they were last published
 * @told: packed: the place that the device asked for when it was last notified
 * @in_flight: buffers the device has (likewise)
 * @bad: what virtio_ring_take() refused
 * @batch, @batch_last, @batch_len: a batch is being handed out, up to this buffer
 * @posted: by id: the device has it
 * @order: ids in flight, from order_first on, around; kept if @in_order
 * @order_first, @order_end: positions in it
 */
struct virtio_ring {
    union {
        struct {
            struct vring_desc *desc;
            struct vring_avail *avail;
            struct vring_used *used;
        };
        struct {
            struct pvirtq_desc *pdesc;
            struct pvirtq_event_suppress *driver;
            struct pvirtq_event_suppress *device;
        };
    };
    const struct bar *bar;
    uint32_t notify_offset;
    uint16_t index;
    uint16_t size;
    bool packed;
    bool event_idx;
    bool in_order;
    uint8_t step;

    uint16_t next_avail;
    uint16_t next_used;
    uint32_t added;
    uint16_t told;
    uint32_t in_flight;
    uint64_t bad;
    bool batch;
    uint16_t batch_last;
    uint32_t batch_len;
    uint8_t *posted;
    uint16_t *order;
    uint16_t order_first;
    uint16_t order_end;
};

/* Bytes of pool for a ring of @size descriptors, of either layout, the loss by alignment included. */
size_t virtio_ring_bytes(uint32_t size);

/**
 * virtio_ring_init() - an empty ring that tells the device not to interrupt
 * @r: @index, @size, @packed, @event_idx, @in_order and @step are set (and, before a buffer is posted, @bar and
 *     @notify_offset), everything else zero
 * @pool: where the parts come from
 *
 * Control thread, device quiet.  Return: 0 or -ENOMEM; virtio_ring_fini() is legal in both cases.
 */
int virtio_ring_init(struct virtio_ring *r, struct dma_pool *pool);

/* Frees what virtio_ring_init() took, apart from the pool.  Control thread, device quiet; twice is legal. */
void virtio_ring_fini(struct virtio_ring *r);

/**
 * virtio_ring_post_pair() - a command: one piece the device reads, one it writes; the ring chooses the id
 * @r: an empty ring with step 2 and at least two descriptors
 * @out, @out_len: what it reads, by device address
 * @in, @in_len: what it writes
 *
 * Control thread.  To be followed by virtio_ring_publish().
 */
void virtio_ring_post_pair(struct virtio_ring *r, uint64_t out, uint32_t out_len, uint64_t in, uint32_t in_len);

/**
 * virtio_ring_take() - buffers the device is done with
 * @r: ring
 * @out: for @max of them
 * @max: how many at most
 *
 * Return: how many, or -1: the device reported what cannot be; @bad says what.
 */
int virtio_ring_take(struct virtio_ring *r, struct virtio_used *out, unsigned max);

/**
 * virtio_ring_pending() - how many buffers wait for the device, and where it stands; any thread, the ring being in use
 * @r: ring
 * @position: the next buffer to come back; may be the same again after a ring of them
 *
 * Return: buffers it has; 0: none, or some are to be taken back first.
 */
uint32_t virtio_ring_pending(const struct virtio_ring *r, uint32_t *position);

/* Buffers were posted: the device sees them all, and is notified if it wants to be. */
void virtio_ring_publish(struct virtio_ring *r);

/* Ask for an interrupt at the next used buffer; true if there is one already (the interrupt may come as well). */
bool virtio_ring_arm(struct virtio_ring *r);

/* No interrupts, please; one may still come. */
void virtio_ring_disarm(struct virtio_ring *r);

/* Positions of a packed ring. */
static inline uint16_t virtio_packed_slot(uint16_t pos)
{
    return pos & (VIRTIO_PACKED_WRAP - 1);
}

static inline uint16_t virtio_packed_add(const struct virtio_ring *r, uint16_t pos, uint32_t n)
{
    const uint32_t slot = virtio_packed_slot(pos) + n, wrap = pos & VIRTIO_PACKED_WRAP;

    if (slot < r->size)
        return (uint16_t)(slot | wrap);
    return (uint16_t)((slot - r->size) | (wrap ^ VIRTIO_PACKED_WRAP));
}

/* 2.8.1: a descriptor is available when AVAIL is the driver's wrap counter and USED is not. */
static inline uint64_t virtio_packed_state(uint16_t pos, uint32_t len, uint16_t id, uint16_t flags)
{
    const uint64_t turn = pos & VIRTIO_PACKED_WRAP ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;

    return (flags | turn) << 48 | (uint64_t)id << 32 | len;
}

/* Buffers in flight became more or fewer. */
static inline void virtio_ring_note(struct virtio_ring *r, int more)
{
    __atomic_store_n(&r->in_flight, r->in_flight + (uint32_t)more, __ATOMIC_RELAXED);
}

/**
 * virtio_ring_post() - give the device a buffer
 * @r: ring
 * @id: its id, not posted; fewer than @size are
 * @addr: where it lies, device address
 * @len: bytes
 * @flags: 0: the device reads it, VRING_DESC_F_WRITE: it writes it
 *
 * To be followed, at the end of the burst, by virtio_ring_publish().
 */
static inline void virtio_ring_post(struct virtio_ring *r, uint16_t id, uint64_t addr, uint32_t len, uint16_t flags)
{
    if (r->packed) {
        struct pvirtq_desc *const d = &r->pdesc[virtio_packed_slot(r->next_avail)];

        guest_store64(&d->addr, addr);
        guest_store64_release(&d->state, virtio_packed_state(r->next_avail, len, id, flags)); /* [P] */
        r->next_avail = virtio_packed_add(r, r->next_avail, 1);
    } else {
        struct vring_desc *const d = &r->desc[id];

        guest_store64(&d->addr, addr);
        guest_store32(&d->len, len);
        guest_store16(&d->flags, flags);
        guest_store16(&r->avail->ring[r->next_avail & (r->size - 1)], id);
        r->next_avail++;
    }
    if (r->in_order) {
        r->order[r->order_end] = id;
        r->order_end = r->order_end + 1 == r->size ? 0 : r->order_end + 1;
    }
    r->posted[id] = true;
    virtio_ring_note(r, 1);
    r->added++;
}

#endif /* USWITCH_NIC_VIRTIO_RING_H */
