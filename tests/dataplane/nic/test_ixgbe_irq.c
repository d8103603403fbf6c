/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_irq.c - the ixgbe driver's interrupts on the model: who is woken
 * and how often, with every number of vectors, and their moderation.
 */
#include "harness.h"
#include "nic/rig.h"

static const uint8_t broadcast[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };

TEST(an_armed_queue_is_interrupted_once)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    struct nic_config cfg = rig_config();

    REQUIRE(r);
    cfg.n_queues = 3;
    CHECK_EQ(rig_start(r, &cfg), 0);
    ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
    CHECK_EQ(r->ixgbe.fired[0], 0);
    CHECK(r->n.driver->arm(&r->n.queue[0]));        /* work is there already */
    CHECK_EQ(rig_rx(r, 0), 1);
    rig_complete(r, 0);
    r->n.driver->disarm(&r->n.queue[0]);
    r->ixgbe.fired[0] = 0;
    CHECK(!r->n.driver->arm(&r->n.queue[0]));
    ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
    ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
    CHECK_EQ(r->ixgbe.fired[0], 1);
    CHECK_EQ(r->ixgbe.fired[1] + r->ixgbe.fired[2] + r->ixgbe.fired[3], 0);
    r->n.driver->disarm(&r->n.queue[0]);
    CHECK_EQ(rig_rx(r, 0), 2);
    rig_complete(r, 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(what_came_between_look_and_arm_is_not_lost)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 0; i < 10; i++) {
        CHECK_EQ(rig_rx(r, 0), 0);
        rig_complete(r, 0);
        ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
        CHECK(r->n.driver->arm(&r->n.queue[0]) && r->ixgbe.fired[0] == i + 1);
        r->n.driver->disarm(&r->n.queue[0]);
        CHECK_EQ(rig_rx(r, 0), 1);
        rig_complete(r, 0);
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(sending_interrupts_nobody)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    (void)r->n.driver->arm(&r->n.queue[0]);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(rig_tx(r, 0, broadcast, sizeof(broadcast), US_VID_UNTAGGED, NULL), DROP_none);
    CHECK_EQ(r->ixgbe.fired[0], 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(without_a_vector_nothing_is_enabled)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    r->no_vectors = true;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK(!r->n.driver->arm(&r->n.queue[0]));
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x880), 0);
    ixm_link(&r->ixgbe, false, 3);
    r->n.driver->other(&r->n);
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x880), 0);
    ixm_link(&r->ixgbe, true, 3);
    ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
    CHECK(r->n.driver->arm(&r->n.queue[0]));
    CHECK_EQ(r->ixgbe.fired[0], 0);
    CHECK_EQ(rig_rx(r, 0), 1);
    rig_complete(r, 0);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* One vector: MSI, and MSI-X with a table that small. */
TEST(one_vector_serves_all)
{
    for (unsigned msix = 0; msix < 2; msix++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_config();

        REQUIRE(r);
        cfg.n_queues = 2;
        r->n.irq = (struct nic_irq){ .n = 1, .msix = msix };
        CHECK_EQ(rig_start(r, &cfg), 0);
        for (unsigned i = 0; i < 5; i++) {
            CHECK(!r->n.driver->arm(&r->n.queue[0]));
            r->ixgbe.fired[0] = 0;
            ixm_receive(&r->ixgbe, broadcast, sizeof(broadcast));
            CHECK(r->ixgbe.fired[0] >= 1);
            r->n.driver->disarm(&r->n.queue[0]);
            CHECK_EQ(rig_rx(r, 0), 1);
            rig_complete(r, 0);
        }
        r->ixgbe.fired[0] = 0;
        ixm_link(&r->ixgbe, false, 3);
        CHECK(r->ixgbe.fired[0] >= 1);
        r->n.driver->other(&r->n);
        CHECK_EQ(atomic_load(&r->n.failed), 0);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

/* 8.2.3.5.12: units of 2.048 us in bits 11:3. */
TEST(moderation_is_what_was_asked_for)
{
    static const struct {
        uint32_t us, units;
    } cases[] = { { 0, 0 }, { 1, 1 }, { 2, 1 }, { 3, 1 }, { 5, 2 }, { 50, 24 }, { 1000, 488 }, { 5000, 511 },
                  { 0xffffffff, 511 } };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_config();

        REQUIRE(r);
        cfg.n_queues = 2;
        cfg.irq_us = cases[i].us;
        CHECK_EQ(rig_start(r, &cfg), 0);
        CHECK_EQ(ixm_reg(&r->ixgbe, 0x820) >> 3 & 0x1ff, cases[i].units);
        CHECK_EQ(ixm_reg(&r->ixgbe, 0x824) >> 3 & 0x1ff, cases[i].units);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

MAIN
{
    RUN(an_armed_queue_is_interrupted_once);
    RUN(what_came_between_look_and_arm_is_not_lost);
    RUN(sending_interrupts_nobody);
    RUN(without_a_vector_nothing_is_enabled);
    RUN(one_vector_serves_all);
    RUN(moderation_is_what_was_asked_for);
}
