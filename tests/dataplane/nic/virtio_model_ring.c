/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_model_ring.c - see virtio_model.h: rings of both layouts from the
 * device's end (virtio 1.2, 2.7 and 2.8), and the wire behind them.
 */
#include <string.h>

#include "base/guest.h"
#include "nic/virtio_model.h"

#define WRAP 0x8000u

void *vm_memory(struct vm *vm, uint64_t iova, uint64_t len)
{
    if (iova < vm->pool->iova || iova - vm->pool->iova > vm->pool->size ||
        len > vm->pool->size - (iova - vm->pool->iova)) {
        vm_violation(vm, "an address outside the pool: the IOMMU would stop it");
        return NULL;
    }
    return vm->pool->base + (iova - vm->pool->iova);
}

static bool is_packed(const struct vm *vm)
{
    return vm_has(vm, VIRTIO_F_RING_PACKED);
}

/* The parts of a ring; checked when it is enabled. */
static struct vring_desc *split_desc(struct vm *vm, const struct vm_queue *q)
{
    return vm_memory(vm, q->desc, VRING_DESC_BYTES(q->size));
}

static struct vring_avail *split_avail(struct vm *vm, const struct vm_queue *q)
{
    return vm_memory(vm, q->driver, VRING_AVAIL_BYTES(q->size));
}

static struct vring_used *split_used(struct vm *vm, const struct vm_queue *q)
{
    return vm_memory(vm, q->device, VRING_USED_BYTES(q->size));
}

static struct pvirtq_desc *packed_desc(struct vm *vm, const struct vm_queue *q)
{
    return vm_memory(vm, q->desc, sizeof(struct pvirtq_desc) * q->size);
}

static uint16_t packed_add(const struct vm_queue *q, uint16_t pos, uint32_t n)
{
    while (n--) {
        pos++;
        if ((pos & ~WRAP) == q->size)
            pos = (uint16_t)((pos & WRAP) ^ WRAP);
    }
    return pos;
}

void vm_ring_reset(struct vm *vm, struct vm_queue *q)
{
    q->next_avail = q->next_used = is_packed(vm) ? WRAP : 0;
    q->told = 0;
    if (q->desc % 16 || q->driver % (is_packed(vm) ? 4 : 2) || q->device % 4)
        vm_violation(vm, "a ring is misaligned");       /* 2.7, 2.8.10.1 */
    if (!split_desc(vm, q) || !split_avail(vm, q) || !split_used(vm, q))
        q->enabled = false;
    else
        vm_set_kicks(vm, q, q->kicks);
}

/* ---- available buffers ---- */

static void add_part(struct vm *vm, struct vm_buf *b, uint64_t addr, uint32_t len, uint16_t flags)
{
    uint8_t *const p = vm_memory(vm, addr, len);

    if ((flags & VRING_DESC_F_INDIRECT) || b->n == VM_PARTS_MAX || !len) {
        vm_violation(vm, "an indirect table, an empty part, or too many");
        return;
    }
    if (!p)
        return;
    b->part[b->n].p = p;
    b->part[b->n].len = len;
    b->part[b->n++].write = flags & VRING_DESC_F_WRITE;
}

static uint32_t split_available(struct vm *vm, const struct vm_queue *q)
{
    const uint16_t n = (uint16_t)(guest_load16_acquire(&split_avail(vm, q)->idx) - q->next_avail);

    if (n > q->size)
        vm_violation(vm, "more buffers are available than the ring is long");
    return n;
}

static bool split_pop(struct vm *vm, struct vm_queue *q, struct vm_buf *b)
{
    const struct vring_desc *const table = split_desc(vm, q);
    uint16_t i;

    if (!split_available(vm, q))
        return false;
    i = guest_load16(&split_avail(vm, q)->ring[q->next_avail & (q->size - 1)]);
    if (vm_has(vm, VIRTIO_F_IN_ORDER) && b->slots == 1 && i != (q->next_avail & (q->size - 1)))
        vm_violation(vm, "IN_ORDER: descriptors are not used around the table");
    *b = (struct vm_buf){ .id = i };
    for (; b->slots < q->size; b->slots++) {
        const struct vring_desc *const d = &table[i < q->size ? i : 0];
        const uint16_t flags = guest_load16(&d->flags);

        add_part(vm, b, guest_load64(&d->addr), guest_load32(&d->len), flags);
        if (!(flags & VRING_DESC_F_NEXT))
            break;
        if (vm_has(vm, VIRTIO_F_IN_ORDER) && guest_load16(&d->next) != (i + 1) % q->size)
            vm_violation(vm, "IN_ORDER: a chain does not go around the table");
        i = guest_load16(&d->next);
    }
    b->slots++;
    q->next_avail++;
    return true;
}

