/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_igb_life.c - the igb driver on its model: open, start, stop, link,
 * interrupts, counters, and a device that does not do as it is told.
 */
#include <errno.h>

#include "harness.h"
#include "nic/rig.h"
#include "nic/nic_counter.h"

static const struct rig_flow flow4 = { .from = 0x0a000001, .to = 0x0a000002, .sport = 1000, .dport = 80,
                                       .flags = 0x10 };

static uint8_t frame[16384];

TEST(opens_and_finds_its_address)
{
    struct rig *const r = rig_create(&rig_igb, rig_igb.device);

    REQUIRE(r);
    CHECK_EQ(r->n.driver->open(&r->n), 0);
    CHECK_MEM(r->n.mac, "\x00\x1b\x21\x12\x34\x56", 6);
    CHECK_EQ(atomic_load(&r->n.port.offloads), OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN);
    CHECK_EQ(r->igb.resets, 1);
    CHECK(rig_down(r));
}

/* As QEMU's. */
TEST(an_eeprom_and_firmware_that_never_say_they_are_done)
{
    const struct nic_config cfg = rig_config();
    struct rig *const r = rig_create(&rig_igb, rig_igb.device);

    REQUIRE(r);
    r->igb.no_ard = r->igb.no_cfg_done = true;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(rig_down(r));
}

TEST(every_device_of_the_table_is_known)
{
    for (const struct nic_id *id = igb_driver.ids; id->vendor; id++) {
        CHECK_EQ(id->vendor, 0x8086);
        CHECK(id->name && id->name[0]);
        for (const struct nic_id *other = igb_driver.ids; other != id; other++)
            CHECK(other->device != id->device);
    }
}

TEST(starts_and_stops_again_and_again)
{
    struct nic_config cfg = rig_config();
    struct rig *const r = rig_create(&rig_igb, rig_igb.device);

    REQUIRE(r);
    for (uint32_t i = 1; i <= 8; i++) {
        cfg.n_queues = i;
        cfg.ring_size = 128 + 8 * i;
        r->n.irq = (struct nic_irq){ .n = i + 1, .msix = true };
        CHECK_EQ(rig_start(r, &cfg), 0);
        CHECK_EQ(igm_receive(&r->igb, frame, rig_packet(frame, &flow4, 100)) >= 0, 1);
        for (uint32_t q = 0, got = 0; q < i; q++) {
            got += rig_rx(r, q);
            rig_complete(r, q);
            CHECK(q + 1 < i || got == 1);
        }
        r->n.driver->stop(&r->n);
        r->n.driver->stop(&r->n);
    }
    CHECK(rig_down(r));
}

TEST(more_queues_than_the_adapter_has_are_refused)
{
    struct nic_config cfg = rig_config();
    struct rig *const r = rig_create(&rig_igb, 0x1539);

    REQUIRE(r);
    cfg.n_queues = 3;
    CHECK_EQ(rig_start(r, &cfg), -EINVAL);
    CHECK(rig_down(r));
}

TEST(a_device_that_does_not_answer_is_reported)
{
    const struct nic_config cfg = rig_config();

    for (unsigned fault = 0; fault < 8; fault++) {
        struct rig *const r = rig_create(&rig_igb, rig_igb.device);
        int rc;

        REQUIRE(r);
        r->igb.gone = fault == 0;
        r->igb.no_eeprom = fault == 1;
        r->igb.no_phy = fault == 2;
        r->igb.phy_error = fault == 3;
        r->igb.never_reset = fault == 4;
        r->igb.rx_stuck = fault == 5;
        r->igb.tx_stuck = fault == 6;
        if (fault == 7)
            r->n.bar[0].size = IGM_BAR_SIZE / 2;
        rc = rig_start(r, &cfg);
        CHECK_EQ(rc, fault == 7 ? -ENODEV : fault == 5 || fault == 6 ? -ETIMEDOUT : -EIO);
        CHECK_EQ(r->igb.e.breaches, 0);
        rig_destroy(r);
    }
}

