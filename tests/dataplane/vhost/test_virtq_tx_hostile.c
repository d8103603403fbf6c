/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtq_tx_hostile.c - receive rings no legal driver would make.  The
 * rule: a malformed chain costs the frame that met it and is given back empty,
 * so that the ring moves on; nothing is written outside the buffers, and no
 * ring keeps a worker longer than a bounded number of steps.
 */
#include "harness.h"

#include <time.h>

#include "vhost/driver.h"

#define WILD 0x7777000000000000ULL

static struct driver d;
static struct drv_frame frame[BURST_MAX];

static void offer(uint16_t head)
{
    drv_offer(&d.rx, head);
    drv_publish(&d.rx);
}

/* A good buffer behind whatever was offered before takes the next frame; then the ring is as if nothing was. */
static bool goes_on(void)
{
    uint32_t id, len;

    drv_frame(&frame[1], 100, 9);
    drv_one(&d.rx, 15, DRV_BUF, 2000, D_WRITE);
    return drv_tx(&d, &frame[1]) == 1 && drv_used(&d.rx, &id, &len) && id == 15 && len == 112 &&
           memcmp((uint8_t *)drv_ptr(&d, DRV_BUF) + 12, frame[1].data, 100) == 0 && !port_is_broken(d.port);
}

/* The frame is dropped by that name, the chain came back empty, the ring goes on. */
static bool refused(uint32_t head)
{
    const uint64_t before = drv_drops_out(&d, DROP_out_chain), all = drv_drops(&d);
    uint32_t id, len;

    drv_frame(&frame[0], 300, 1);
    return drv_tx(&d, &frame[0]) == 0 && drv_drops_out(&d, DROP_out_chain) == before + 1 &&
           drv_drops(&d) == all + 1 && drv_used(&d.rx, &id, &len) && id == head && len == 0 && goes_on();
}

TEST(g1_buffers_outside_memory)
{
    drv_create(&d, F_V1, 16);
    for (uint64_t room = 12; room < 312; room += 50) { /* the frame needs 312 */
        drv_one(&d.rx, 1, DRV_END - room, 2000, D_WRITE);
        CHECK(refused(1));
    }
    drv_one(&d.rx, 1, DRV_GPA - 1, 2000, D_WRITE);
    CHECK(refused(1));
    drv_one(&d.rx, 1, WILD, 2000, D_WRITE);
    CHECK(refused(1));
    drv_one(&d.rx, 1, UINT64_MAX - 100, 2000, D_WRITE);
    CHECK(refused(1));
    drv_desc(&d.rx, 1, DRV_BUF, 12, D_WRITE | D_NEXT, 2);
    drv_desc(&d.rx, 2, WILD, 2000, D_WRITE, 0);
    offer(1);
    CHECK(refused(1));
    drv_destroy(&d);
}

/* What a frame does not need is not looked at. */
TEST(g1_buffer_may_reach_past_the_end_unused)
{
    uint32_t id, len;

    drv_create(&d, F_V1, 16);
    drv_one(&d.rx, 1, DRV_END - 312, 2000, D_WRITE);
    drv_frame(&frame[0], 300, 1);
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK(drv_used(&d.rx, &id, &len) && len == 312);
    CHECK_MEM((uint8_t *)drv_ptr(&d, DRV_END - 300), frame[0].data, 300);
    drv_destroy(&d);
}

TEST(g2_zero_length_buffers)
{
    for (unsigned mrg = 0; mrg < 2; mrg++) {
        drv_create(&d, F_V1 | (mrg ? F_MRG : 0), 16);
        drv_one(&d.rx, 1, WILD, 0, D_WRITE);
        CHECK(refused(1));
        drv_destroy(&d);
    }
}

TEST(g4_buffers_shorter_than_the_header)
{
    for (uint32_t len = 1; len < 12; len++) {
        drv_create(&d, F_V1 | F_MRG, 16);
        drv_one(&d.rx, 1, DRV_BUF, len, D_WRITE);
        CHECK(refused(1));
        drv_destroy(&d);
    }
}

