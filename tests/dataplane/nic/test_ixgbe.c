/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe.c - life of the ixgbe driver on the model: open, start, stop,
 * failures of the device in each, recovery (threats V1, V2).
 */
#include <errno.h>

#include "harness.h"
#include "nic/rig.h"
#include "nic/nic_counter.h"

static const uint16_t devices[] = { IXM_82599, IXM_82599_KX4, IXM_X540, IXM_X550 };

/* Is every register back at what stop must leave: no receiving, no sending, no interrupts, bus quiet? */
static bool is_silent(const struct rig *r)
{
    return !(ixm_reg(&r->ixgbe, 0x3000) & 1) && !(ixm_reg(&r->ixgbe, 0x4a80) & 1) && ixm_reg(&r->ixgbe, 0x880) == 0;
}

TEST(table_is_complete)
{
    const struct nic_driver *d = &ixgbe_driver;

    CHECK_STR(d->name, "ixgbe");
    CHECK(d->open && d->start && d->stop && d->close && d->rx_burst && d->rx_complete && d->tx_burst);
    CHECK(d->arm && d->disarm && d->other && d->read && d->pool_size);
    CHECK_EQ(d->bars, 1);
    CHECK(d->queues_max >= 1 && d->queues_max <= US_QUEUES_MAX);
    CHECK_EQ(d->ring_min % d->ring_multiple, 0);
    CHECK_EQ(d->ring_max % d->ring_multiple, 0);
    CHECK(d->frame_max >= 9000 + 14);
    for (const struct nic_id *id = d->ids; id->vendor; id++) {
        CHECK_EQ(id->vendor, 0x8086);
        CHECK(id->name && *id->name);
    }
}

TEST(every_generation_starts_and_stops)
{
    for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        struct rig *r = rig_create(&rig_ixgbe, devices[i]);
        const struct nic_config cfg = rig_config();

        REQUIRE(r);
        CHECK_EQ(rig_start(r, &cfg), 0);
        CHECK_MEM(r->n.mac, r->ixgbe.mac, 6);
        CHECK(atomic_load(&r->n.port.offloads) & OFFLOAD_TSO4);
        CHECK(r->ixgbe.rx[0].on && r->ixgbe.tx[0].on);
        CHECK(rig_stop(r));
        CHECK(is_silent(r));
        CHECK_EQ(r->ixgbe.breaches, 0);
        rig_destroy(r);
    }
}

