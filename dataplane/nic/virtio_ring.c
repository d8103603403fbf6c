/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_ring.c - see virtio_ring.h: memory of a ring, buffers that come back,
 * and the two directions of "tell me" and "do not tell me".
 */
#include "nic/virtio_ring.h"

#include <errno.h>
#include <stdlib.h>

/* ---- memory ---- */

/* A packed ring takes less: its descriptors are as long and its two areas four bytes. */
size_t virtio_ring_bytes(uint32_t size)
{
    return VRING_DESC_BYTES(size) + VRING_AVAIL_BYTES(size) + VRING_USED_BYTES(size) + 3 * (size_t)VRING_DESC_ALIGN;
}

static bool alloc_split(struct virtio_ring *r, struct dma_pool *pool)
{
    r->desc = dma_alloc(pool, VRING_DESC_BYTES(r->size), VRING_DESC_ALIGN);
    r->avail = dma_alloc(pool, VRING_AVAIL_BYTES(r->size), VRING_AVAIL_ALIGN);
    r->used = dma_alloc(pool, VRING_USED_BYTES(r->size), VRING_USED_ALIGN);
    return r->desc && r->avail && r->used;
}

static bool alloc_packed(struct virtio_ring *r, struct dma_pool *pool)
{
    r->pdesc = dma_alloc(pool, sizeof(*r->pdesc) * r->size, VRING_DESC_ALIGN);
    r->driver = dma_alloc(pool, sizeof(*r->driver), VIRTQ_EVENT_ALIGN);
    r->device = dma_alloc(pool, sizeof(*r->device), VIRTQ_EVENT_ALIGN);
    return r->pdesc && r->driver && r->device;
}

int virtio_ring_init(struct virtio_ring *r, struct dma_pool *pool)
{
    r->posted = calloc(r->size, sizeof(*r->posted));
    r->order = calloc(r->size, sizeof(*r->order));
    if (!r->posted || !r->order)
        return -ENOMEM;
    if (!(r->packed ? alloc_packed(r, pool) : alloc_split(r, pool)))
        return -ENOMEM;
    r->next_avail = r->next_used = r->packed ? VIRTIO_PACKED_WRAP : 0;  /* 2.8.1: both counters begin at 1 */
    virtio_ring_disarm(r);
    return 0;
}

void virtio_ring_fini(struct virtio_ring *r)
{
    free(r->posted);
    free(r->order);
    r->posted = NULL;
    r->order = NULL;
}

/* ---- commands ---- */

/* Bookkeeping of a posted buffer. */
static void note_posted(struct virtio_ring *r, uint16_t id)
{
    r->order[r->order_end] = id;
    r->order_end = r->order_end + 1 == r->size ? 0 : r->order_end + 1;
    r->posted[id] = true;
    virtio_ring_note(r, 1);
}

static void post_pair_packed(struct virtio_ring *r, uint64_t out, uint32_t out_len, uint64_t in, uint32_t in_len)
{
    const uint16_t first = r->next_avail, second = virtio_packed_add(r, first, 1);
    struct pvirtq_desc *const head = &r->pdesc[virtio_packed_slot(first)];
    struct pvirtq_desc *const d = &r->pdesc[virtio_packed_slot(second)];

    guest_store64(&d->addr, in);
    guest_store64(&d->state, virtio_packed_state(second, in_len, 0, VRING_DESC_F_WRITE));
    guest_store64(&head->addr, out);
    guest_store64_release(&head->state, virtio_packed_state(first, out_len, 0, VRING_DESC_F_NEXT)); /* [P] */
    r->next_avail = virtio_packed_add(r, first, 2);
    r->added += 2;
    note_posted(r, 0);
}

