/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_share.c - what a worker does with queues that cost more than
 * others, and with queues whose port has a limit.  Run it under TSan.
 */
#include "worker.h"

#include "base/clock.h"
#include "base/rcu.h"
#include "worker_fake.h"

/* A fake whose frames cost cycles. */
static uint64_t cost_of_frame;
static struct fake *expensive;

static unsigned costly_rx_burst(struct rxq *q, struct burst *b)
{
    const uint64_t begin = clock_cycles();

    (void)fake_rx_burst(q, b);
    if (b->n > BURST_MAX - b->held_back) {
        atomic_fetch_add(&fake_of(q)->pending, b->n - (BURST_MAX - b->held_back));
        b->n = BURST_MAX - b->held_back;
    }
    while (fake_of(q) == expensive && clock_cycles() - begin < b->n * cost_of_frame)
        ;
    return b->n;
}

static struct port_ops costly_ops;

static struct fake *costly_new(void)
{
    struct fake *f = fake_new();

    costly_ops = fake_ops;
    costly_ops.rx_burst = costly_rx_burst;
    f->port.ops = &costly_ops;
    return f;
}

/* Frames that cost a thousand times what the neighbour's do: bursts become short, and the neighbour has many turns. */
TEST(expensive_queue_waits)
{
    struct us_worker_state stats = { 0 };
    struct fake *cheap = costly_new();
    struct worker *w = NULL;

    expensive = costly_new();
    cost_of_frame = 20000;
    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    worker_add_queue(w, &expensive->port.rxq[0]);
    worker_add_queue(w, &cheap->port.rxq[0]);
    fake_push(expensive, 1000000);
    fake_push(cheap, 1000000);
    rcu_worker_register();
    while (atomic_load(&cheap->taken) < 100000)
        (void)worker_turn(w);
    rcu_worker_unregister();
    CHECK(atomic_load(&expensive->taken) > 0);
    CHECK(atomic_load(&expensive->taken) < 100000 / 10);
    CHECK(stat_of(&expensive->page.in[0].cycles) > 0);
    CHECK(stat_of(&cheap->page.in[0].cycles) > 0);
    CHECK_EQ(stat_of(&cheap->page.in[0].worker), 1);
    worker_del_queue(w, &cheap->port.rxq[0]);
    CHECK_EQ(stat_of(&cheap->page.in[0].worker), 0);
    worker_destroy(w);
    fake_destroy(&cheap->port);
    fake_destroy(&expensive->port);
}

/* A peer whose frames are all thrown away is charged for them, too: its neighbour has many turns for one of its. */
static unsigned rubbish_rx_burst(struct rxq *q, struct burst *b)
{
    const uint64_t begin = clock_cycles();

    b->n = 0;
    fake_of(q)->page.ring[1].used_idx++;
    atomic_fetch_add(&fake_of(q)->taken, 1);
    while (clock_cycles() - begin < 1000000)
        ;
    return 0;
}

TEST(rubbish_is_charged)
{
    static struct port_ops ops;
    struct us_worker_state stats = { 0 };
    struct fake *cheap = costly_new(), *rubbish = fake_new();
    struct worker *w = NULL;

    ops = fake_ops;
    ops.rx_burst = rubbish_rx_burst;
    rubbish->port.ops = &ops;
    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    worker_add_queue(w, &rubbish->port.rxq[0]);
    worker_add_queue(w, &cheap->port.rxq[0]);
    fake_push(cheap, 1000000);
    rcu_worker_register();
    while (atomic_load(&cheap->taken) < 64000)
        (void)worker_turn(w);
    rcu_worker_unregister();
    CHECK(atomic_load(&rubbish->taken) > 0);
    /* Turn by turn, both would have had as many. */
    CHECK(atomic_load(&rubbish->taken) * 3 / 2 < atomic_load(&cheap->completes));
    worker_destroy(w);
    fake_destroy(&cheap->port);
    fake_destroy(&rubbish->port);
}

/* Alone, it takes whole bursts at every turn. */
TEST(expensive_queue_alone)
{
    struct us_worker_state stats = { 0 };
    struct fake *idle = costly_new();
    struct worker *w = NULL;
    unsigned whole = 0;

    expensive = costly_new();
    cost_of_frame = 2000;
    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    worker_add_queue(w, &expensive->port.rxq[0]);
    worker_add_queue(w, &idle->port.rxq[0]);
    fake_push(expensive, 1000000);
    rcu_worker_register();
    for (unsigned i = 0; i < 100; i++) {
        const unsigned n = worker_turn(w);

        CHECK(n > 0);
        whole += n == BURST_MAX;
    }
    rcu_worker_unregister();
    CHECK_EQ(whole, 100);
    worker_destroy(w);
    fake_destroy(&idle->port);
    fake_destroy(&expensive->port);
}

static void limit(struct fake *f, uint32_t kpps)
{
    limit_set(&f->port.limit, &(struct limit_values){ .kpps = kpps });
}

/*
 * A limited queue with a full ring: the worker sleeps in between (or the frames would be taken at once), is not
 * asked to arm it, and its neighbour is served as ever.  All frames come in the end.
 */