TEST(a_device_that_goes_away_at_any_access_ends_the_start)
{
    const struct nic_config cfg = rig_config();
    struct rig *r = rig_up(&rig_igb, 1, 128, 1514);
    uint64_t accesses;

    REQUIRE(r);
    accesses = r->igb.accesses;
    CHECK(rig_down(r));
    for (uint64_t at = 1; at < accesses; at += 3) {
        r = rig_create(&rig_igb, rig_igb.device);
        REQUIRE(r);
        r->igb.gone_in = at;
        (void)rig_start(r, &cfg);
        r->n.driver->stop(&r->n);
        if (r->n.priv)
            CHECK_EQ(rig_state(r).link_up, 0);
        rig_destroy(r);
    }
}

TEST(a_queue_that_does_not_stop_is_stopped_by_the_reset)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);

    REQUIRE(r);
    r->igb.rx_on = r->igb.tx_on = 1;
    r->igb.master_busy = true;
    CHECK(rig_down(r));
}

TEST(link_goes_up_and_down)
{
    struct rig *const r = rig_up(&rig_igb, 2, 128, 1514);
    struct us_nic_state s;

    REQUIRE(r);
    s = rig_state(r);
    CHECK_EQ(s.link_up, 1);
    CHECK_EQ(s.speed_mbps, 1000);
    CHECK_EQ(s.full_duplex, 1);
    CHECK_EQ(r->igb.fired[2], 1);     /* it came up before anybody listened */
    r->n.driver->other(&r->n);
    igm_link(&r->igb, false);
    CHECK_EQ(r->igb.fired[2], 2);
    r->n.driver->other(&r->n);
    s = rig_state(r);
    CHECK_EQ(s.link_up, 0);
    CHECK_EQ(s.speed_mbps, 0);
    CHECK_EQ(s.link_changes, 2);
    igm_link(&r->igb, true);
    CHECK_EQ(r->igb.fired[2], 3);
    r->n.driver->other(&r->n);
    s = rig_state(r);
    CHECK_EQ(s.link_up, 1);
    CHECK_EQ(s.link_changes, 3);
    CHECK_EQ(atomic_load(&r->n.failed), 0);
    CHECK(rig_down(r));
}

TEST(an_error_of_the_device_fences_the_port)
{
    static const uint32_t causes[] = { 1u << 22, 1u << 28, 1u << 30 };

    for (unsigned i = 0; i < 3; i++) {
        struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);

        REQUIRE(r);
        igm_cause(&r->igb, causes[i]);
        CHECK_EQ(r->igb.fired[1], 2);     /* the link was the first */
        r->n.driver->other(&r->n);
        CHECK_EQ(atomic_load(&r->n.failed), 1);
        CHECK_EQ(atomic_load(&r->n.port.broken), BREAK_nic_error);
        CHECK(rig_down(r));
    }
}

TEST(a_device_that_is_gone_fences_the_port)
{
    for (unsigned i = 0; i < 2; i++) {
        struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);

        REQUIRE(r);
        r->igb.gone = true;
        if (i == 0)
            r->n.driver->other(&r->n);
        else
            (void)rig_state(r);
        CHECK_EQ(atomic_load(&r->n.port.broken), BREAK_device_gone);
        rig_destroy(r);
    }
}

TEST(an_armed_queue_fires_once)
{
    struct rig *const r = rig_up(&rig_igb, 2, 128, 1514);
    const uint32_t len = rig_packet(frame, &flow4, 100);
    uint32_t q;

    REQUIRE(r);
    q = (uint32_t)igm_receive(&r->igb, frame, len);
    REQUIRE(q < 2);
    CHECK_EQ(r->igb.fired[q], 0);
    /* The frame is older than the arming: told at once, and by the message, since nothing was lost. */
    CHECK(r->n.driver->arm(&r->n.queue[q]));
    CHECK_EQ(r->igb.fired[q], 1);
    CHECK_EQ(rig_rx(r, q), 1);
    rig_complete(r, q);
    CHECK_EQ(igm_receive(&r->igb, frame, len), q);
    CHECK_EQ(r->igb.fired[q], 1);         /* masked by its message */
    CHECK_EQ(rig_rx(r, q), 1);
    rig_complete(r, q);
    r->n.driver->disarm(&r->n.queue[q]);
    (void)r->n.driver->arm(&r->n.queue[q]);
    CHECK_EQ(igm_receive(&r->igb, frame, len), q);
    CHECK(r->igb.fired[q] >= 2);
    CHECK_EQ(r->igb.fired[1 - q], 0);
    r->n.driver->disarm(&r->n.queue[q]);
    CHECK(rig_down(r));
}

