/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * random_ring.c - see random_ring.h.
 */
#include "vhost/random_ring.h"

#include <string.h>

/* Positions from .. to of the arena. */
static void fill_guard(struct random_ring *rr, uint64_t from, uint64_t to)
{
    static uint8_t guards[4096];
    uint64_t part;

    memset(guards, ARENA_GUARD, sizeof(guards));
    for (; from < to; from += part) {
        part = ARENA_SIZE - from % ARENA_SIZE;
        part = part < to - from ? part : to - from;
        part = part < sizeof(guards) ? part : sizeof(guards);
        drv_write(rr->d, rr->base + from % ARENA_SIZE, guards, part);
    }
}

void ring_reset(struct random_ring *rr)
{
    rr->from = rr->to = 0;
    rr->n_free = rr->r->size;
    for (uint32_t i = 0; i < rr->n_free; i++)
        rr->free[i] = (uint16_t)(rr->r->size - 1 - i);
    fill_guard(rr, 0, ARENA_SIZE);
}

struct offer *ring_at(struct random_ring *rr, uint16_t avail)
{
    return &rr->offers[avail & (rr->r->size - 1)];
}

/* Memory that does not wrap around the arena's end, with a gap before and behind it. */
static bool cut(struct random_ring *rr, uint64_t len, uint64_t *gpa)
{
    const uint32_t gap = 1 + below(rr->seed, 40);
    uint64_t at = rr->to + gap;

    if (at % ARENA_SIZE + len + gap > ARENA_SIZE)
        at += ARENA_SIZE - at % ARENA_SIZE + gap;
    if (at + len + gap - rr->from > ARENA_SIZE)
        return false;
    rr->to = at + len + gap;
    *gpa = rr->base + at % ARENA_SIZE;
    return true;
}

/* Any unused entry; with in_order they come back as they went and are used round and round. */
static uint16_t take_desc(struct random_ring *rr)
{
    const uint32_t i = rr->in_order ? rr->n_free - 1 : below(rr->seed, rr->n_free);
    const uint16_t desc = rr->free[i];

    rr->free[i] = rr->free[--rr->n_free];
    return desc;
}

static void put_desc(struct random_ring *rr, uint16_t desc)
{
    if (rr->in_order) { /* at the far end: the next lap */
        memmove(&rr->free[1], &rr->free[0], rr->n_free * sizeof(rr->free[0]));
        rr->free[0] = desc;
    } else {
        rr->free[rr->n_free] = desc;
    }
    rr->n_free++;
}

/* What a malformed chain may still run into must not lead anywhere. */
static void retire_desc(struct random_ring *rr, uint16_t desc)
{
    drv_desc(rr->r, desc, ~0ull, 0, 0, 0);
    put_desc(rr, desc);
}

/* Cut bytes into n lengths, zeros among them. */
static void divide(uint64_t *seed, uint32_t bytes, uint32_t n, uint32_t len[PARTS_MAX])
{
    for (uint32_t i = 0; i + 1 < n; i++) {
        static const uint32_t likely[] = { 0, 1, 2, 10, 12, 14, 64, 4096 };
        const uint32_t want = one_in(seed, 2) ? likely[below(seed, 8)] : below(seed, bytes + 1);

        len[i] = want < bytes ? want : bytes;
        bytes -= len[i];
    }
    len[n - 1] = bytes;
}

/* One of the things that no driver may do. */
static void spoil_desc(struct random_ring *rr, struct vring_desc *v, uint32_t n)
{
    const uint16_t flags = le16_to_cpu(v->flags);

    /* A receive buffer longer than it is would be legal, and the end of the guards. */
    switch (below(rr->seed, rr->writable ? 5 : 6)) {
    case 0:
        v->flags = cpu_to_le16(flags ^ VRING_DESC_F_WRITE);
        break;
    case 1:
        v->flags = cpu_to_le16(flags | VRING_DESC_F_INDIRECT);
        break;
    case 2: /* a loop, or longer than meant */
        v->flags = cpu_to_le16(flags | VRING_DESC_F_NEXT);
        v->next = cpu_to_le16((uint16_t)below(rr->seed, n));
        break;
    case 3:
        v->flags = cpu_to_le16(flags | VRING_DESC_F_NEXT);
        v->next = cpu_to_le16((uint16_t)(n + below(rr->seed, 3)));
        break;
    case 4:
        v->addr = cpu_to_le64(one_in(rr->seed, 2) ? DRV_END - below(rr->seed, 4) : DRV_GPA - 1);
        break;
    default:
        v->len = cpu_to_le32(rnd(rr->seed) | 1u << 31);
        break;
    }
}

