/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_names.c - every reason has a name and a text, all different, and
 * nothing beyond the lists has.
 */
#include "harness.h"

#include "drop.h"
#include "include/uswitch.h"
#include "nic/nic_counter.h"

static void check_table(const char *(*name)(uint32_t), const char *(*text)(uint32_t), uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        REQUIRE(name(i) && text(i));
        CHECK(name(i)[0] && text(i)[0]);
        for (uint32_t j = 0; j < i; j++)
            CHECK(strcmp(name(i), name(j)) && strcmp(text(i), text(j)));
    }
    CHECK(!name(count) && !text(count));
    CHECK(!name(UINT32_MAX) && !text(UINT32_MAX));
}

TEST(drops)
{
    check_table(us_drop_name, us_drop_text, DROP_COUNT);
    CHECK_STR(us_drop_name(DROP_none), "none");
    CHECK_STR(us_drop_name(DROP_ring_full), "ring_full");
    CHECK_STR(us_drop_text(DROP_ring_full), "the receiver has no free buffers");
}

TEST(breaks)
{
    check_table(us_break_name, us_break_text, BREAK_COUNT);
    CHECK_STR(us_break_name(BREAK_none), "none");
    CHECK_STR(us_break_name(BREAK_call_stuck), "call_stuck");
}

TEST(hardware_counters)
{
    uint32_t n = 0;

    while (us_nic_counter_name(n)) {
        CHECK(us_nic_counter_name(n)[0]);
        n++;
    }
    CHECK_EQ(n, NIC_COUNTER_COUNT);
    CHECK_STR(us_nic_counter_name(NIC_COUNTER_rx_missed), "rx_missed");
    CHECK(!us_nic_counter_name(UINT32_MAX));
}

TEST(build_id_is_stable)
{
    CHECK(us_build_id() != 0);
    CHECK_EQ(us_build_id(), us_build_id());
}

MAIN
{
    RUN(drops);
    RUN(breaks);
    RUN(hardware_counters);
    RUN(build_id_is_stable);
}
