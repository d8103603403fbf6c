/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_state.c - the ixgbe driver on the model, apart from frames'
 * bytes: RSS, filters, link, counters.
 */
#include "harness.h"
#include "nic/rig.h"
#include "nic/nic_counter.h"

static uint8_t data[2048];

static const uint8_t broadcast[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };

/* ---- RSS and filters ---- */

TEST(flows_are_spread_and_stay_together)
{
    static const uint16_t devices[] = { IXM_82599, IXM_X550 };

    for (unsigned d = 0; d < 2; d++)
        for (uint32_t queues = 2; queues <= 8; queues += 3) {
            struct rig *r = rig_create(&rig_ixgbe, devices[d]);
            struct nic_config cfg = rig_config();
            unsigned share[8] = { 0 };

            REQUIRE(r);
            cfg.n_queues = queues;
            cfg.ring_size = 1024;
            CHECK_EQ(rig_start(r, &cfg), 0);
            for (uint32_t i = 0; i < 1600; i++) {
                const struct rig_flow flow = { .ip6 = i & 1, .udp = i & 2, .from = i, .to = 1, .sport = (uint16_t)i,
                                               .dport = 80, .flags = 0x10 };
                const uint32_t len = rig_packet(data, &flow, 40);
                const int q = ixm_receive(&r->ixgbe, data, len);

                REQUIRE(q >= 0 && (uint32_t)q < queues);
                CHECK_EQ(ixm_receive(&r->ixgbe, data, len), q);
                share[q]++;
                CHECK_EQ(rig_rx(r, (uint32_t)q), 2);
                rig_complete(r, (uint32_t)q);
            }
            /* A secret key: it is not known how well, but no queue starves. */
            for (uint32_t q = 0; q < queues; q++)
                CHECK(share[q] > 1600 / queues / 4);
            CHECK(rig_stop(r));
            rig_destroy(r);
        }
}

TEST(the_key_is_another_one_each_time)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    uint32_t first[10];

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    memcpy(first, &r->ixgbe.reg[0x5c80 / 4], sizeof(first));
    r->n.driver->stop(&r->n);
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(memcmp(first, &r->ixgbe.reg[0x5c80 / 4], sizeof(first)) != 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(a_switch_hears_everybody)
{
    for (unsigned promiscuous = 0; promiscuous < 2; promiscuous++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_config();
        uint8_t frame[60] = { 0 };

        REQUIRE(r);
        cfg.promiscuous = promiscuous;
        CHECK_EQ(rig_start(r, &cfg), 0);
        memcpy(frame, r->ixgbe.mac, 6);
        CHECK_EQ(ixm_receive(&r->ixgbe, frame, sizeof(frame)), 0);
        CHECK_EQ(ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast)), 0);
        frame[5] ^= 1;
        CHECK_EQ(ixm_receive(&r->ixgbe, frame, sizeof(frame)), promiscuous ? 0 : -1);
        frame[0] = 1;
        CHECK_EQ(ixm_receive(&r->ixgbe, frame, sizeof(frame)), promiscuous ? 0 : -1);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

/* ---- link ---- */

TEST(link_and_speed_are_told)
{
    static const struct {
        uint16_t device;
        uint32_t links, mbps;
    } cases[] = {
        { IXM_82599, 3, 10000 }, { IXM_82599, 2, 1000 }, { IXM_82599, 1, 100 }, { IXM_82599, 0, 0 },
        { IXM_X540, 3, 10000 }, { IXM_X550, 3, 10000 },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *r = rig_create(&rig_ixgbe, cases[i].device);
        const struct nic_config cfg = rig_config();
        struct us_nic_state state;

        REQUIRE(r);
        CHECK_EQ(rig_start(r, &cfg), 0);
        ixm_link(&r->ixgbe, true, cases[i].links);
        state = rig_state(r);
        CHECK_EQ(state.link_up, 1);
        CHECK_EQ(state.speed_mbps, cases[i].mbps);
        CHECK_EQ(state.full_duplex, 1);
        ixm_link(&r->ixgbe, false, cases[i].links);
        state = rig_state(r);
        CHECK_EQ(state.link_up, 0);
        CHECK_EQ(state.speed_mbps, 0);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

TEST(every_change_of_the_link_is_noticed)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 1; i <= 6; i++) {
        ixm_link(&r->ixgbe, i % 2 == 0, 3);
        CHECK_EQ(r->ixgbe.fired[1], i);
        r->n.driver->other(&r->n);
        CHECK_EQ(rig_state(r).link_up, i % 2 == 0);
    }
    CHECK_EQ(atomic_load(&r->n.failed), 0);
    /* What is of no interest neither fires nor fails. */
    ixm_cause(&r->ixgbe, 1u << 16 | 1u << 17);
    CHECK_EQ(r->ixgbe.fired[1], 6);
    r->n.driver->other(&r->n);
    CHECK_EQ(atomic_load(&r->n.failed), 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* The laser that a kernel driver switched off is on again, and a link mode of 1 Gbit/s is left. */
TEST(an_sfp_port_is_put_to_10_gbit)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    r->ixgbe.reg[0x20 / 4] = 8;
    r->ixgbe.eeprom_lms = 2;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x20) & 8, 0);
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x42a0) >> 13 & 7, 3);
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x42a8) >> 16 & 3, 2);
    CHECK(ixm_reg(&r->ixgbe, 0x42a0) & 1u << 12);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(a_backplane_keeps_its_mode)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599_KX4);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    r->ixgbe.eeprom_lms = 6;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x42a0) >> 13 & 7, 6);
    CHECK(ixm_reg(&r->ixgbe, 0x42a0) & 1u << 12);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* ---- counters ---- */

