/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Positions in a packed ring, and the walk to the end of a chain in it, for
 * every size of ring and everything a driver can write into it.
 *
 * Proven:
 *   - packed_add() stays in the ring, goes on where it stopped, and
 *     packed_distance() is its inverse up to a whole turn;
 *   - a descriptor is available in one turn only, and what packed_put_used()
 *     stores is available in none: nothing is taken twice;
 *   - packed_cursor_next() loads inside the ring, goes to the neighbour and
 *     counts: a walk ends at the ring's size at the latest;
 *   - packed_cursor_end() ends at a descriptor that is the last one, of a chain
 *     no longer than there is room for, or breaks the port.
 *
 * Bound: packed_cursor_end(), the one loop, on rings of up to SIZE descriptors;
 * all others on rings of any size.
 *
 * CBMC: -DSIZE=6 --unwind 7 --unwinding-assertions
 * DEEP: -DSIZE=24 --unwind 25 --unwinding-assertions
 *
 * BUG wrap_lost vhost/virtq_packed.h
 *   - ((pos & PACKED_WRAP) ^ PACKED_WRAP) | (index - size));
 *   + (pos & PACKED_WRAP) | (index - size));
 *   ! how far it is
 * BUG used_looks_available vhost/virtq_packed.h
 *   - return pos & PACKED_WRAP ? (uint64_t)PACKED_LAYOUT_FLAGS << 48 : 0;
 *   + return pos & PACKED_WRAP ? (uint64_t)VIRTQ_DESC_F_AVAIL << 48 : 0;
 *   ! nothing is available any more
 * BUG longer_than_the_ring vhost/virtq_packed.h
 *   - if (c->n >= size || !packed_load(map, pos, d))
 *   + if (c->n > size || !packed_load(map, pos, d))
 *   ! no chain is longer than the ring
 * BUG room_ignored vhost/virtq_packed.h
 *   - if (c->more || c->n > room) {
 *   + if (c->more) {
 *   ! there is room for the chain
 */
#include "proof.h"

#include "vhost/virtq_packed.h"

static struct port guest;

void port_break(struct port *p, uint32_t ring, enum break_reason reason, uint64_t detail)
{
    (void)ring;
    (void)detail;
    CLAIM(reason < BREAK_COUNT, "a reason has a name");
    p->broken = reason;
}

static uint16_t any_pos(uint32_t size)
{
    const uint16_t pos = nondet_u16();

    ASSUME((pos & PACKED_INDEX) < size);
    return pos;
}

static uint32_t any_size(uint32_t most)
{
    const uint32_t size = nondet_u32();

    ASSUME(size >= 2 && size <= most);
    return size;
}

static void positions(void)
{
    const uint32_t size = any_size(US_RING_SIZE_MAX), a = nondet_u32(), b = nondet_u32();
    const uint16_t pos = any_pos(size);
    uint16_t there;

    ASSUME(a <= size && b <= size - a);
    there = packed_add(pos, a, size);
    CLAIM((there & PACKED_INDEX) < size, "a position lies in the ring");
    CLAIM(packed_distance(pos, there, size) == a, "how far it is is how far one went");
    CLAIM(packed_add(there, b, size) == packed_add(pos, a + b, size), "two ways are one");
}

static void turns(void)
{
    const uint32_t size = any_size(US_RING_SIZE_MAX);
    const uint16_t pos = any_pos(size);
    const uint64_t state = nondet_u64();
    struct virtq_map map = { .ring = any_bytes(VRING_DESC_BYTES(size)) };

    CLAIM(!packed_is_avail(state, pos) || !packed_is_avail(state, pos ^ PACKED_WRAP), "available in one turn only");
    packed_put_used(&map, pos, nondet_u16(), nondet_u32());
    CLAIM(!packed_is_avail(guest_stored64, pos) &&
          !packed_is_avail(guest_stored64, pos ^ PACKED_WRAP), "nothing is available any more");
}

static struct packed_cursor any_cursor(uint32_t size)
{
    const struct packed_cursor c = { any_pos(size), nondet_u16(), nondet_u16(), nondet_bool() };

    ASSUME(c.n >= 1 && c.n <= size);
    return c;
}

static void step(void)
{
    const uint32_t size = any_size(US_RING_SIZE_MAX);
    const struct virtq_map map = { .ring = any_bytes(VRING_DESC_BYTES(size)) };
    struct packed_cursor c = any_cursor(size);
    const struct packed_cursor before = c;
    struct desc d;

    if (!packed_cursor_next(&c, &map, size, &d))
        return;
    CLAIM(packed_is_avail((uint64_t)d.flags << 48, c.pos), "what was loaded is available");
    CLAIM(c.pos == packed_add(before.pos, 1, size), "the next one is the neighbour");
    CLAIM(c.n == before.n + 1, "every step is counted");
    CLAIM(c.n <= size, "no chain is longer than the ring");
    CLAIM(c.id == d.next && c.more == (bool)(d.flags & VRING_DESC_F_NEXT), "the cursor is the descriptor's");
}

static void end(void)
{
    const uint32_t size = any_size(SIZE), room = nondet_u32();
    const struct virtq_map map = { .ring = any_bytes(VRING_DESC_BYTES(size)) };
    struct virtq vq = { .mask = (uint16_t)(size - 1), .port = &guest };
    struct packed_cursor c = any_cursor(size);

    ASSUME(room <= size);
    guest.broken = BREAK_none;
    if (packed_cursor_end(&c, &vq, &map, room)) {
        CLAIM(!c.more && guest.broken == BREAK_none, "it is the last one");
        CLAIM(c.n <= room, "there is room for the chain");
    } else {
        CLAIM(guest.broken == BREAK_ring_chain, "the port is broken");
    }
}

int main(void)
{
    positions();
    turns();
    step();
    end();
    return 0;
}
