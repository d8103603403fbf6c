/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * One step along a descriptor chain, of a split ring and of a packed one,
 * direct and indirect: for every ring size, every descriptor and every table a
 * driver can write.
 *
 * The invariant: the walk knows how many descriptors may still follow (left),
 * fewer than the ring or table is long; the current one is no indirect one and
 * has the ring's direction.  Proven:
 *   - chain_first() establishes it from any head, or names a reason;
 *   - chain_next() keeps it from any state that has it, takes one off left, or
 *     names a reason: so a walk ends after 32767 steps at the latest, whatever
 *     the descriptors say and however they change meanwhile;
 *   - a direct descriptor is loaded inside the ring;
 *   - an indirect one is read inside the table as it was approved, at a whole
 *     number of descriptors: by pointer inside one mapping, by address without
 *     a wrap.
 *
 * Assumed: guest_mem_find(), guest_mem_covers() and guest_mem_read() do what
 * guest_mem.h says (prove_translate.c).
 *
 * CBMC: --unwind 2 --unwinding-assertions
 *
 * BUG loops_forever vhost/virtq_chain.h
 *   - c->left--;
 *   + c->left -= 0;
 *   ! every step uses up one
 * BUG next_not_checked vhost/virtq_chain.h
 *   - if (claimed_next >= c->table_len && (c->indirect || !c->packed))
 *   + if (claimed_next >= c->table_len && c->indirect)
 *   ! an index was compared with its bound
 * BUG table_too_long vhost/virtq_chain.h
 *   - c->table_len = d->len / (uint32_t)sizeof(struct vring_desc);
 *   + c->table_len = d->len / (uint32_t)sizeof(struct vring_desc) + 1;
 *   ! the table was approved as a whole
 * BUG table_crosses_border vhost/virtq_chain.h
 *   - if (span < d->len) {
 *   + if (span == 0) {
 *   ! R_OK(
 * BUG nested_table vhost/virtq_chain.h
 *   - if (c->d.flags & VRING_DESC_F_INDIRECT)
 *   + if (!c->indirect && (c->d.flags & VRING_DESC_F_INDIRECT))
 *   ! no indirect one
 * BUG packed_step_not_counted vhost/virtq_packed.h
 *   - (uint16_t)(c->n + 1), d->flags
 *   + (uint16_t)(c->n + 0), d->flags
 *   ! the place in the ring
 * BUG packed_table_without_end vhost/virtq_chain.h
 *   - c->more = i + 1 < c->table_len;
 *   + c->more = true;
 *   ! another one follows if
 */
#include "proof.h"

#include "vhost/virtq_chain.h"

/* What guest_mem_covers() or guest_mem_span() approved. */
static uint64_t table_at, table_bytes;

/* Any region; the one that holds an address, if one does. */
static struct guest_region region;

void on_copy(void *dst, const void *src, uint64_t len)
{
    (void)src;
    __CPROVER_havoc_slice(dst, len);
}

const struct guest_region *guest_mem_find(const struct guest_mem *mem, uint64_t gpa)
{
    (void)mem;
    return gpa - region.gpa < region.size && nondet_bool() ? &region : NULL;
}

bool guest_mem_covers(const struct guest_mem *mem, uint64_t gpa, uint64_t len)
{
    (void)mem;
    return len <= UINT64_MAX - gpa && nondet_bool();
}

bool guest_mem_read(const struct guest_mem *mem, const struct guest_region **hint, void *dst, uint64_t gpa,
                    uint32_t len)
{
    (void)mem;
    (void)hint;
    CLAIM(gpa >= table_at && gpa - table_at < table_bytes && len <= table_bytes - (gpa - table_at),
          "an indirect descriptor is read inside the approved table");
    CLAIM((gpa - table_at) % sizeof(struct vring_desc) == 0, "at a whole number of descriptors");
    CLAIM(__CPROVER_w_ok(dst, len), "into a descriptor");
    __CPROVER_havoc_slice(dst, len);
    return nondet_bool();
}

static void any_ring(struct virtq *vq, struct virtq_map *map)
{
    const uint32_t size = nondet_u32();

    vq->packed = nondet_bool();
    ASSUME(size >= 2 && size <= US_RING_SIZE_MAX && (vq->packed || (size & (size - 1)) == 0));
    vq->mask = (uint16_t)(size - 1);
    vq->indirect = nondet_bool();
    vq->index = nondet_u32();
    map->desc = any_bytes(VRING_DESC_BYTES(size));
    region.size = nondet_u64();
    region.gpa = nondet_u64();
    ASSUME(region.size >= 1 && region.size <= MAPPING_MAX && region.gpa <= UINT64_MAX - region.size);
    region.host = any_bytes(region.size);
}

static struct desc any_desc(void)
{
    return (struct desc){ nondet_u64(), nondet_u32(), nondet_u16(), nondet_u16() };
}

static bool right_direction(const struct chain *c, const struct virtq *vq)
{
    if (c->direction != (virtq_is_tx(vq) ? 0 : VRING_DESC_F_WRITE))
        return false;
    return (c->d.flags & VRING_DESC_F_WRITE) == c->direction || (c->packed && c->indirect && virtq_is_tx(vq));
}

static bool bounded(const struct chain *c, uint32_t size)
{
    const uint32_t most = size > CHAIN_INDIRECT_MAX ? size : CHAIN_INDIRECT_MAX;

    return c->left < c->table_len && c->left < most && (c->indirect || c->table_len == size);
}

/* A packed ring: the cursor and how many may follow go together; in a table, the index and its end. */
static bool placed(const struct chain *c, uint32_t size)
{
    if (!c->packed)
        return true;
    if (c->indirect)
        return c->left < c->table_len - c->at && c->at < c->table_len;
    return (c->cursor.pos & PACKED_INDEX) < size && c->cursor.n >= 1 && c->cursor.n + c->left == size;
}

static bool follows(const struct chain *c)
{
    if (!c->packed)
        return c->more == (bool)(c->d.flags & VRING_DESC_F_NEXT);
    return c->more == (c->indirect ? c->at + 1 < c->table_len : c->cursor.more);
}

static bool approved(const struct chain *c)
{
    return !c->indirect || (c->table == table_at && table_bytes == (uint64_t)c->table_len * sizeof(struct vring_desc));
}

static void claim_invariant(const struct chain *c, const struct virtq *vq)
{
    const uint32_t size = vq->mask + 1u;

    CLAIM(!(c->d.flags & VRING_DESC_F_INDIRECT), "the current descriptor is no indirect one");
    CLAIM(right_direction(c, vq), "the current descriptor has the ring's direction");
    CLAIM(bounded(c, size), "fewer may follow than the ring or table is long");
    CLAIM(placed(c, size), "the place in the ring or table goes with what may follow");
    CLAIM(follows(c), "another one follows if the layout says so");
    CLAIM(approved(c), "the table was approved as a whole");
}

static void first(const struct virtq *vq, const struct virtq_map *map)
{
    const struct guest_region *hint = &region;
    const uint16_t pos = nondet_u16();
    const struct desc d = any_desc();
    struct chain c;

    ASSUME(!vq->packed || (pos & PACKED_INDEX) <= vq->mask);
    table_at = d.addr;
    table_bytes = d.len;
    if (chain_first(&c, vq, map->mem, &hint, &d, pos) != DROP_none)
        return;
    claim_invariant(&c, vq);
    if (c.indirect && c.host)
        CLAIM(__CPROVER_r_ok(c.host, table_bytes), "the table lies in one mapping");
}

static void next(const struct virtq *vq, const struct virtq_map *map)
{
    const struct guest_region *hint = &region;
    struct chain c = { .d = any_desc(), .table_len = nondet_u32(), .at = nondet_u32(), .left = nondet_u32(),
                       .indirect = nondet_bool(), .packed = vq->packed, .more = true, .direction = nondet_u16(),
                       .cursor = { nondet_u16(), nondet_u16(), nondet_u16(), nondet_bool() } };
    const uint32_t size = vq->mask + 1u;
    uint32_t walked = nondet_u32(), left;
    const uint32_t before = walked;
    enum drop_reason why;

    c.table = table_at = nondet_u64();
    table_bytes = nondet_u64();
    ASSUME(table_bytes <= UINT32_MAX && table_bytes <= UINT64_MAX - table_at && walked < UINT32_MAX);
    ASSUME(right_direction(&c, vq) && bounded(&c, size) && placed(&c, size) && follows(&c) && approved(&c));
    if (c.indirect && nondet_bool())
        c.host = any_bytes(table_bytes);
    left = c.left;
    why = chain_next(&c, map, &hint, &walked);
    CLAIM(why < DROP_COUNT, "a reason has a name");
    if (why != DROP_none)
        return;
    CLAIM(left > 0 && c.left == left - 1, "every step uses up one of what is left");
    CLAIM(walked == before + 1, "every step is counted");
    claim_invariant(&c, vq);
}

int main(void)
{
    struct virtq vq;
    struct virtq_map map;

    any_ring(&vq, &map);
    first(&vq, &map);
    next(&vq, &map);
    return 0;
}
