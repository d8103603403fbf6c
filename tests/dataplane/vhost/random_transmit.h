/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * random_transmit.h - the transmitting half of test_virtq_random.c: a driver
 * that sends frames in chains of any shape, some of them malformed, and the
 * model that says what a worker takes out of them.
 */
#ifndef USWITCH_TESTS_RANDOM_TRANSMIT_H
#define USWITCH_TESTS_RANDOM_TRANSMIT_H

#include "vhost/random_guest.h"

/* Tags of an offer on the transmit ring: where in the pool the frame's bytes come from, and so on. */
enum { POOL_AT, WIRE_SEED, BYTES, TAGGED, SPOILED };

static struct burst b;
static uint64_t frames_in;

/* The header a guest sends: nothing, an offload request that may be valid, or noise. */
static uint32_t compose_sent(const struct offer *o)
{
    uint64_t s = o->tag[WIRE_SEED];
    uint32_t len = o->tag[BYTES];

    memset(want, 0, hdr_len());
    if (o->tag[WIRE_SEED]) {
        const struct vnet v = { .flags = one_in(&s, 8) ? (uint8_t)rnd(&s) : VNET_NEEDS_CSUM, .hdr_len = 54,
                                .gso_type = one_in(&s, 2) ? VNET_GSO_TCPV4 : 0, .gso_size = 1448,
                                .csum_start = one_in(&s, 8) ? (uint16_t)rnd(&s) : 34, .csum_offset = 16 };

        vnet_format(&v, 0, want);
    }
    memcpy(want + hdr_len(), pool + o->tag[POOL_AT], len);
    if (o->tag[TAGGED])
        memcpy(want + hdr_len() + 12, "\x81\x00\x00\x64", 4);
    return hdr_len() + len;
}

static uint32_t frame_bytes(void)
{
    switch (below(&seed, 12)) {
    case 0:
        return below(&seed, 20);
    case 1:
        return 14 + below(&seed, US_FRAME_MAX + 10);
    case 2:
        return 9000 + below(&seed, 30);
    case 3:
        return one_in(&seed, 4) ? US_FRAME_MAX - 1 + below(&seed, 3) : 64;
    default:
        return 14 + below(&seed, one_in(&seed, 4) ? 9000 : 1501);
    }
}

/* The bytes of a chain as they lie in memory now; returns how many, or the drop the walk ends with. */
static uint32_t read_chain(uint16_t head, enum drop_reason *why)
{
    uint64_t total = 0;

    for (*why = walk_first(&w, &tx, head); !*why; *why = walk_next(&w, &tx)) {
        total += w.at.len;
        if (total > hdr_len() + US_FRAME_MAX)
            *why = DROP_frame_long;
        else if (w.at.len && !in_memory(w.at.addr, w.at.len))
            *why = DROP_chain_addr;
        if (*why)
            return 0;
        if (w.at.len)
            drv_read(&d, w.at.addr, got + total - w.at.len, w.at.len);
        if (!(w.at.flags & VRING_DESC_F_NEXT))
            return (uint32_t)total;
    }
    return 0;
}

/* What comes back of a malformed chain is whatever lies there; it may meet other chains, so it is left alone. */
static void write_chain(const struct offer *o)
{
    const uint32_t len = compose_sent(o);
    enum drop_reason why = walk_first(&w, &tx, o->head);

    for (uint32_t at = 0; !why && !o->tag[SPOILED] && at < len; why = walk_next(&w, &tx)) {
        const uint32_t part = w.at.len < len - at ? w.at.len : len - at;

        drv_write(&d, w.at.addr, want + at, part);
        at += part;
        if (!(w.at.flags & VRING_DESC_F_NEXT))
            return;
    }
}

static void transmit_some(void)
{
    for (uint32_t n = below(&seed, one_in(&seed, 4) ? 70 : 10); n; n--) {
        const uint32_t bytes = frame_bytes(), parts = one_in(&seed, 3) ? 1 + below(&seed, 20) : 1;
        const bool spoil = one_in(&seed, 30);
        struct offer *const o = ring_offer(&tx, bytes + (one_in(&seed, 50) ? 0 : hdr_len()), parts, spoil);

        if (!o)
            break;
        o->tag[POOL_AT] = below(&seed, POOL_SIZE);
        o->tag[WIRE_SEED] = one_in(&seed, 3) ? 1 + rnd(&seed) % 1000000 : 0;
        o->tag[BYTES] = bytes;
        o->tag[TAGGED] = bytes >= 18 && one_in(&seed, 4);
        o->tag[SPOILED] = spoil;
        write_chain(o);
    }
    drv_publish(&d.tx);
}

