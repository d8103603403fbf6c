/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_flood.c - the budget of copies: rate, depth, all or nothing, live
 * changes, several workers.
 */
#include <pthread.h>

#include "flood.h"
#include "harness.h"

#define SECOND 1000000000ULL
/* Any moment but zero: the workers' clock is the machine's uptime. */
#define START (12345 * SECOND)

TEST(no_rate_is_no_limit)
{
    struct flood_bucket b = { 0 };

    for (unsigned i = 0; i < 1000; i++)
        CHECK(flood_charge(&b, 1023, START));
}

TEST(depth_then_rate)
{
    struct flood_bucket b = { 0 };

    flood_set(&b, 1000, 10);
    for (unsigned i = 0; i < 10; i++)
        CHECK(flood_charge(&b, 1, START));
    CHECK(!flood_charge(&b, 1, START));
    CHECK(!flood_charge(&b, 1, START + 999999));
    CHECK(flood_charge(&b, 1, START + 1000000));    /* one copy a millisecond */
    CHECK(!flood_charge(&b, 1, START + 1000000));
    CHECK(flood_charge(&b, 10, START + SECOND));    /* full again, and not fuller */
    CHECK(!flood_charge(&b, 1, START + SECOND));
}

TEST(all_or_nothing)
{
    struct flood_bucket b = { 0 };

    flood_set(&b, 10, 10);
    CHECK(flood_charge(&b, 7, START));
    CHECK(!flood_charge(&b, 4, START));             /* 3 are left, and stay */
    CHECK(flood_charge(&b, 3, START));
    CHECK(!flood_charge(&b, 11, START + 3600 * SECOND));    /* never affordable */
    CHECK(flood_charge(&b, 10, START + 3600 * SECOND));
}

TEST(depth_zero_lets_nothing_pass)
{
    struct flood_bucket b = { 0 };

    flood_set(&b, 1000000, 0);
    CHECK(!flood_charge(&b, 1, START));
    CHECK(!flood_charge(&b, 1, START + 3600 * SECOND));
}

TEST(limits_change_live)
{
    struct flood_bucket b = { 0 };

    flood_set(&b, 1, 1000);
    CHECK(flood_charge(&b, 1000, START));           /* in debt for 1000 s */
    flood_set(&b, 1000, 10);
    CHECK(!flood_charge(&b, 1, START));
    CHECK(flood_charge(&b, 10, START + 10000000));  /* 10 ms at the new rate, not 1000 s */
    flood_set(&b, 0, 0);
    CHECK(flood_charge(&b, 1023, START));
}

TEST(extreme_values)
{
    struct flood_bucket b = { 0 };

    flood_set(&b, 1, UINT32_MAX);
    CHECK(flood_charge(&b, UINT32_MAX, START));
    CHECK(!flood_charge(&b, 1, START));
    CHECK(flood_charge(&b, UINT32_MAX, START + (uint64_t)UINT32_MAX * SECOND));
    flood_set(&b, UINT32_MAX, UINT32_MAX);
    CHECK(!flood_charge(&b, UINT32_MAX, START + ((uint64_t)UINT32_MAX + 10) * SECOND));
    CHECK(flood_charge(&b, UINT32_MAX, START + ((uint64_t)UINT32_MAX + 11) * SECOND));
}

/* A clock that stands some microseconds behind another worker's gets nothing extra. */
TEST(clock_of_another_worker)
{
    struct flood_bucket b = { 0 };

    flood_set(&b, 1000, 10);
    CHECK(flood_charge(&b, 10, START));
    CHECK(!flood_charge(&b, 1, START - 5000));
    CHECK(flood_charge(&b, 5, START + 5000000));
    CHECK(!flood_charge(&b, 1, START + 4999000));
}

/* Two workers with clocks apart, both sending: the one behind must not pull the debt back for the other. */
TEST(clocks_apart_do_not_mint_tokens)
{
    struct flood_bucket b = { 0 };
    uint64_t passed = 0;

    flood_set(&b, 1000, 10);
    for (uint64_t t = 0; t < SECOND; t += 10000) {
        passed += flood_charge(&b, 1, START + t);
        passed += flood_charge(&b, 1, START + t - 500000);
    }
    CHECK(passed >= 1000 && passed <= 1010);
}

/* Long-run rate: many frames of different fan-out at random times. */
TEST(rate_holds_in_the_long_run)
{
    struct flood_bucket b = { 0 };
    uint64_t now = START, passed = 0, x = 88172645463325252;

    flood_set(&b, 5000, 200);
    while (now < START + 20 * SECOND) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const uint32_t copies = 1 + x % 20;

        if (flood_charge(&b, copies, now))
            passed += copies;
        now += x % 1000000;     /* offers 4 times the rate */
    }
    CHECK(passed <= 5000 * 20 + 200);
    CHECK(passed >= 5000 * 20 * 98 / 100);
}

struct racer {
    pthread_t thread;
    struct flood_bucket *b;
    unsigned passed;
};

static void *race(void *arg)
{
    struct racer *r = arg;

    for (unsigned i = 0; i < 20000; i++)
        r->passed += flood_charge(r->b, 1, START);
    return NULL;
}

/* The bucket never gives more than it holds, however many charge it. */
TEST(workers_share_one_budget)
{
    struct flood_bucket b = { 0 };
    struct racer r[3];
    unsigned passed = 0;

    flood_set(&b, 1000, 10000);
    for (unsigned i = 0; i < 3; i++) {
        r[i] = (struct racer){ .b = &b };
        CHECK_EQ(pthread_create(&r[i].thread, NULL, race, &r[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(r[i].thread, NULL);
        passed += r[i].passed;
    }
    CHECK_EQ(passed, 10000);
}

MAIN
{
    RUN(no_rate_is_no_limit);
    RUN(depth_then_rate);
    RUN(all_or_nothing);
    RUN(depth_zero_lets_nothing_pass);
    RUN(limits_change_live);
    RUN(extreme_values);
    RUN(clock_of_another_worker);
    RUN(clocks_apart_do_not_mint_tokens);
    RUN(rate_holds_in_the_long_run);
    RUN(workers_share_one_budget);
}