static bool packed_is_available(struct vm *vm, const struct vm_queue *q, uint16_t pos)
{
    const uint16_t flags = (uint16_t)(guest_load64_acquire(&packed_desc(vm, q)[pos & ~WRAP].state) >> 48);
    const uint16_t turn = pos & WRAP ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;

    return (flags & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)) == turn;
}

static bool packed_pop(struct vm *vm, struct vm_queue *q, struct vm_buf *b)
{
    *b = (struct vm_buf){ 0 };
    if (!packed_is_available(vm, q, q->next_avail))
        return false;
    while (b->slots < q->size) {
        const struct pvirtq_desc *const d = &packed_desc(vm, q)[q->next_avail & ~WRAP];
        const uint64_t state = guest_load64(&d->state);

        if (!packed_is_available(vm, q, q->next_avail))
            vm_violation(vm, "a chain is only in part available");
        add_part(vm, b, guest_load64(&d->addr), (uint32_t)state, (uint16_t)(state >> 48));
        q->next_avail = packed_add(q, q->next_avail, 1);
        b->slots++;
        if (!((state >> 48) & VRING_DESC_F_NEXT)) {
            b->id = (uint16_t)(state >> 32);
            break;
        }
    }
    return true;
}

bool vm_pop(struct vm *vm, struct vm_queue *q, struct vm_buf *b)
{
    b->slots = q == &vm->queue[vm_ctrl_index(vm)] ? 2 : 1;
    if (!q->enabled || !(is_packed(vm) ? packed_pop(vm, q, b) : split_pop(vm, q, b)))
        return false;
    if (q->kicks != VM_KICK_NEVER && q->kicks != VM_KICK_ONCE)      /* an event index is of a position */
        vm_set_kicks(vm, q, q->kicks);
    return true;
}

uint32_t vm_available(struct vm *vm, const struct vm_queue *q)
{
    uint16_t pos = q->next_avail;
    uint32_t n = 0;

    if (!is_packed(vm))
        return split_available(vm, q);
    for (; n < q->size && packed_is_available(vm, q, pos); n++)
        pos = packed_add(q, pos, 1);
    return n;
}

/* ---- used buffers ---- */

void vm_push_raw(struct vm *vm, struct vm_queue *q, uint32_t id, uint32_t len, uint16_t buffers, uint16_t slots)
{
    if (is_packed(vm)) {
        struct pvirtq_desc *const d = &packed_desc(vm, q)[q->next_used & ~WRAP];
        const uint64_t flags = q->next_used & WRAP ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;

        guest_store64_release(&d->state, flags << 48 | (uint64_t)(uint16_t)id << 32 | len);
        q->next_used = packed_add(q, q->next_used, slots);
        q->told += slots;
    } else {
        struct vring_used *const used = split_used(vm, q);
        struct vring_used_elem *const e = &used->ring[q->next_used & (q->size - 1)];

        guest_store32(&e->id, id);
        guest_store32(&e->len, len);
        q->next_used = (uint16_t)(q->next_used + buffers);
        guest_store16_release(&used->idx, q->next_used);
        q->told += buffers;
    }
}

void vm_push(struct vm *vm, struct vm_queue *q, const struct vm_buf *b, uint32_t len)
{
    vm_push_raw(vm, q, b->id, len, 1, b->slots);
}