static bool place_table(struct random_ring *rr, struct offer *o, struct vring_desc *v, uint32_t n, bool spoil)
{
    uint32_t len = n * (uint32_t)sizeof(*v);
    uint16_t head;
    uint64_t gpa;

    if (!cut(rr, len, &gpa))
        return false;
    drv_write(rr->d, gpa, v, len);
    if (spoil && one_in(rr->seed, 3))
        len += 1 + below(rr->seed, 15);
    head = take_desc(rr);
    drv_desc(rr->r, head, gpa, len, VRING_DESC_F_INDIRECT | (one_in(rr->seed, 2) ? rr->writable : 0), 0);
    o->desc[o->n_desc++] = o->head = head;
    return true;
}

/* Where in the table (indirect), or the ring, each part comes to lie. */
static void choose_places(struct random_ring *rr, uint32_t n, bool indirect, uint16_t place[PARTS_MAX])
{
    for (uint32_t i = 0; i < n; i++)
        place[i] = indirect ? (uint16_t)i : take_desc(rr);
    for (uint32_t i = 1; indirect && !rr->in_order && i + 1 < n; i++) { /* the first stays the first */
        const uint32_t j = i + below(rr->seed, n - i);
        const uint16_t other = place[i];

        place[i] = place[j];
        place[j] = other;
    }
}

struct offer *ring_offer(struct random_ring *rr, uint32_t bytes, uint32_t n, bool spoil)
{
    const bool indirect = rr->indirect && one_in(rr->seed, 3);
    const uint64_t before = rr->to;
    struct offer *const o = ring_at(rr, rr->r->avail_idx);
    struct vring_desc table[PARTS_MAX];
    uint16_t place[PARTS_MAX] = { 0 };
    uint64_t gpa[PARTS_MAX];
    uint32_t len[PARTS_MAX];

