/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_rsc.c - receive side coalescing: what the model joins becomes
 * segmentation requests that hold every byte, several at once, and cut again
 * to the same stream.
 */
#include "harness.h"
#include "nic/rig.h"
#include "offload.h"

static uint8_t data[US_FRAME_MAX], got[US_FRAME_MAX];

/* A frame of the last burst is the request that a stream of so many bytes makes. */
static void check_request(const struct rig *r, uint32_t index, const struct rig_flow *first, uint32_t payload,
                          uint32_t mss)
{
    const struct frame *f = &r->b.frame[index];
    static uint8_t want[US_FRAME_MAX];
    const uint32_t len = rig_packet(want, first, payload);
    struct nic_packet p, q;

    nic_packet_parse(want, len, &p);
    if (!CHECK_EQ(f->len, len) || !CHECK_EQ(rig_bytes(f, got, sizeof(got)), len))
        return;
    CHECK_EQ(f->vnet.flags, VNET_NEEDS_CSUM);
    CHECK_EQ(f->vnet.gso_type, VNET_GSO_TCPV4);
    CHECK_EQ(f->vnet.gso_size, mss);
    CHECK_EQ(f->vnet.csum_start, p.l4);
    CHECK_EQ(f->vnet.csum_offset, 16);
    CHECK_EQ(f->vnet.hdr_len, p.payload);
    nic_packet_parse(got, len, &q);
    CHECK_EQ(q.end, len);
    CHECK(nic_ip_csum_is_right(got, &q));
    CHECK_EQ(nic_get16(got + q.l4 + 16), nic_pseudo_sum(got, &q, len - q.l4));
    CHECK_MEM(got + p.payload, want + p.payload, payload);
}