TEST(g5_next_loops_and_direction)
{
    for (unsigned mrg = 0; mrg < 2; mrg++) {
        drv_create(&d, F_V1 | (mrg ? F_MRG : 0), 16);
        for (uint32_t next = 16; next < 0x10000; next = next * 2 + 1) {
            drv_desc(&d.rx, 1, DRV_BUF, 20, D_WRITE | D_NEXT, (uint16_t)next);
            offer(1);
            CHECK(refused(1));
        }
        for (uint32_t len = 0; len < 2; len++) {
            drv_desc(&d.rx, 1, DRV_BUF, len, D_WRITE | D_NEXT, 1);
            offer(1);
            CHECK(refused(1));
            drv_desc(&d.rx, 3, DRV_BUF, len, D_WRITE | D_NEXT, 4);
            drv_desc(&d.rx, 4, DRV_BUF, len, D_WRITE | D_NEXT, 3);
            offer(3);
            CHECK(refused(3));
        }
        drv_one(&d.rx, 1, DRV_BUF, 2000, 0); /* read-only */
        CHECK(refused(1));
        drv_desc(&d.rx, 1, DRV_BUF, 12, D_WRITE | D_NEXT, 2);
        drv_desc(&d.rx, 2, DRV_BUF + 12, 2000, 0, 0);
        offer(1);
        CHECK(refused(1));
        drv_destroy(&d);
    }
}

TEST(g5_indirect_tables)
{
    drv_create(&d, F_V1 | F_INDIRECT, 16);
    drv_table(&d, DRV_TABLE, 0, DRV_BUF, 2000, D_WRITE, 0);
    drv_one(&d.rx, 1, DRV_TABLE, 17, D_INDIRECT);
    CHECK(refused(1));
    drv_one(&d.rx, 1, DRV_TABLE, 0, D_INDIRECT);
    CHECK(refused(1));
    drv_one(&d.rx, 1, DRV_END - 8, 16, D_INDIRECT);
    CHECK(refused(1));
    drv_one(&d.rx, 1, DRV_TABLE, 16, D_INDIRECT | D_NEXT);
    CHECK(refused(1));
    drv_table(&d, DRV_TABLE, 0, DRV_BUF, 1, D_WRITE | D_NEXT, 0);
    drv_one(&d.rx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(refused(1));
    drv_table(&d, DRV_TABLE, 0, DRV_TABLE, 16, D_WRITE | D_INDIRECT, 0);
    drv_one(&d.rx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(refused(1));
    drv_destroy(&d);
}

/* A bad chain behind good ones of the same frame: all come back, empty, in order. */
TEST(bad_chain_in_the_middle_of_a_merge)
{
    uint32_t id, len;

    drv_create(&d, F_V1 | F_MRG, 16);
    for (uint16_t i = 0; i < 4; i++) {
        drv_desc(&d.rx, i, i == 2 ? WILD : DRV_BUF, 100, D_WRITE, 0);
        drv_offer(&d.rx, i);
    }
    drv_publish(&d.rx);
    drv_frame(&frame[0], 300, 1);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(drv_used(&d.rx, &id, &len) && id == i && len == 0);
    CHECK(!drv_used(&d.rx, &id, &len));
    drv_frame(&frame[0], 88, 1);
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK(drv_used(&d.rx, &id, &len) && id == 3 && len == 100);
    drv_destroy(&d);
}

TEST(g6_indexes_that_lie)
{
    drv_create(&d, F_V1, 16);
    drv_frame(&frame[0], 100, 1);
    d.rx.avail_idx = 17;
    drv_publish(&d.rx);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(d.state->broken, BREAK_avail_index);
    CHECK_EQ(d.state->broken_ring, 0);
    CHECK_EQ(d.state->broken_detail, 17);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_broken), 2);
    CHECK_EQ(drv_restart(&d, F_V1, 16), 0);
    drv_one(&d.rx, 3, DRV_BUF, 2000, D_WRITE);
    offer(16);
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(d.state->broken, BREAK_avail_head);
    CHECK_EQ(d.state->broken_detail, 16);
    CHECK_EQ(drv_drops_out(&d, DROP_broken), 3);
    drv_destroy(&d);
}

/* 2.7.6.1: what was made available stays available; counting on would take buffers that nobody offered. */
TEST(g6_index_that_goes_back)
{
    struct frame *list[BURST_MAX];

    for (uint32_t i = 0; i < BURST_MAX; i++) {
        drv_frame(&frame[i], 100, i);
        list[i] = &frame[i].f;
    }
    for (uint16_t back = 1; back < 9; back++) {
        drv_create(&d, F_V1, 16);
        for (uint16_t i = 0; i < 10; i++)
            drv_desc(&d.rx, i, DRV_BUF, 2000, D_WRITE, 0), drv_offer(&d.rx, i);
        drv_publish(&d.rx);
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        d.rx.avail_idx = (uint16_t)(10 - back);
        drv_publish(&d.rx);
        CHECK_EQ(d.port->ops->tx_burst(d.port, list, BURST_MAX), 0);
        CHECK_EQ(d.state->broken, BREAK_avail_index);
        CHECK_EQ(d.state->broken_ring, 0);
        CHECK_EQ(d.state->broken_detail, 10 - back);
        drv_destroy(&d);
    }
}

