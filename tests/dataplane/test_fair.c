/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_fair.c - fair.h against a model of a worker whose cycles are numbers:
 * what a neighbour that costs fifty times as much can take away.
 */
#include "fair.h"

#include "harness.h"

#define QUEUES 8

/**
 * struct source - what a queue has to send, in the model
 * @cost: cycles a frame
 * @rate: frames that arrive in a million cycles, 0: always a full ring
 * @ring: frames that fit
 * @pending: frames waiting; the fraction that is on its way in @part
 * @part: millionths of a frame
 * @taken: frames served
 * @used: cycles spent on them
 * @turns: bursts
 * @gap: most cycles of others between two bursts while frames were waiting
 * @since: the same, running
 */
struct source {
    uint64_t cost, rate, ring, pending, part, taken, used, turns, gap, since;
};

static struct source src[QUEUES];
static struct fair fair;
static struct fair_queue queue[QUEUES];
static unsigned n_queues;
static uint64_t clock_now_cycles, idle_turns;

static void begin(unsigned n)
{
    fair = (struct fair){ 0 };
    n_queues = n;
    clock_now_cycles = idle_turns = 0;
    memset(src, 0, sizeof(src));
    for (unsigned i = 0; i < QUEUES; i++) {
        fair_queue_init(&fair, &queue[i]);
        src[i].ring = 256;
        src[i].cost = 100;
    }
}

/* Time goes by: frames arrive, except where the ring is full. */
static void pass(uint64_t cycles, unsigned whose)
{
    clock_now_cycles += cycles;
    for (unsigned i = 0; i < n_queues; i++) {
        struct source *s = &src[i];

        s->part += cycles * s->rate;
        s->pending += s->part / 1000000;
        s->part %= 1000000;
        if (s->rate == 0 || s->pending > s->ring)
            s->pending = s->ring;
        if (i == whose || s->pending == 0)
            s->since = 0;
        else
            s->since += cycles;
        s->gap = s->since > s->gap ? s->since : s->gap;
    }
}

static void turn(void)
{
    uint64_t before = clock_now_cycles;

    fair_turn_begin(&fair);
    for (unsigned i = 0; i < n_queues; i++) {
        struct source *s = &src[i];
        uint64_t n, cycles;

        if (!fair_may_run(&fair, &queue[i]))
            continue;
        n = fair_frames(&fair, &queue[i]);
        n = n < s->pending ? n : s->pending;
        cycles = 50 + n * s->cost;
        s->pending -= n;
        s->taken += n;
        s->used += n ? cycles : 0;
        s->turns += n != 0;
        pass(cycles, i);
        fair_charge(&fair, &queue[i], cycles, n != 0);
    }
    fair_turn_end(&fair);
    idle_turns += fair.working == fair.waiting;
    if (before == clock_now_cycles)
        pass(20, QUEUES);       /* nobody was served: the loop itself takes time */
}

static void run(uint64_t cycles)
{
    const uint64_t end = clock_now_cycles + cycles;

    pass(0, QUEUES);
    while (clock_now_cycles < end)
        turn();
}

static double share(unsigned i)
{
    return (double)src[i].used / (double)clock_now_cycles;
}

/* Both always have work: half of the core each, whatever a burst costs. */
TEST(expensive_neighbour_gets_half)
{
    for (uint64_t cost = 100; cost <= 100 * 1000; cost *= 10) {
        begin(2);
        src[1].cost = cost;
        run(200000000);
        CHECK(share(0) >= 0.45 && share(1) >= 0.45);
    }
    begin(2);
    src[1].cost = 100 * 50;
    run(200000000);
    CHECK(share(0) >= 0.45 && share(1) >= 0.45);
    /* By turns alone it would be a fiftieth. */
    CHECK(src[0].turns > 2 * src[1].turns);
}

/*
 * A pair whose frames come as fast as a whole core could carry them: while its ring is empty for a moment the
 * attacker is served, and that must not cost the pair its half.
 */
TEST(victim_with_gaps_gets_half)
{
    begin(2);
    src[0].rate = 1000000 / 100;
    src[1].cost = 100 * 50;
    run(200000000);
    CHECK(share(0) >= 0.45);
    /* One that wants less than its half gets all of it: nothing is lost at its ring. */
    begin(2);
    src[0].rate = 1000000 / 100 * 2 / 5;
    src[1].cost = 100 * 50;
    run(200000000);
    CHECK(src[0].taken + src[0].pending >= clock_now_cycles / 1000000 * src[0].rate * 99 / 100);
    CHECK(share(1) >= 0.5);
}

/* Seven against one: an eighth. */
TEST(many_attackers)
{
    begin(8);
    for (unsigned i = 1; i < 8; i++)
        src[i].cost = 100 * 50;
    run(400000000);
    CHECK(share(0) >= 0.9 / 8);
    for (unsigned i = 0; i < 8; i++)
        CHECK(src[i].gap < 16 * FAIR_TURN * 8);        /* nobody starves */
}

/* Whoever is alone takes whole bursts, every turn, however dear. */
TEST(alone_nobody_waits)
{
    begin(4);
    src[1].cost = 5000;
    for (unsigned i = 0; i < 4; i++)
        src[i].rate = i == 1 ? 0 : 1, src[i].ring = i == 1 ? 256 : 0;
    run(100000000);
    CHECK_EQ(idle_turns, 0);
    CHECK_EQ(src[1].taken, src[1].turns * BURST_MAX);
}

/* A long silence buys at most FAIR_CREDIT, and a debt is not forgotten by a pause. */
TEST(no_hoarding)
{
    begin(2);
    src[0].rate = 1;
    src[0].ring = 0;
    run(100000000);
    CHECK_EQ(src[0].taken, 0);
    src[0].rate = 0;
    src[0].ring = 256;
    src[1].since = src[1].gap = 0;
    run(10000000);
    CHECK(src[1].gap <= FAIR_CREDIT + 2 * FAIR_TURN);
}

/* A thread that is interrupted for long is charged a bounded amount. */
TEST(interruption_is_bounded)
{
    struct fair f = { 0 };
    struct fair_queue a, b;

    fair_queue_init(&f, &a);
    fair_queue_init(&f, &b);
    fair_turn_begin(&f);
    fair_charge(&f, &a, UINT64_MAX / 4, true);
    fair_charge(&f, &b, 10, true);
    fair_turn_end(&f);
    CHECK_EQ(a.spent, FAIR_CHARGE_MAX);
    CHECK_EQ(f.floor, 10);
    fair_turn_begin(&f);
    CHECK(!fair_may_run(&f, &a));
    CHECK(fair_may_run(&f, &b));
    CHECK_EQ(f.waiting, 1);
    fair_charge(&f, &b, 5, false);      /* nothing there */
    fair_turn_end(&f);
    fair_turn_begin(&f);
    CHECK(fair_may_run(&f, &a));        /* alone now */
}

MAIN
{
    RUN(expensive_neighbour_gets_half);
    RUN(victim_with_gaps_gets_half);
    RUN(many_attackers);
    RUN(alone_nobody_waits);
    RUN(no_hoarding);
    RUN(interruption_is_bounded);
}
