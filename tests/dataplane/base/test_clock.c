/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_clock.c - the cycle counter as a clock: never back, never far from
 * CLOCK_MONOTONIC, right again at once after a gap or a wrong frequency.
 */
#include "base/clock.h"

#include <time.h>

#include "harness.h"

static uint64_t monotonic(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/*
 * Readings for @ns: how many lie outside CLOCK_MONOTONIC before and after them by more than @slack_ns, how many go
 * back.
 */
static unsigned wrong_readings(struct clock *c, uint64_t ns, uint64_t slack_ns)
{
    const uint64_t end = monotonic() + ns;
    uint64_t before, now, after = 0, last = 0;
    unsigned wrong = 0;

    while (after < end) {
        before = monotonic();
        now = clock_now(c, clock_cycles());
        after = monotonic();
        wrong += now + slack_ns < before || now > after + slack_ns || now < last;
        last = now;
    }
    return wrong;
}

TEST(follows_monotonic)
{
    struct clock c;

    clock_init(&c, clock_khz());
    CHECK_EQ(wrong_readings(&c, 50000000, 100000), 0);
}

TEST(without_counter)
{
    struct clock c;

    clock_init(&c, 0);
    CHECK_EQ(wrong_readings(&c, 5000000, 0), 0);
}

/* The frequency is off by a tenth: an error of a tenth of the anchor interval, never more, never back. */
TEST(wrong_frequency)
{
    const uint64_t khz = clock_khz();
    struct clock c;

    if (khz == 0) {
        fprintf(stderr, "skipped: no steady cycle counter here\n");
        return;
    }
    clock_init(&c, khz * 9 / 10);
    CHECK_EQ(wrong_readings(&c, 20000000, CLOCK_ANCHOR_NS / 5), 0);
    clock_init(&c, khz * 11 / 10);
    CHECK_EQ(wrong_readings(&c, 20000000, CLOCK_ANCHOR_NS / 5), 0);
}

TEST(after_sleep)
{
    const struct timespec nap = { 0, 30000000 };
    uint64_t before, now;
    struct clock c;

    clock_init(&c, clock_khz());
    nanosleep(&nap, NULL);
    before = monotonic();
    now = clock_now(&c, clock_cycles());
    CHECK(now >= before && now <= monotonic());
}

/* The counter starts anew, as after a migration to a machine that was booted later. */
TEST(counter_goes_back)
{
    struct clock c;
    uint64_t before, now;

    clock_init(&c, clock_khz());
    c.anchor_cycles += (uint64_t)1 << 40;
    before = monotonic();
    now = clock_now(&c, clock_cycles());
    CHECK(now >= before && now <= monotonic());
}

MAIN
{
    RUN(follows_monotonic);
    RUN(without_counter);
    RUN(wrong_frequency);
    RUN(after_sleep);
    RUN(counter_goes_back);
}