TEST(counters_add_up_over_reads_and_restarts)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    struct us_nic_state state;
    uint8_t multicast[60] = { 1 };
    uint64_t frames = 0;

    REQUIRE(r);
    for (unsigned round = 0; round < 3; round++) {
        CHECK_EQ(rig_start(r, &cfg), 0);
        for (unsigned i = 0; i < 10; i++) {
            ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
            ixm_receive(&r->ixgbe, multicast, sizeof(multicast));
            ixm_receive(&r->ixgbe, multicast, 30);
            ixm_receive(&r->ixgbe, data, 1600);
            rig_rx(r, 0);
            rig_complete(r, 0);
            rig_tx(r, 0, broadcast, sizeof(broadcast), US_VID_UNTAGGED, NULL);
            rig_tx(r, 0, multicast, sizeof(multicast), US_VID_UNTAGGED, NULL);
            frames += 2;
            if (i % 3 == 0)
                (void)rig_state(r);
        }
        r->n.driver->stop(&r->n);
    }
    CHECK_EQ(rig_start(r, &cfg), 0);
    state = rig_state(r);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_packets], frames);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_bytes], frames * 64);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_broadcast], frames / 2);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_multicast], frames / 2);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_length_errors], frames);
    CHECK_EQ(state.counter[NIC_COUNTER_tx_packets], frames);
    CHECK_EQ(state.counter[NIC_COUNTER_tx_bytes], frames * 64);
    CHECK_EQ(state.counter[NIC_COUNTER_tx_broadcast], frames / 2);
    CHECK_EQ(state.counter[NIC_COUNTER_tx_multicast], frames / 2);
    CHECK_EQ(state.counter[NIC_COUNTER_tx_errors], US_NIC_COUNTER_NONE);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(byte_counters_have_36_bits)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    r->ixgbe.counter_bytes_rx = 0x912345678;
    r->ixgbe.counter_bytes_tx = 0xfffffffff;
    CHECK_EQ(rig_state(r).counter[NIC_COUNTER_rx_bytes], 0x912345678);
    r->ixgbe.counter_bytes_rx = 0xfffffffff;
    CHECK_EQ(rig_state(r).counter[NIC_COUNTER_rx_bytes], 0x912345678 + 0xfffffffff);
    CHECK_EQ(rig_state(r).counter[NIC_COUNTER_tx_bytes], 0xfffffffff);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* Each error has its register; those of one kind add up. */
TEST(errors_are_counted_by_kind)
{
    static const struct {
        uint32_t reg;
        enum nic_counter counter;
    } cases[] = {
        { 0x4000, NIC_COUNTER_rx_crc_errors }, { 0x4004, NIC_COUNTER_rx_errors }, { 0x4008, NIC_COUNTER_rx_errors },
        { 0x4040, NIC_COUNTER_rx_length_errors }, { 0x40a4, NIC_COUNTER_rx_length_errors },
        { 0x40a8, NIC_COUNTER_rx_length_errors }, { 0x40ac, NIC_COUNTER_rx_length_errors },
        { 0x40b0, NIC_COUNTER_rx_length_errors }, { 0x3fa0, NIC_COUNTER_rx_missed },
        { 0x1430, NIC_COUNTER_rx_missed }, { 0x41a4, NIC_COUNTER_rx_pause }, { 0x41a8, NIC_COUNTER_rx_pause },
        { 0x3f60, NIC_COUNTER_tx_pause }, { 0x3f68, NIC_COUNTER_tx_pause },
    };
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    uint64_t want[NIC_COUNTER_COUNT] = { 0 };

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ixm_count(&r->ixgbe, cases[i].reg, 1u << i);
        want[cases[i].counter] += 1u << i;
        CHECK_EQ(rig_state(r).counter[cases[i].counter], want[cases[i].counter]);
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* Counts from before the start, somebody else's, are not ours. */
TEST(old_counts_are_forgotten)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    r->ixgbe.keep_counters = true;
    ixm_count(&r->ixgbe, 0x4074, 1000);
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK_EQ(rig_state(r).counter[NIC_COUNTER_rx_packets], 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

MAIN
{
    RUN(flows_are_spread_and_stay_together);
    RUN(the_key_is_another_one_each_time);
    RUN(a_switch_hears_everybody);
    RUN(link_and_speed_are_told);
    RUN(every_change_of_the_link_is_noticed);
    RUN(an_sfp_port_is_put_to_10_gbit);
    RUN(a_backplane_keeps_its_mode);
    RUN(counters_add_up_over_reads_and_restarts);
    RUN(byte_counters_have_36_bits);
    RUN(errors_are_counted_by_kind);
    RUN(old_counts_are_forgotten);
}