TEST(segments_are_joined)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_rsc_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (uint32_t n = 2; n <= 20; n++) {
        struct rig_flow flow = { .tagged = n & 1, .from = 1, .to = 2, .sport = 3, .dport = 4, .seq = n * 1000 };
        struct rig_flow first = flow;

        first.flags = 0x18;
        rig_arrive(r, &flow, n, 1448, true);
        REQUIRE(CHECK_EQ(rig_rx(r, 0), 1));
        check_request(r, 0, &first, n * 1448, 1448);
        CHECK(offload_fits(&r->b.frame[0], OFFLOAD_CSUM | OFFLOAD_TSO4));
        rig_complete(r, 0);
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(what_is_not_joined_comes_as_it_is)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_rsc_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 0; i < 200; i++) {
        const struct rig_flow flow = { .ip6 = i & 1, .udp = i & 2, .from = i, .to = 2, .sport = 3, .dport = 4,
                                       .flags = i & 4 ? 0x18 : 0x11 };
        const uint32_t len = rig_packet(data, &flow, 1000 + i);

        CHECK_EQ(ixm_receive(&r->ixgbe, data, len), 0);
        REQUIRE(CHECK_EQ(rig_rx(r, 0), 1));
        CHECK_EQ(r->b.frame[0].vnet.flags, VNET_DATA_VALID);
        CHECK_EQ(rig_bytes(&r->b.frame[0], got, sizeof(got)), len);
        CHECK_MEM(got, data, len);
        rig_complete(r, 0);
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(the_timer_ends_what_gets_no_more)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_rsc_config();
    struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4, .seq = 5 }, first = flow;

    REQUIRE(r);
    first.flags = 0x10;
    CHECK_EQ(rig_start(r, &cfg), 0);
    rig_arrive(r, &flow, 5, 1000, false);
    CHECK_EQ(rig_rx(r, 0), 0);
    rig_complete(r, 0);
    CHECK(!r->n.driver->arm(&r->n.queue[0]));
    ixm_expire(&r->ixgbe, 0);
    CHECK_EQ(r->ixgbe.fired[0], 1);
    REQUIRE(CHECK_EQ(rig_rx(r, 0), 1));
    check_request(r, 0, &first, 5000, 1000);
    rig_complete(r, 0);
    /* One segment alone is no request. */
    rig_arrive(r, &flow, 1, 1000, false);
    CHECK_EQ(rig_rx(r, 0), 0);
    rig_complete(r, 0);
    ixm_expire(&r->ixgbe, 0);
    CHECK(r->n.driver->arm(&r->n.queue[0]));
    REQUIRE(CHECK_EQ(rig_rx(r, 0), 1));
    CHECK_EQ(r->b.frame[0].vnet.flags, VNET_DATA_VALID);
    rig_complete(r, 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* Flows that grow side by side, in an order drawn from a seed, end in any order: no byte is lost, or goes astray. */
TEST(many_flows_are_joined_at_once)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    struct nic_config cfg = rig_rsc_config();
    struct rig_flow flow[24];
    uint32_t seen[24] = { 0 };
    uint32_t seed = 12345;

    REQUIRE(r);
    cfg.ring_size = 256;
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (uint32_t i = 0; i < 24; i++)
        flow[i] = (struct rig_flow){ .from = 100 + i, .to = 2, .sport = 3, .dport = (uint16_t)i };
    for (unsigned step = 0; step < 6000; step++) {
        const uint32_t which = (seed = seed * 1103515245 + 12345) >> 16 & 31;

        if (which < 24)
            rig_arrive(r, &flow[which], 1, 200 + (seed >> 8) % 1200, seed >> 28 == 0);
        if (which == 24)
            ixm_expire(&r->ixgbe, 0);
        if (which < 27 && step != 5999)
            continue;
        if (step == 5999)
            ixm_expire(&r->ixgbe, 0);
        for (unsigned n = rig_rx(r, 0), i = 0; i < n; i++) {
            const struct frame *f = &r->b.frame[i];
            struct nic_packet p;
            uint32_t id, len;

            len = rig_bytes(f, got, sizeof(got));
            nic_packet_parse(got, len, &p);
            REQUIRE(p.l4 && len == f->len);
            id = nic_get16(got + p.l4 + 2);
            REQUIRE(id < 24);
            CHECK_EQ(nic_get32(got + p.l4 + 4), seen[id]);
            CHECK(f->vnet.gso_size <= 1400);
            seen[id] += len - p.payload;
        }
        rig_complete(r, 0);
    }
    while (rig_rx(r, 0))
        rig_complete(r, 0);
    for (uint32_t i = 0; i < 24; i++)
        CHECK_EQ(seen[i], flow[i].seq);
    CHECK_EQ(atomic_load(&r->n.failed), 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* Who cannot take a request gets the same stream in frames that the link could have carried. */
TEST(what_was_joined_is_cut_again)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_rsc_config();
    struct offload_scratch *scratch = offload_scratch_create();
    struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4, .seq = 9 }, first = flow;
    static uint8_t whole[US_FRAME_MAX];
    struct frame *out[BURST_MAX];
    uint32_t done = 0;
    unsigned n;

    REQUIRE(r && scratch);
    CHECK_EQ(rig_start(r, &cfg), 0);
    rig_arrive(r, &flow, 12, 1448, true);
    REQUIRE(CHECK_EQ(rig_rx(r, 0), 1));
    rig_packet(whole, &first, 12 * 1448);
    REQUIRE(CHECK_EQ(offload_begin(scratch, &r->b.frame[0], 0), DROP_none));
    while ((n = offload_next(scratch, out, BURST_MAX)) != 0)
        for (unsigned i = 0; i < n; i++) {
            struct nic_packet p;
            const uint32_t len = rig_bytes(out[i], got, sizeof(got));

            CHECK_EQ(len, 1514);
            nic_packet_parse(got, len, &p);
            CHECK(nic_ip_csum_is_right(got, &p) && nic_l4_csum_is_right(got, &p));
            CHECK_EQ(nic_get32(got + p.l4 + 4), 9 + done);
            CHECK_MEM(got + p.payload, whole + p.payload + done, len - p.payload);
            done += len - p.payload;
        }
    CHECK_EQ(done, 12 * 1448);
    rig_complete(r, 0);
    offload_scratch_destroy(scratch);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* Only if it is wanted, and the interrupt's timer outlasts the other (7.3.2.1.1). */
TEST(it_is_off_where_it_would_not_end)
{
    for (unsigned i = 0; i < 3; i++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_rsc_config();
        struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4 };

        REQUIRE(r);
        cfg.lro = i != 0;
        cfg.irq_us = i == 1 ? 0 : i == 2 ? 4 : 50;
        CHECK_EQ(rig_start(r, &cfg), 0);
        rig_arrive(r, &flow, 3, 1000, true);
        CHECK_EQ(rig_rx(r, 0), 3);
        rig_complete(r, 0);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

MAIN
{
    RUN(segments_are_joined);
    RUN(what_is_not_joined_comes_as_it_is);
    RUN(the_timer_ends_what_gets_no_more);
    RUN(many_flows_are_joined_at_once);
    RUN(what_was_joined_is_cut_again);
    RUN(it_is_off_where_it_would_not_end);
}