TEST(g9_same_head_for_every_buffer)
{
    uint32_t id, len, n = 0;

    drv_create(&d, F_V1 | F_MRG, 16);
    drv_desc(&d.rx, 2, DRV_BUF, 100, D_WRITE, 0);
    for (unsigned i = 0; i < 16; i++)
        drv_offer(&d.rx, 2);
    drv_publish(&d.rx);
    drv_frame(&frame[0], 300, 1);
    for (unsigned i = 0; i < 8; i++)
        (void)drv_tx(&d, &frame[0]);
    while (drv_used(&d.rx, &id, &len))
        n += id == 2;
    CHECK_EQ(n, 16);
    drv_destroy(&d);
}

/*
 * R3: the longest legal chains that lead nowhere, in every slot of the longest
 * ring, met by a full burst.  Without a bound a burst would be 2^31 steps and
 * more; the limit here is a thousand times what the bound allows.
 */
TEST(r3_endless_work_is_not_done)
{
    struct frame *list[BURST_MAX];
    struct timespec start, end;

    for (unsigned shape = 0; shape < 4; shape++) {
        const bool mrg = shape & 1, one_byte = shape & 2;

        drv_create(&d, F_V1 | (mrg ? F_MRG : 0), 32768);
        for (uint32_t i = 0; i < 32768; i++) {
            drv_desc(&d.rx, i, DRV_BUF, one_byte && i < 12 ? 1 : 0, D_WRITE | (i < 32767 ? D_NEXT : 0),
                     (uint16_t)(i + 1));
            drv_offer(&d.rx, 0);
        }
        d.rx.avail_idx = 32768;
        drv_publish(&d.rx);
        for (uint32_t i = 0; i < BURST_MAX; i++) {
            drv_frame(&frame[i], 9014, i);
            list[i] = &frame[i].f;
        }
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (unsigned i = 0; i < 8; i++)
            CHECK_EQ(d.port->ops->tx_burst(d.port, list, BURST_MAX), 0);
        clock_gettime(CLOCK_MONOTONIC, &end);
        CHECK(end.tv_sec - start.tv_sec < 10);
        CHECK_EQ(drv_drops(&d), 8 * BURST_MAX);
        drv_destroy(&d);
    }
}

/*
 * The same with chains of one descriptor each, whose number costs, not their length: a frame that found the
 * whole ring too small is the last of its burst that tries.  What a try leaves in the buffers tells.
 */
TEST(r3_a_ring_too_small_is_tried_once_a_burst)
{
    struct frame *list[3] = { &frame[0].f, &frame[1].f, &frame[2].f };

    drv_create(&d, F_V1 | F_MRG, 16);
    for (uint16_t i = 0; i < 16; i++) {
        drv_desc(&d.rx, i, DRV_BUF + i * 64u, i ? 10 : 40, D_WRITE, 0);
        drv_offer(&d.rx, i);
    }
    drv_publish(&d.rx);
    for (unsigned i = 0; i < 3; i++)
        drv_frame(&frame[i], 1000, i);
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 3), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_ring_small), 3);
    CHECK_MEM((uint8_t *)drv_ptr(&d, DRV_BUF) + 12, frame[0].data, 28);
    drv_frame(&frame[1], 100, 5); /* one that fits is not held up by it */
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 2), 1);
    drv_destroy(&d);
}

TEST(stopped_and_disabled_rings)
{
    drv_create(&d, F_V1, 16);
    drv_one(&d.rx, 3, DRV_BUF, 2000, D_WRITE);
    drv_frame(&frame[0], 100, 1);
    CHECK_EQ(vhost_port_ring_enable(d.port, 0, false), 0);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_link_down), 1);
    CHECK_EQ(vhost_port_ring_enable(d.port, 0, true), 0);
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK_EQ(vhost_port_ring_stop(d.port, 0), 1);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_link_down), 2);
    drv_destroy(&d);
}

MAIN
{
    RUN(g1_buffers_outside_memory);
    RUN(g1_buffer_may_reach_past_the_end_unused);
    RUN(g2_zero_length_buffers);
    RUN(g4_buffers_shorter_than_the_header);
    RUN(g5_next_loops_and_direction);
    RUN(g5_indirect_tables);
    RUN(bad_chain_in_the_middle_of_a_merge);
    RUN(g6_indexes_that_lie);
    RUN(g6_index_that_goes_back);
    RUN(g9_same_head_for_every_buffer);
    RUN(r3_endless_work_is_not_done);
    RUN(r3_a_ring_too_small_is_tried_once_a_burst);
    RUN(stopped_and_disabled_rings);
}
