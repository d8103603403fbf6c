/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_chain.h - walks one descriptor chain of a ring of either layout: next
 * pointers (split) or neighbours (packed), an indirect table, and nothing the
 * guest can make endless.  The general
 * path of both directions; the single direct descriptor that most frames are
 * does not come here.
 *
 * A walk never trusts an address: it yields private copies of descriptors
 * whose buffers the caller translates.  Two bounds end it: the length of the
 * ring (2.7.5.3.1: no chain is longer; a chain in an indirect table may fill
 * its table, since Linux sends 18 segments through a ring of 16), and for all
 * chains of a burst CHAIN_BURST steps, after which no further chain is begun:
 * a guest with the longest legal chains takes time from itself, not from its
 * neighbours.
 */
#ifndef USWITCH_VIRTQ_CHAIN_H
#define USWITCH_VIRTQ_CHAIN_H

#include "vhost/virtq_packed.h"
#include "vhost/virtq_split.h"

/* Descriptors of one chain in an indirect table, at most, if neither ring nor table is shorter. */
#define CHAIN_INDIRECT_MAX 1024
/* Descriptors in a cache line: a chain mostly goes on where it is, and its next line is wanted early. */
#define DESC_LINE 4
/* Steps along chains in one burst, then the burst ends: plenty for 64 frames of 18 segments. */
#define CHAIN_BURST 2048

/**
 * struct chain - a walk over one chain (worker's stack)
 * @d: the current descriptor, never an indirect one
 * @table: guest-physical address of the indirect table, if @indirect
 * @host: the same in our memory, if it lies in one region; else NULL
 * @table_len: descriptors in the table that d.next indexes
 * @at: packed: index of the current one in the indirect table
 * @left: descriptors that may still follow
 * @indirect: inside an indirect table
 * @packed: layout
 * @more: another one follows
 * @direction: VRING_DESC_F_WRITE for RX rings, 0 for TX rings
 * @cursor: packed: where in the ring we are
 */
struct chain {
    struct desc d;
    uint64_t table;
    const uint8_t *host;
    uint32_t table_len;
    uint32_t at;
    uint32_t left;
    bool indirect;
    bool packed;
    bool more;
    uint16_t direction;
    struct packed_cursor cursor;
};

/* Copy a descriptor of the indirect table; the table may cross regions. */
static inline bool chain_table_load(struct chain *c, const struct guest_mem *mem, const struct guest_region **hint,
                                    uint32_t i)
{
    union {
        struct vring_desc split;
        struct pvirtq_desc packed;
    } d;

    if (__builtin_expect(c->host != NULL, 1))
        guest_copy_const(&d, c->host + guest_index_nospec(i, c->table_len) * sizeof(d), sizeof(d));
    else if (!guest_mem_read(mem, hint, &d, c->table + (uint64_t)i * sizeof(d), sizeof(d)))
        return false;
    if (c->packed) {
        c->d = packed_desc(le64_to_cpu(d.packed.addr), le64_to_cpu(d.packed.state));
        c->at = i;
        c->more = i + 1 < c->table_len; /* 2.8.7: one after the other, NEXT means nothing here */
    } else {
        c->d = (struct desc){ le64_to_cpu(d.split.addr), le32_to_cpu(d.split.len), le16_to_cpu(d.split.flags),
                              le16_to_cpu(d.split.next) };
        c->more = c->d.flags & VRING_DESC_F_NEXT;
    }
    return true;
}

/* Is the current descriptor one this ring may use? */
static inline enum drop_reason chain_check(const struct chain *c)
{
    if (c->d.flags & VRING_DESC_F_INDIRECT)
        return DROP_chain_indirect; /* nested, or further down a chain */
    /*
     * In a packed ring's tables a widespread driver leaves WRITE set on what it transmits.  To read such a
     * buffer harms nobody; to write one that is not so marked would.
     */
    if (c->packed && c->indirect && !c->direction)
        return DROP_none;
    if ((c->d.flags & VRING_DESC_F_WRITE) != c->direction)
        return DROP_chain_direction;
    return DROP_none;
}

/**
 * chain_first() - begin a walk
 * @c: to fill
 * @vq: ring
 * @mem: table
 * @hint: region that was hit last
 * @d: the head descriptor, copied
 * @pos: packed: its position
 *
 * Return: DROP_none, or why the chain is malformed.
 */
static inline enum drop_reason chain_first(struct chain *c, const struct virtq *vq, const struct guest_mem *mem,
                                           const struct guest_region **hint, const struct desc *d, uint16_t pos)
{
    const uint32_t size = vq->mask + 1u;
    uint64_t span = 0;

    *c = (struct chain){ .d = *d, .table_len = size, .left = size - 1, .packed = vq->packed,
                         .more = d->flags & VRING_DESC_F_NEXT, .direction = virtq_is_tx(vq) ? 0 : VRING_DESC_F_WRITE,
                         .cursor = packed_cursor(pos, d) };
    if (d->flags & VRING_DESC_F_INDIRECT) {
        /* 2.7.5.3, 2.8.7: only if negotiated, not combined with NEXT, a whole number of descriptors. */
        if (!vq->indirect || (d->flags & VRING_DESC_F_NEXT) || d->len == 0 || d->len % sizeof(struct vring_desc))
            return DROP_chain_indirect;
        c->host = guest_mem_span(mem, hint, d->addr, d->len, &span);
        if (span < d->len) { /* or in none; over a border it is read piece by piece */
            c->host = NULL;
            if (!guest_mem_covers(mem, d->addr, d->len))
                return DROP_chain_indirect;
        }
        c->indirect = true;
        c->table = d->addr;
        c->table_len = d->len / (uint32_t)sizeof(struct vring_desc);
        c->left = size > CHAIN_INDIRECT_MAX ? size : CHAIN_INDIRECT_MAX;
        c->left = (c->table_len < c->left ? c->table_len : c->left) - 1;
        if (!chain_table_load(c, mem, hint, 0))
            return DROP_chain_indirect;
    }
    return chain_check(c);
}

static inline bool chain_has_next(const struct chain *c)
{
    return c->more;
}

/**
 * chain_next() - step to the next descriptor; only if chain_has_next()
 * @c: walk
 * @map: ring
 * @hint: region that was hit last
 * @walked: steps made in this burst, counted up
 *
 * Return: DROP_none, or why the chain is malformed.
 */
static inline enum drop_reason chain_next(struct chain *c, const struct virtq_map *map,
                                          const struct guest_region **hint, uint32_t *walked)
{
    const uint32_t claimed_next = c->packed ? c->at + 1 : c->d.next;

    if (claimed_next >= c->table_len && (c->indirect || !c->packed))
        return DROP_chain_next;
    if (c->left == 0)
        return DROP_chain_loop;
    c->left--;
    (*walked)++;
    if (c->indirect) {
        if (!chain_table_load(c, map->mem, hint, claimed_next))
            return DROP_chain_indirect;
    } else if (c->packed) {
        if (!packed_cursor_next(&c->cursor, map, c->table_len, &c->d))
            return DROP_chain_next;
        c->more = c->cursor.more;
    } else {
        c->d = split_desc_load(&map->desc[guest_index_nospec(claimed_next, c->table_len)]);
        guest_prefetch(&map->desc[(claimed_next + DESC_LINE) & (c->table_len - 1)]);
        c->more = c->d.flags & VRING_DESC_F_NEXT;
    }
    return chain_check(c);
}

#endif /* USWITCH_VIRTQ_CHAIN_H */
