/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_placement.c - the balancer's decisions, alone and against a model of
 * workers whose queues want more or less than they get.
 */
#include "placement.h"

#include "harness.h"
#include "include/uswitch.h"

#define PERIOD 1000000ull
#define MANY 64

static struct placement_move moves[8];

static uint64_t rng_state = 88172645463325252ull;

static uint32_t random_below(uint32_t n)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 33) % n;
}

static uint64_t squares(const struct placement_queue *q, uint32_t n, uint32_t n_workers)
{
    uint64_t load[US_WORKERS_MAX] = { 0 }, sum = 0;

    for (uint32_t i = 0; i < n; i++)
        load[q[i].worker] += q[i].load;
    for (uint32_t i = 0; i < n_workers; i++)
        sum += load[i] * load[i];
    return sum;
}

TEST(splits_two_hot_queues)
{
    struct placement_queue q[] = { { 500000, 0 }, { 490000, 0 }, { 0, 0 } };

    CHECK_EQ(placement_plan(q, 3, 2, PERIOD, moves, 4), 1);
    CHECK_EQ(moves[0].worker, 1);
    CHECK(moves[0].queue < 2);
    CHECK_EQ(placement_plan(q, 3, 2, PERIOD, moves, 4), 0);
}

/* One queue that fills a worker stays; its small neighbour is taken away from it. */
TEST(one_hot_queue)
{
    struct placement_queue alone[] = { { 990000, 1 }, { 0, 0 } };
    struct placement_queue crowded[] = { { 900000, 0 }, { 90000, 0 } };

    CHECK_EQ(placement_plan(alone, 2, 4, PERIOD, moves, 4), 0);
    CHECK_EQ(placement_plan(crowded, 2, 2, PERIOD, moves, 4), 1);
    CHECK(crowded[0].worker != crowded[1].worker);
    CHECK_EQ(placement_plan(crowded, 2, 2, PERIOD, moves, 4), 0);
}

/* The busiest cannot be helped, the second busiest can. */
TEST(second_busiest)
{
    struct placement_queue q[] = { { 950000, 0 }, { 300000, 1 }, { 310000, 1 } };

    CHECK_EQ(placement_plan(q, 3, 3, PERIOD, moves, 4), 1);
    CHECK_EQ(moves[0].worker, 2);
    CHECK_EQ(q[0].worker, 0);
}

TEST(not_worth_it)
{
    struct placement_queue little[] = { { 100000, 0 }, { 100000, 0 } };
    struct placement_queue close[] = { { 300000, 0 }, { 30000, 0 }, { 290000, 1 } };
    struct placement_queue none[1];

    CHECK_EQ(placement_plan(little, 2, 2, PERIOD, moves, 4), 0);
    CHECK_EQ(placement_plan(close, 3, 2, PERIOD, moves, 4), 0);
    CHECK_EQ(placement_plan(none, 0, 2, PERIOD, moves, 4), 0);
    CHECK_EQ(placement_plan(little, 2, 2, 0, moves, 4), 0);
}

TEST(moves_are_bounded)
{
    struct placement_queue q[MANY];

    for (uint32_t i = 0; i < MANY; i++)
        q[i] = (struct placement_queue){ PERIOD / MANY, 0 };
    CHECK_EQ(placement_plan(q, MANY, 4, PERIOD / 8, moves, 4), 4);
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < i; k++)
            CHECK(moves[i].queue != moves[k].queue);
}

/* Constant loads, any: each plan makes it better, and there is an end. */
TEST(converges)
{
    for (unsigned round = 0; round < 2000; round++) {
        const uint32_t n_workers = 2 + random_below(7), n = 1 + random_below(MANY);
        struct placement_queue q[MANY];
        unsigned steps = 0;

        for (uint32_t i = 0; i < n; i++)
            q[i] = (struct placement_queue){ random_below(4) ? random_below(50000) : random_below(PERIOD),
                                             random_below(n_workers) };
        for (;; steps++) {
            const uint64_t before = squares(q, n, n_workers);

            if (placement_plan(q, n, n_workers, PERIOD, moves, 4) == 0)
                break;
            CHECK(squares(q, n, n_workers) < before);
            REQUIRE(steps < 200);
        }
    }
}

/**
 * struct wish - a queue in the model of full workers
 * @wants: cycles it would use
 * @gets: what its worker's fairness gives it
 */
struct wish {
    uint64_t wants, gets;
};

/* Fair shares of one worker: who wants less than the rest could have gets all of it. */
static void serve(struct wish *wish, const struct placement_queue *q, uint32_t n, uint32_t worker)
{
    uint64_t left = PERIOD;
    uint32_t open = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (q[i].worker == worker)
            wish[i].gets = 0, open++;
    }
    for (bool again = true; again && open;) {
        const uint64_t part = left / open;

        again = false;
        for (uint32_t i = 0; i < n; i++) {
            if (q[i].worker != worker || wish[i].gets || wish[i].wants > part || !wish[i].wants)
                continue;
            wish[i].gets = wish[i].wants;
            left -= wish[i].wants;
            open--;
            again = true;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (q[i].worker == worker && wish[i].wants && !wish[i].gets)
            wish[i].gets = left / open;
    }
}

/*
 * What is measured is what a queue got, not what it wants: a queue that moves grows.  Even so it comes to rest,
 * and no work is left undone while a worker idles, unless by a queue that has a worker for itself.
 */
TEST(converges_under_pressure)
{
    unsigned restless = 0;

    for (unsigned round = 0; round < 500; round++) {
        const uint32_t n_workers = 2 + random_below(3), n = 2 + random_below(12);
        struct placement_queue q[MANY];
        struct wish wish[MANY] = { { 0, 0 } };
        unsigned last_move = 0;

        for (uint32_t i = 0; i < n; i++) {
            wish[i].wants = 1 + random_below(3 * PERIOD / 2);
            q[i] = (struct placement_queue){ 0, random_below(n_workers) };
        }
        for (unsigned step = 0; step < 100; step++) {
            for (uint32_t w = 0; w < n_workers; w++)
                serve(wish, q, n, w);
            for (uint32_t i = 0; i < n; i++)
                q[i].load = wish[i].gets;
            if (placement_plan(q, n, n_workers, PERIOD, moves, 4) != 0)
                last_move = step;
        }
        restless += last_move > 50;
    }
    CHECK_EQ(restless, 0);
}

MAIN
{
    RUN(splits_two_hot_queues);
    RUN(one_hot_queue);
    RUN(second_busiest);
    RUN(not_worth_it);
    RUN(moves_are_bounded);
    RUN(converges);
    RUN(converges_under_pressure);
}