TEST(limited_queue_waits_asleep)
{
    struct us_worker_state stats = { 0 };
    struct fake *limited = fake_new(), *free_one = fake_new();
    struct worker *w;
    const uint64_t start = now_ns();

    limit(limited, 10);         /* 100 us a frame; a bucket of 4 ms */
    w = worker_new(&stats, 0, 0);
    CHECK_EQ(worker_add_queue(w, &limited->port.rxq[0]), 0);
    CHECK_EQ(worker_add_queue(w, &free_one->port.rxq[0]), 0);
    fake_push(limited, 2000);
    for (unsigned i = 1; i <= 1000; i++) {
        fake_push(free_one, 1);
        if (!CHECK(taken_reaches(free_one, i)))
            break;
    }
    CHECK(taken_reaches(limited, 2000));
    /* 2000 frames less the bucket's 40 and what may be owed. */
    CHECK(now_ns() - start >= ms(2000 / 10 - 4 - 7));
    CHECK(sleeps_reach(&stats, 10));
    worker_destroy(w);
    fake_destroy(&limited->port);
    fake_destroy(&free_one->port);
}

/* Nothing in the ring: after the last token has come the worker sleeps for good. */
TEST(limited_and_idle_sleeps)
{
    struct us_worker_state stats = { 0 };
    struct fake *limited = fake_new();
    struct worker *w;
    uint64_t wakeups;

    limit(limited, 1);
    w = worker_new(&stats, 0, 0);
    CHECK_EQ(worker_add_queue(w, &limited->port.rxq[0]), 0);
    fake_push(limited, 64);
    CHECK(taken_reaches(limited, 64));
    pause_ns(ms(200));
    wakeups = stat_of(&stats.wakeups);
    pause_ns(ms(200));
    CHECK_EQ(stat_of(&stats.wakeups), wakeups);
    CHECK_EQ(stat_of(&stats.sleeps), wakeups + 1);
    fake_push(limited, 1);
    CHECK(taken_reaches(limited, 65));
    worker_destroy(w);
    fake_destroy(&limited->port);
}

/* The limit goes while the queue waits for a token: it goes on at once. */
TEST(limit_lifted)
{
    struct us_worker_state stats = { 0 };
    struct fake *limited = fake_new();
    struct worker *w;

    limit(limited, 1);
    /* Owes a long time already. */
    atomic_store(&limited->port.limit.packets.full_at, now_ns() + ms(500));
    w = worker_new(&stats, 0, 0);
    CHECK_EQ(worker_add_queue(w, &limited->port.rxq[0]), 0);
    fake_push(limited, 100);
    pause_ns(ms(50));
    CHECK_EQ(atomic_load(&limited->taken), 0);
    limit(limited, 0);
    worker_refresh(w);
    CHECK(taken_reaches(limited, 100));
    worker_destroy(w);
    fake_destroy(&limited->port);
}

/* Moved while its peer sends and the workers fall asleep all the time: nothing is lost on the way. */
TEST(moved_between_sleepers)
{
    struct us_worker_state stats[2];
    struct worker *w[2] = { worker_new(&stats[0], 0, 0), worker_new(&stats[1], 1, 0) };
    struct fake *f = fake_new();

    CHECK_EQ(worker_move_queue(w[0], &f->port.rxq[0]), -EINVAL);
    CHECK_EQ(worker_add_queue(w[0], &f->port.rxq[0]), 0);
    for (unsigned i = 1; i <= 3000; i++) {
        fake_push(f, 1);
        CHECK_EQ(worker_move_queue(w[i % 2], &f->port.rxq[0]), 0);
        CHECK(f->port.rxq[0].worker == w[i % 2]);
        if (!CHECK(taken_reaches(f, i)))
            break;
    }
    CHECK_EQ(worker_queue_count(w[0]) + worker_queue_count(w[1]), 1);
    worker_destroy(w[0]);
    worker_destroy(w[1]);
    fake_destroy(&f->port);
}

/* Told once, of the first wake-up. */
TEST(waking_is_reported)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 0);
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t count = 0;

    worker_add_queue(w, &f->port.rxq[0]);
    for (const uint64_t end = now_ns() + PATIENCE_NS; !worker_report(w, fd) && now_ns() < end;)
        sched_yield();
    while (read(fd, &count, sizeof(count)) == sizeof(count))
        ;                       /* of wake-ups before it slept */
    if (worker_report(w, fd)) {
        for (unsigned i = 1; i <= 10; i++) {
            fake_push(f, 1);
            CHECK(taken_reaches(f, i));
        }
        CHECK(read(fd, &count, sizeof(count)) == sizeof(count));
        CHECK_EQ(count, 1);
    }
    worker_destroy(w);
    fake_destroy(&f->port);
    close(fd);
}

MAIN
{
    RUN(expensive_queue_waits);
    RUN(rubbish_is_charged);
    RUN(expensive_queue_alone);
    RUN(limited_queue_waits_asleep);
    RUN(limited_and_idle_sleeps);
    RUN(limit_lifted);
    RUN(moved_between_sleepers);
    RUN(waking_is_reported);
}