    if (rr->n_free < (indirect ? 1 : n))
        return NULL;
    divide(rr->seed, bytes, n, len);
    for (uint32_t i = 0; i < n; i++) {
        if (!cut(rr, len[i], &gpa[i])) {
            rr->to = before;
            return NULL;
        }
    }
    o->n_desc = 0;
    choose_places(rr, n, indirect, place);
    for (uint32_t i = 0; i < n; i++) {
        struct vring_desc v = { cpu_to_le64(len[i] || one_in(rr->seed, 2) ? gpa[i] : ~0ull), cpu_to_le32(len[i]),
                                cpu_to_le16(rr->writable | (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
                                cpu_to_le16(i + 1 < n ? place[i + 1] : (uint16_t)rnd(rr->seed)) };

        if (spoil && one_in(rr->seed, n - i)) {
            spoil_desc(rr, &v, indirect ? n : rr->r->size);
            spoil = false;
        }
        if (indirect) {
            table[place[i]] = v;
        } else {
            o->desc[o->n_desc++] = place[i];
            drv_desc(rr->r, place[i], le64_to_cpu(v.addr), le32_to_cpu(v.len), le16_to_cpu(v.flags),
                     le16_to_cpu(v.next));
        }
    }
    o->head = place[0];
    if (indirect && !place_table(rr, o, table, n, spoil)) {
        rr->to = before;
        return NULL;
    }
    o->arena_end = rr->to;
    drv_offer(rr->r, o->head);
    return o;
}

void ring_return(struct random_ring *rr, uint16_t avail)
{
    const struct offer *const o = ring_at(rr, avail);

    fill_guard(rr, rr->from, o->arena_end);
    rr->from = o->arena_end;
    for (uint32_t i = 0; i < o->n_desc; i++)
        retire_desc(rr, o->desc[i]);
}

/* One offer's memory: whatever lies there is right. */
static void accept(const struct random_ring *rr, uint8_t *want, const uint8_t *now, uint64_t gpa, uint64_t len)
{
    const uint64_t off = gpa - rr->base;

    if (off < ARENA_SIZE)
        memcpy(want + off, now + off, len < ARENA_SIZE - off ? len : ARENA_SIZE - off);
}

bool ring_guards_hold(struct random_ring *rr, uint16_t oldest)
{
    static uint8_t want[ARENA_SIZE], now[ARENA_SIZE];

    drv_read(rr->d, rr->base, now, sizeof(now));
    memset(want, ARENA_GUARD, sizeof(want));
    for (uint16_t i = oldest; i != rr->r->avail_idx; i++) {
        const struct offer *const o = ring_at(rr, i);

        for (uint32_t k = 0; k < o->n_desc; k++) {
            const struct desc d = split_desc_load(&rr->r->desc[o->desc[k]]);

            accept(rr, want, now, d.addr, d.len);
            for (uint32_t t = 0; d.flags & VRING_DESC_F_INDIRECT && t < d.len / 16 && d.addr < DRV_END - d.len; t++) {
                struct vring_desc v;

                drv_read(rr->d, d.addr + 16ull * t, &v, sizeof(v));
                accept(rr, want, now, le64_to_cpu(v.addr), le32_to_cpu(v.len));
            }
        }
    }
    return memcmp(want, now, sizeof(want)) == 0;
}

bool in_memory(uint64_t gpa, uint64_t len)
{
    return gpa >= DRV_GPA && gpa <= DRV_END && len <= DRV_END - gpa;
}

uint64_t in_one_region(const struct driver *d, uint64_t gpa, uint64_t len)
{
    for (uint32_t i = 0; i < d->mem.n; i++) {
        const struct us_mem_region *const r = &d->mem.region[i];

        if (gpa >= r->gpa && gpa - r->gpa < r->size)
            return len < r->size - (gpa - r->gpa) ? len : r->size - (gpa - r->gpa);
    }
    return 0;
}

static enum drop_reason usable(const struct walk *w, const struct random_ring *rr)
{
    if (w->at.flags & VRING_DESC_F_INDIRECT)
        return DROP_chain_indirect;
    return (w->at.flags & VRING_DESC_F_WRITE) == rr->writable ? DROP_none : DROP_chain_direction;
}

enum drop_reason walk_first(struct walk *w, const struct random_ring *rr, uint16_t head)
{
    const struct desc first = split_desc_load(&rr->r->desc[head]);
    const uint32_t size = rr->r->size;

    w->steps = 0;
    if (!(first.flags & VRING_DESC_F_INDIRECT)) {
        w->table = rr->r->desc;
        w->n = size;
        w->left = size - 1;
        w->at = first;
        return usable(w, rr);
    }
    if (!rr->indirect || first.flags & VRING_DESC_F_NEXT || first.len % 16 || first.len == 0 ||
        !in_memory(first.addr, first.len))
        return DROP_chain_indirect;
    w->n = first.len / 16;
    w->left = (w->n < CHAIN_INDIRECT_MAX ? w->n : CHAIN_INDIRECT_MAX) - 1;
    drv_read(rr->d, first.addr, w->copy, (w->left + 1) * sizeof(w->copy[0]));
    w->table = w->copy;
    w->at = split_desc_load(&w->table[0]);
    return usable(w, rr);
}

enum drop_reason walk_next(struct walk *w, const struct random_ring *rr)
{
    if (w->at.next >= w->n)
        return DROP_chain_next;
    if (w->left-- == 0)
        return DROP_chain_loop;
    w->steps++;
    w->at = split_desc_load(&w->table[w->at.next]);
    return usable(w, rr);
}