/* With IN_ORDER descriptors of a split ring are taken around the table (2.7.5), so each command has the next two. */
static void post_pair_split(struct virtio_ring *r, uint64_t out, uint32_t out_len, uint64_t in, uint32_t in_len)
{
    const uint16_t id = (uint16_t)(2 * r->next_avail & (r->size - 1));
    struct vring_desc *const head = &r->desc[id], *const d = &r->desc[id + 1];

    guest_store64(&head->addr, out);
    guest_store32(&head->len, out_len);
    guest_store16(&head->flags, VRING_DESC_F_NEXT);
    guest_store16(&head->next, id + 1);
    guest_store64(&d->addr, in);
    guest_store32(&d->len, in_len);
    guest_store16(&d->flags, VRING_DESC_F_WRITE);
    guest_store16(&r->avail->ring[r->next_avail & (r->size - 1)], id);
    r->next_avail++;
    r->added++;
    note_posted(r, id);
}

void virtio_ring_post_pair(struct virtio_ring *r, uint64_t out, uint32_t out_len, uint64_t in, uint32_t in_len)
{
    if (r->packed)
        post_pair_packed(r, out, out_len, in, in_len);
    else
        post_pair_split(r, out, out_len, in, in_len);
}

/* ---- what comes back ---- */

/* How many entries the device says a split ring has for us; more than it was given: false. */
static bool count_split(struct virtio_ring *r, uint32_t *ready)
{
    *ready = (uint16_t)(guest_load16_acquire(&r->used->idx) - r->next_used); /* [T] */
    return *ready <= r->in_flight;
}

/* The next used entry, if there is one. */
static bool peek_split(const struct virtio_ring *r, uint32_t *claimed_id, uint32_t *claimed_len)
{
    const struct vring_used_elem *const e = &r->used->ring[r->next_used & (r->size - 1)];

    *claimed_id = guest_load32(&e->id);
    *claimed_len = guest_load32(&e->len);
    return true;
}

/* 2.8.1: has the device marked the descriptor at a position? */
static bool is_used(uint64_t state, uint16_t position)
{
    const uint64_t both = (uint64_t)(VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED) << 48;

    return (state & both) == (position & VIRTIO_PACKED_WRAP ? both : 0);
}

static bool peek_packed(const struct virtio_ring *r, uint32_t *claimed_id, uint32_t *claimed_len)
{
    const uint64_t state = guest_load64_acquire(&r->pdesc[virtio_packed_slot(r->next_used)].state); /* [T] */

    if (!is_used(state, r->next_used))
        return false;
    *claimed_id = (uint16_t)(state >> 32);
    *claimed_len = (uint32_t)state;
    return true;
}

/* One buffer is ours again; the place where the device reports the next one follows. */
static void retire(struct virtio_ring *r, uint16_t id)
{
    const uint16_t next = r->packed ? virtio_packed_add(r, r->next_used, r->step) : (uint16_t)(r->next_used + 1);

    r->posted[id] = false;
    virtio_ring_note(r, -1);
    __atomic_store_n(&r->next_used, next, __ATOMIC_RELAXED);
}

/* The oldest buffer of a batch, the last one with the length that was reported. */
static struct virtio_used batch_next(struct virtio_ring *r)
{
    const uint16_t id = r->order[r->order_first];

    r->order_first = r->order_first + 1 == r->size ? 0 : r->order_first + 1;
    r->batch = id != r->batch_last;
    return (struct virtio_used){ .id = id, .whole = r->batch, .len = r->batch_len };
}

int virtio_ring_take(struct virtio_ring *r, struct virtio_used *out, unsigned max)
{
    uint32_t ready = r->in_flight, n = 0;

    if (!r->packed && !count_split(r, &ready)) {
        r->bad = ready;
        return -1;
    }
    for (; n < max && n < ready; n++) {
        uint32_t claimed_id, claimed_len;

        if (!r->batch) {
            if (!(r->packed ? peek_packed(r, &claimed_id, &claimed_len) : peek_split(r, &claimed_id, &claimed_len)))
                break;
            if (claimed_id >= r->size || !r->posted[claimed_id]) {
                r->bad = claimed_id;
                return -1;
            }
            out[n] = (struct virtio_used){ .id = (uint16_t)claimed_id, .len = claimed_len };
        }
        if (r->in_order) {
            if (!r->batch) {
                r->batch_last = out[n].id;
                r->batch_len = out[n].len;
            }
            out[n] = batch_next(r);
        }
        retire(r, out[n].id);
    }
    if (r->batch && n == ready) {   /* its last buffer is beyond the index */
        r->bad = r->batch_last;
        return -1;
    }
    return (int)n;
}