TEST(stop_is_legal_at_any_time)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(r->n.driver->open(&r->n), 0);
    r->n.driver->stop(&r->n);
    CHECK_EQ(rig_start(r, &cfg), 0);
    r->n.driver->stop(&r->n);
    r->n.driver->stop(&r->n);
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(every_number_of_queues_and_size_of_ring)
{
    static const uint32_t sizes[] = { 64, 128, 512, 1024, 4096 };

    for (uint32_t queues = 1; queues <= ixgbe_driver.queues_max; queues++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_config();

        REQUIRE(r);
        cfg.n_queues = queues;
        cfg.ring_size = sizes[queues % 5];
        cfg.max_frame = queues % 2 ? 1514 : ixgbe_driver.frame_max;
        CHECK_EQ(rig_start(r, &cfg), 0);
        for (uint32_t q = 0; q < queues; q++)
            CHECK(r->ixgbe.rx[q].on && r->ixgbe.tx[q].on);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

TEST(a_device_that_does_not_come_out_of_reset_is_refused)
{
    for (unsigned fault = 0; fault < 3; fault++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        const struct nic_config cfg = rig_config();

        REQUIRE(r);
        r->ixgbe.hold_reset = fault == 0;
        r->ixgbe.no_eeprom = fault == 1;
        r->ixgbe.no_dma_init = fault == 2;
        CHECK_EQ(rig_start(r, &cfg), -EIO);
        CHECK_EQ(r->ixgbe.rx[0].on, false);
        rig_destroy(r);
    }
}

TEST(firmware_that_says_nothing_is_no_obstacle)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    r->ixgbe.no_cfg_done = true;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(the_semaphore_is_waited_for)
{
    for (unsigned i = 0; i < 2; i++) {
        struct rig *r = rig_create(&rig_ixgbe, i ? IXM_X540 : IXM_82599);
        const struct nic_config cfg = rig_config();

        REQUIRE(r);
        r->ixgbe.firmware_holds = 5;
        CHECK_EQ(rig_start(r, &cfg), 0);
        CHECK_EQ(r->ixgbe.firmware_holds, 0);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

TEST(a_queue_that_is_not_enabled_fails_the_start)
{
    for (unsigned side = 0; side < 2; side++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_config();

        REQUIRE(r);
        cfg.n_queues = 2;
        r->ixgbe.rx_stuck = side ? 0 : 2;
        r->ixgbe.tx_stuck = side ? 2 : 0;
        CHECK(rig_start(r, &cfg) < 0);
        CHECK(rig_stop(r));
        CHECK(is_silent(r));
        rig_destroy(r);
    }
}

TEST(a_queue_that_is_not_disabled_is_stopped_by_reset)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    r->ixgbe.rx_on = r->ixgbe.tx_on = 1;
    CHECK(rig_stop(r));
    CHECK(is_silent(r));
    rig_destroy(r);
}

TEST(a_busy_bus_is_flushed_and_reset_twice)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    unsigned before;

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    before = r->ixgbe.resets;
    r->ixgbe.master_busy = true;
    r->n.driver->stop(&r->n);
    CHECK_EQ(r->ixgbe.resets - before, 2);
    CHECK_EQ(r->ixgbe.flushes, 1);
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(an_address_that_is_none_is_refused)
{
    for (unsigned i = 0; i < 2; i++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        const struct nic_config cfg = rig_config();

        REQUIRE(r);
        memset(r->ixgbe.mac, i ? 0xff : 0, 6);
        CHECK_EQ(rig_start(r, &cfg), -EIO);
        rig_destroy(r);
    }
}

TEST(registers_outside_of_the_bar_are_not_touched)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);

    REQUIRE(r);
    r->n.bar[0].size = IXM_BAR_SIZE / 2;
    CHECK_EQ(r->n.driver->open(&r->n), -ENODEV);
    CHECK_EQ(r->ixgbe.accesses, 0);
    rig_destroy(r);
}

/* Open, start, one burst, interrupts, counters, stop; the device goes after @after accesses. */
static void live_until_gone(uint64_t after)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    struct us_nic_state state = { 0 };
    uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    int rc;

    REQUIRE(r);
    r->ixgbe.gone_in = after;
    rc = rig_start(r, &cfg);
    if (rc == 0) {
        ixm_receive(&r->ixgbe, frame, sizeof(frame));
        rig_rx(r, 0);
        rig_complete(r, 0);
        (void)rig_tx(r, 0, frame, sizeof(frame), US_VID_UNTAGGED, NULL);
        r->n.driver->arm(&r->n.queue[0]);
        r->n.driver->disarm(&r->n.queue[0]);
        r->n.driver->other(&r->n);
        r->n.driver->read(&r->n, &state);
        CHECK(state.counter[NIC_COUNTER_rx_packets] < 10);
    } else {
        CHECK(r->ixgbe.gone);
    }
    r->n.driver->stop(&r->n);
    CHECK_EQ(r->ixgbe.breaches, 0);
    rig_destroy(r);
}

TEST(the_device_may_go_in_every_phase)
{
    for (uint64_t after = 1; after < 700; after += after < 30 ? 1 : 29)
        live_until_gone(after);
}

TEST(a_device_that_is_gone_is_noticed)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    struct us_nic_state state = { .link_up = 1 };

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    r->ixgbe.gone = true;
    r->n.driver->read(&r->n, &state);
    CHECK_EQ(state.link_up, 0);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_packets], 0);
    r->n.driver->other(&r->n);
    CHECK_EQ(atomic_load(&r->n.failed), 1);
    CHECK_EQ(atomic_load(&r->n.port.broken), BREAK_device_gone);
    r->n.driver->stop(&r->n);
    rig_destroy(r);
}

TEST(it_recovers_after_an_error)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    REQUIRE(r);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(rig_start(r, &cfg), 0);
        CHECK_EQ(ixm_receive(&r->ixgbe, frame, sizeof(frame)), 0);
        CHECK_EQ(rig_rx(r, 0), 1);      /* taken, and never given back */
        ixm_cause(&r->ixgbe, 1u << 28);
        CHECK_EQ(r->ixgbe.fired[1], i + 1);
        r->n.driver->other(&r->n);
        CHECK_EQ(atomic_load(&r->n.failed), 1);
        CHECK_EQ(atomic_load(&r->n.port.broken), BREAK_nic_error);
        r->n.driver->stop(&r->n);
        atomic_store(&r->n.port.broken, BREAK_none);
    }
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

MAIN
{
    RUN(table_is_complete);
    RUN(every_generation_starts_and_stops);
    RUN(stop_is_legal_at_any_time);
    RUN(every_number_of_queues_and_size_of_ring);
    RUN(a_device_that_does_not_come_out_of_reset_is_refused);
    RUN(firmware_that_says_nothing_is_no_obstacle);
    RUN(the_semaphore_is_waited_for);
    RUN(a_queue_that_is_not_enabled_fails_the_start);
    RUN(a_queue_that_is_not_disabled_is_stopped_by_reset);
    RUN(a_busy_bus_is_flushed_and_reset_twice);
    RUN(an_address_that_is_none_is_refused);
    RUN(registers_outside_of_the_bar_are_not_touched);
    RUN(the_device_may_go_in_every_phase);
    RUN(a_device_that_is_gone_is_noticed);
    RUN(it_recovers_after_an_error);
}