/* 2.7.7, 2.8.10: does the driver want an interrupt for the last @told entries? */
static bool wants_interrupt(struct vm *vm, const struct vm_queue *q)
{
    const bool event_idx = vm_has(vm, VIRTIO_F_RING_EVENT_IDX);

    if (!is_packed(vm)) {
        const struct vring_avail *const avail = split_avail(vm, q);

        if (!event_idx)
            return !(guest_load16(&avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
        if (guest_load16(&avail->flags))
            vm_violation(vm, "EVENT_IDX: flags of the avail ring are not 0");
        return (uint16_t)(q->next_used - guest_load16(&avail->ring[q->size]) - 1) < q->told;
    } else {
        const struct pvirtq_event_suppress *const e = vm_memory(vm, q->driver, sizeof(*e));
        const uint32_t state = guest_load32(&e->state), how = state >> 16;

        if (how == RING_EVENT_FLAGS_DISABLE || how == RING_EVENT_FLAGS_ENABLE)
            return how == RING_EVENT_FLAGS_ENABLE;
        if (!event_idx || how != RING_EVENT_FLAGS_DESC)
            vm_violation(vm, "event suppression of an unknown kind");
        /* The entries written are the told ones before next_used: is the one asked for among them? */
        for (uint32_t k = 0; k < 2u * q->size && k < q->told; k++)
            if (packed_add(q, (uint16_t)state, k + 1) == q->next_used)
                return true;
        return false;
    }
}

void vm_signal(struct vm *vm, struct vm_queue *q)
{
    guest_fence();
    if (wants_interrupt(vm, q) && q->vector < VM_VECTORS)
        vm->interrupts[q->vector]++;
    q->told = 0;
}

void vm_set_kicks(struct vm *vm, struct vm_queue *q, enum vm_kicks kicks)
{
    const bool event_idx = vm_has(vm, VIRTIO_F_RING_EVENT_IDX);

    q->kicks = kicks;
    if (is_packed(vm)) {
        struct pvirtq_event_suppress *const e = vm_memory(vm, q->device, sizeof(*e));

        if ((kicks == VM_KICK_EVENT || kicks == VM_KICK_ONCE) && event_idx)
            guest_store32(&e->state, RING_EVENT_FLAGS_DESC << 16 | q->next_avail);
        else
            guest_store32(&e->state, (kicks == VM_KICK_NEVER) << 16);
    } else {
        struct vring_used *const used = split_used(vm, q);
        const uint16_t event = kicks == VM_KICK_NEVER ? (uint16_t)(q->next_avail - 1) : q->next_avail;

        if (event_idx)
            guest_store16((le16 *)&used->ring[q->size], event);
        else
            guest_store16(&used->flags, kicks == VM_KICK_NEVER);
    }
    guest_fence();
}

/* ---- the wire ---- */

uint32_t vm_receive(struct vm *vm, uint32_t pair, const uint8_t *hdr, const void *frame, uint32_t len)
{
    struct vm_queue *const q = &vm->queue[2 * pair];
    const bool mergeable = vm_has(vm, VIRTIO_NET_F_MRG_RXBUF);
    uint8_t wire[VM_HDR_LEN] = { 0 };
    const uint8_t *from = frame;
    struct vm_buf buf[64];
    uint32_t room = 0, n = 0, left = len;
    const uint16_t before = q->next_avail;

    while (room < len + VM_HDR_LEN) {
        if (n == (mergeable ? 64 : 1) || !vm_pop(vm, q, &buf[n])) {
            q->next_avail = before;
            return 0;
        }
        if (buf[n].n != 1 || !buf[n].part[0].write)
            vm_violation(vm, "a receive buffer is one part, to write");
        room += buf[n++].part[0].len;
    }
    if (hdr)
        memcpy(wire, hdr, VM_HDR_LEN - 2);
    wire[10] = (uint8_t)n;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t skip = i == 0 ? VM_HDR_LEN : 0, space = buf[i].part[0].len - skip;
        const uint32_t part = left < space ? left : space;

        memcpy(buf[i].part[0].p, wire, skip);
        memcpy(buf[i].part[0].p + skip, from, part);
        vm_push(vm, q, &buf[i], skip + part);
        from += part;
        left -= part;
    }
    vm_signal(vm, q);
    return n;
}

int vm_look(struct vm *vm, uint32_t pair, struct vm_buf *b, uint8_t *hdr, void *frame, uint32_t max)
{
    uint32_t total = 0;
    uint8_t *to = frame;

    if (!vm_pop(vm, &vm->queue[2 * pair + 1], b))
        return -1;
    for (uint32_t i = 0; i < b->n; i++)
        total += b->part[i].len;
    if (b->n != 1 || b->part[0].write || total < VM_HDR_LEN || total - VM_HDR_LEN > max) {
        vm_violation(vm, "what is to be sent is no header and frame to read");
        return -1;
    }
    memcpy(hdr, b->part[0].p, VM_HDR_LEN);
    memcpy(to, b->part[0].p + VM_HDR_LEN, total - VM_HDR_LEN);
    return (int)(total - VM_HDR_LEN);
}

int vm_send(struct vm *vm, uint32_t pair, uint8_t *hdr, void *frame, uint32_t max)
{
    struct vm_buf b;
    const int len = vm_look(vm, pair, &b, hdr, frame, max);

    if (len >= 0) {
        vm_push(vm, &vm->queue[2 * pair + 1], &b, 0);
        vm_signal(vm, &vm->queue[2 * pair + 1]);
    }
    return len;
}