TEST(a_queue_without_a_vector_is_polled)
{
    const struct nic_config cfg = rig_config();
    struct rig *const r = rig_create(&rig_igb, rig_igb.device);

    REQUIRE(r);
    r->n.irq = (struct nic_irq){ .n = 1, .msix = false };
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(r->n.driver->arm(&r->n.queue[0]));
    r->n.driver->disarm(&r->n.queue[0]);
    r->n.driver->other(&r->n);          /* polled as well */
    CHECK_EQ(rig_state(r).link_changes, 1);
    CHECK(rig_down(r));
}

TEST(moderation_is_what_was_asked_for)
{
    struct nic_config cfg = rig_config();
    struct rig *const r = rig_create(&rig_igb, rig_igb.device);

    REQUIRE(r);
    cfg.irq_us = 50;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK_EQ(r->igb.reg[0x1680 / 4] & 0x7ffc, 50 << 2);
    r->n.driver->stop(&r->n);
    cfg.irq_us = 1000000;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK_EQ(r->igb.reg[0x1680 / 4] & 0x7ffc, 0x7ffc);
    CHECK(rig_down(r));
}

TEST(counters_only_grow)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);
    const struct nic_config cfg = rig_config();
    uint64_t *c;
    struct us_nic_state s;

    REQUIRE(r);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(igm_receive(&r->igb, frame, rig_packet(frame, &flow4, 100)), 0);
        CHECK_EQ(rig_tx(r, 0, frame, 166, US_VID_UNTAGGED, NULL), DROP_none);
        s = rig_state(r);
    }
    memset(frame, 0xff, 6);
    CHECK_EQ(igm_receive(&r->igb, frame, 166), 0);
    CHECK_EQ(rig_tx(r, 0, frame, 166, US_VID_UNTAGGED, NULL), DROP_none);
    CHECK_EQ(igm_receive(&r->igb, frame, 1520), -1);
    s = rig_state(r);
    c = s.counter;
    CHECK_EQ(c[NIC_COUNTER_rx_packets], 4);
    CHECK_EQ(c[NIC_COUNTER_rx_bytes], 4 * 170);
    CHECK_EQ(c[NIC_COUNTER_rx_broadcast], 1);
    CHECK_EQ(c[NIC_COUNTER_rx_length_errors], 1);
    CHECK_EQ(c[NIC_COUNTER_tx_packets], 4);
    CHECK_EQ(c[NIC_COUNTER_tx_bytes], 4 * 170);
    CHECK_EQ(c[NIC_COUNTER_tx_broadcast], 1);
    /* A reset clears the device's, not ours; a device that is gone adds nothing. */
    r->n.driver->stop(&r->n);
    CHECK_EQ(rig_start(r, &cfg), 0);
    s = rig_state(r);
    CHECK_EQ(c[NIC_COUNTER_rx_packets], 4);
    r->igb.gone = true;
    s = rig_state(r);
    CHECK_EQ(c[NIC_COUNTER_rx_packets], 4);
    CHECK_EQ(c[NIC_COUNTER_rx_crc_errors], 0);
    r->igb.gone = false;
    CHECK(rig_down(r));
}

MAIN
{
    RUN(opens_and_finds_its_address);
    RUN(an_eeprom_and_firmware_that_never_say_they_are_done);
    RUN(every_device_of_the_table_is_known);
    RUN(starts_and_stops_again_and_again);
    RUN(more_queues_than_the_adapter_has_are_refused);
    RUN(a_device_that_does_not_answer_is_reported);
    RUN(a_device_that_goes_away_at_any_access_ends_the_start);
    RUN(a_queue_that_does_not_stop_is_stopped_by_the_reset);
    RUN(link_goes_up_and_down);
    RUN(an_error_of_the_device_fences_the_port);
    RUN(a_device_that_is_gone_fences_the_port);
    RUN(an_armed_queue_fires_once);
    RUN(a_queue_without_a_vector_is_polled);
    RUN(moderation_is_what_was_asked_for);
    RUN(counters_only_grow);
}