/* What becomes of a chain of the guest's: DROP_none and the frame in got, after a header. */
static enum drop_reason model_taken(uint16_t head, uint32_t *total, struct vnet *v)
{
    uint32_t limit = 9014;
    enum drop_reason why;

    *v = (struct vnet){ 0 };
    *total = read_chain(head, &why);
    if (!why && *total < hdr_len())
        why = DROP_hdr_short;
    else if (!why && *total < hdr_len() + US_FRAME_MIN)
        why = DROP_frame_short;
    if (why)
        return why;
    why = vnet_parse(got, *total - hdr_len(), virtq_offloads(d.features, true), v);
    if (memcmp(got + hdr_len() + 12, "\x81\x00", 2) == 0)
        limit += 4;
    return !why && v->gso_type == 0 && *total - hdr_len() > limit ? DROP_frame_long : why;
}

static void check_taken(uint32_t n)
{
    uint64_t drop[DROP_COUNT] = { 0 }, bytes = 0;
    uint32_t frames = 0, id, len, total, steps = 0, taken = 0;
    const uint16_t pending = (uint16_t)(d.tx.avail_idx - tx_done);

    for (; drv_used(&d.tx, &id, &len); taken++) {
        const struct offer *const o = ring_at(&tx, (uint16_t)(tx_done + taken));
        struct vnet v;
        const enum drop_reason why = model_taken(o->head, &total, &v);

        steps += w.steps;
        CHECK_EQ(id, o->head);
        CHECK_EQ(len, 0);
        if (why) {
            drop[why]++;
            continue;
        }
        if (!CHECK(frames < n))
            break;
        memcpy(want, got + hdr_len(), total - hdr_len());
        CHECK_EQ(b.frame[frames].len, total - hdr_len());
        CHECK_EQ(drv_gather(&b.frame[frames], got, sizeof(got)), total - hdr_len());
        CHECK_MEM(got, want, total - hdr_len());
        CHECK_MEM(&b.frame[frames].vnet, &v, sizeof(v));
        bytes += total;
        frames++;
    }
    frames_in += frames;
    /* It may stop early for bytes, for steps, and before a loop, in case only its scatter entries were short. */
    if (taken < (pending < BURST_MAX / 2 ? pending : BURST_MAX / 2)) {
        struct vnet v;

        CHECK(steps > CHAIN_BURST / 2 || bytes + 2 * US_FRAME_MAX > BURST_BYTES ||
              (taken && model_taken(ring_at(&tx, (uint16_t)(tx_done + taken))->head, &total, &v) == DROP_chain_loop));
    }
    for (uint32_t i = 0; i < taken; i++) /* not before all have been looked at: malformed chains may meet */
        ring_return(&tx, tx_done++);
    CHECK_EQ(frames, n);
    CHECK_EQ(d.state->ring[1].last_avail, tx_done);
    CHECK_EQ(d.state->ring[1].used_idx, used_index(&d.tx));
    CHECK(bytes <= BURST_BYTES + US_FRAME_MAX && taken <= BURST_MAX);
    for (unsigned i = 0; i < DROP_COUNT; i++)
        CHECK_EQ(d.state->in[0].drop[i] - fate.count.drop[i], drop[i]);
}

/* A burst out of the transmit ring: taken, looked at, given back. */
static void take(void)
{
    struct rxq *const q = &d.port->rxq[0];
    const uint16_t old_idx = used_index(&d.tx);
    uint32_t n;

    random_event(&d.tx);
    (void)drv_calls(&d.tx);
    fate.count = d.state->in[0];
    n = d.port->ops->rx_burst(q, &b);
    CHECK_EQ(n, b.n);
    CHECK_EQ(used_index(&d.tx), old_idx);
    d.port->ops->rx_complete(q, &b);
    CHECK_EQ(drv_calls(&d.tx), wants_signal(&d.tx, old_idx, used_index(&d.tx)));
    check_taken(n);
}

/* Bytes that the guest sends are nobody's to change: until they are taken they are what was written. */
static void check_unsent(void)
{
    for (uint16_t i = tx_done; i != d.tx.avail_idx; i++) {
        const struct offer *const o = ring_at(&tx, i);
        enum drop_reason why;
        const uint32_t total = read_chain(o->head, &why);

        if (!o->tag[SPOILED] && !why)
            CHECK(total <= compose_sent(o) && memcmp(got, want, total) == 0);
    }
}

#endif /* USWITCH_TESTS_RANDOM_TRANSMIT_H */