uint32_t virtio_ring_pending(const struct virtio_ring *r, uint32_t *position)
{
    const uint16_t next_used = __atomic_load_n(&r->next_used, __ATOMIC_RELAXED);
    const uint32_t in_flight = __atomic_load_n(&r->in_flight, __ATOMIC_RELAXED);
    uint64_t state;

    *position = next_used;
    if (!r->packed)
        return guest_load16(&r->used->idx) == next_used ? in_flight : 0;
    state = guest_load64(&r->pdesc[virtio_packed_slot(next_used)].state);
    return is_used(state, next_used) ? 0 : in_flight;
}

/* ---- "tell me" ---- */

bool virtio_ring_arm(struct virtio_ring *r)
{
    uint32_t claimed_id, claimed_len, ready;

    if (r->packed) {
        const uint32_t how = r->event_idx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE;

        guest_store32(&r->driver->state, how << 16 | r->next_used);
    } else if (r->event_idx) {
        guest_store16(&r->avail->ring[r->size], r->next_used);  /* used_event, 2.7.6 */
    } else {
        guest_store16(&r->avail->flags, 0);
    }
    guest_fence(); /* [N] */
    if (r->batch)
        return true;
    return r->packed ? peek_packed(r, &claimed_id, &claimed_len) : !count_split(r, &ready) || ready > 0;
}

void virtio_ring_disarm(struct virtio_ring *r)
{
    if (r->packed)
        guest_store32(&r->driver->state, RING_EVENT_FLAGS_DISABLE << 16);
    else if (r->event_idx)
        guest_store16(&r->avail->ring[r->size], (uint16_t)(r->next_used - 1)); /* as far ahead as can be */
    else
        guest_store16(&r->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

/* ---- "do you want to be told" ---- */

/* 2.7.10: has an index gone past @event with the last @added steps to @now? */
static bool passed(uint16_t now, uint16_t event, uint32_t added)
{
    return (uint16_t)(now - event - 1) < added;
}

static bool wants_split(const struct virtio_ring *r)
{
    if (r->event_idx) {         /* avail_event, 2.7.8 */
        const le16 *const event = (const le16 *)&r->used->ring[r->size];

        return passed(r->next_avail, guest_load16(event), r->added);
    }
    return !(guest_load16(&r->used->flags) & VRING_USED_F_NO_NOTIFY);
}

/* A position among those of two turns of the ring, after which they are the same again. */
static uint32_t of_two_turns(const struct virtio_ring *r, uint16_t pos)
{
    return virtio_packed_slot(pos) + (pos & VIRTIO_PACKED_WRAP ? r->size : 0u);
}

/*
 * 2.8.14, and a little more: a device may ask for a place that was published while it wanted to hear nothing, take what
 * is there without asking anew, and wait.  So whatever place is published already, it hears of it once.
 */
static bool wants_packed(struct virtio_ring *r)
{
    const uint32_t state = guest_load32(&r->device->state), flags = (state >> 16) & 3;
    const uint16_t event = (uint16_t)state;
    uint32_t since; /* slots from there to the end of what is published */

    if (!r->event_idx || flags != RING_EVENT_FLAGS_DESC)
        return flags != RING_EVENT_FLAGS_DISABLE;
    since = (of_two_turns(r, r->next_avail) + 2u * r->size - of_two_turns(r, event) % (2u * r->size)) % (2u * r->size);
    if (since == 0 || since > r->size || (since > r->added && event == r->told))
        return false;
    r->told = event;
    return true;
}

void virtio_ring_publish(struct virtio_ring *r)
{
    if (r->added == 0)
        return;
    if (!r->packed)
        guest_store16_release(&r->avail->idx, r->next_avail); /* [P] */
    guest_fence(); /* [N] */
    if (r->packed ? wants_packed(r) : wants_split(r))
        bar_write16(r->bar, r->notify_offset, r->index);
    r->added = 0;
}
