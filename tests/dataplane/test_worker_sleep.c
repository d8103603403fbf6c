/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_sleep.c - a worker between awake and asleep: no wake-up lost,
 * sleep that costs nothing, peers' fds that cannot keep it awake or hold it
 * up.  Run it under TSan.
 */
#include "worker.h"

#include <fcntl.h>

#include "worker_fake.h"

static void busy_wait(uint64_t ns)
{
    const uint64_t end = now_ns() + ns;

    while (now_ns() < end)
        ;
}

/*
 * One frame at a time, the next when it was taken and up to @jitter_ns later: each may find the worker anywhere
 * between awake and asleep.
 */
static void ping_pong(uint32_t poll_us, unsigned rounds, uint64_t jitter_ns)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, poll_us);
    unsigned i;

    worker_add_queue(w, &f->port.rxq[0]);
    for (i = 1; i <= rounds; i++) {
        fake_push(f, 1);
        if (!CHECK(taken_reaches(f, i)))
            break;
        busy_wait(jitter_ns * (i % 64) / 64);
    }
    worker_stop(w);
    CHECK_EQ(stats.frames, rounds);
    CHECK_EQ(stats.sleeps, stats.wakeups);
    CHECK(stats.sleeps > rounds / 1000);
    worker_destroy(w);
    fake_destroy(&f->port);
}

TEST(ping_pong_sleep_at_once)
{
    ping_pong(0, 100000, 0);
}

TEST(ping_pong_short_spin)
{
    ping_pong(5, 20000, 20000);
}

/* Workers wake each other: frames run in a circle through four of them. */
TEST(circle)
{
    enum { N = 4, ROUNDS = 25000 };
    struct us_worker_state stats[N];
    struct worker *w[N];
    struct fake *f[N];

    for (unsigned i = 0; i < N; i++) {
        w[i] = worker_new(&stats[i], i, 0);
        f[i] = fake_new();
    }
    for (unsigned i = 0; i < N; i++)
        f[i]->forward_to = f[(i + 1) % N];
    for (unsigned i = 0; i < N; i++)
        worker_add_queue(w[i], &f[i]->port.rxq[0]);
    fake_push(f[0], 1);
    CHECK(taken_reaches(f[N - 1], ROUNDS));
    for (unsigned i = 0; i < N; i++)
        worker_destroy(w[i]);
    for (unsigned i = 0; i < N; i++)
        fake_destroy(&f[i]->port);
}

/* A peer is asked for kicks while the worker sleeps, and only then: each costs the guest an exit. */
TEST(no_kicks_while_awake)
{
    const uint64_t one = 1;
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 200000);

    CHECK(sleeps_reach(&stats, 1));
    atomic_store(&f->armed, true);      /* as a ring starts */
    worker_add_queue(w, &f->port.rxq[0]);
    fake_push(f, 1);
    CHECK(taken_reaches(f, 1));
    CHECK(!atomic_load(&f->armed));
    CHECK(sleeps_reach(&stats, 2));
    CHECK(atomic_load(&f->armed));
    atomic_fetch_add(&f->pending, 1);
    CHECK_EQ(write(f->kick_fd, &one, sizeof(one)), sizeof(one));
    CHECK(taken_reaches(f, 2));
    CHECK(!atomic_load(&f->armed));
    worker_destroy(w);
    fake_destroy(&f->port);
}

/* A ring that starts while the worker is awake asks for kicks at first; the worker does not want them. */
TEST(no_kicks_after_change)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 200000);
    bool disarmed = false;

    worker_add_queue(w, &f->port.rxq[0]);
    for (unsigned i = 0; i < 10 && !disarmed; i++) {
        uint64_t before;

        worker_wake(w);                 /* awake for 200 ms */
        pause_ns(ms(2));
        before = stat_of(&stats.sleeps);
        atomic_store(&f->armed, true);
        CHECK_EQ(rxq_watch(&f->port.rxq[0], f->kick_fd), 0);
        while (!disarmed && stat_of(&stats.sleeps) == before)
            disarmed = !atomic_load(&f->armed);
    }
    CHECK(disarmed);
    worker_destroy(w);
    fake_destroy(&f->port);
}

/* Kicks that came while the worker was awake do not end its sleep. */
TEST(stale_kick)
{
    const uint64_t one = 1;
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 100000);
    bool done = false;

    worker_add_queue(w, &f->port.rxq[0]);
    for (unsigned i = 1; i <= 10 && !done; i++) {
        uint64_t before;

        CHECK(sleeps_reach(&stats, stat_of(&stats.wakeups) + 1));
        before = stat_of(&stats.sleeps);
        fake_push(f, 1);
        CHECK(taken_reaches(f, i));
        CHECK_EQ(write(f->kick_fd, &one, sizeof(one)), sizeof(one));
        if (stat_of(&stats.sleeps) != before)
            continue;                   /* it slept already: this machine was busy elsewhere */
        pause_ns(ms(350));
        CHECK_EQ(stat_of(&stats.sleeps), before + 1);
        done = true;
    }
    CHECK(done);
    worker_destroy(w);
    fake_destroy(&f->port);
}

/* Law 7. A tick of any kind would show in the passes, and the processor time of the thread. */
TEST(idle_costs_nothing)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 100);
    uint64_t passes, cpu;
    clockid_t clock;

    worker_add_queue(w, &f->port.rxq[0]);
    fake_push(f, 1);
    CHECK(taken_reaches(f, 1));
    pause_ns(ms(100));
    /* The clock of thread @tid, as the kernel spells it: ~tid << 3 | per-thread | CPUCLOCK_SCHED. */
    clock = (clockid_t)(~(uint32_t)stats.tid << 3 | 4 | 2);
    passes = stat_of(&stats.passes);
    cpu = clock_ns(clock);
    pause_ns(ms(300));
    CHECK_EQ(stat_of(&stats.passes), passes);
    CHECK(clock_ns(clock) - cpu < ms(1) / 10);
    CHECK_EQ(stat_of(&stats.sleeps), stat_of(&stats.wakeups) + 1);
    worker_destroy(w);
    fake_destroy(&f->port);
}

TEST(polled_queue)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 0);
    uint64_t passes;

    CHECK_EQ(rxq_watch(&f->port.rxq[0], RXQ_POLLED), 0);
    worker_add_queue(w, &f->port.rxq[0]);
    for (unsigned i = 1; i <= 20; i++) {
        atomic_fetch_add(&f->pending, 1);       /* no kick */
        CHECK(taken_reaches(f, i));
    }
    CHECK_EQ(rxq_watch(&f->port.rxq[0], RXQ_QUIET), 0);
    pause_ns(ms(50));
    passes = stat_of(&stats.passes);
    pause_ns(ms(50));
    CHECK_EQ(stat_of(&stats.passes), passes);   /* no polled queue left: no ticking */
    CHECK_EQ(rxq_watch(&f->port.rxq[0], f->kick_fd), 0);
    fake_push(f, 1);
    CHECK(taken_reaches(f, 21));
    worker_del_queue(w, &f->port.rxq[0]);
    worker_destroy(w);
    fake_destroy(&f->port);
}

/* A ring is started with frames waiting in it: nobody will kick for them. */
TEST(watch_wakes)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 0);

    f->port.rxq[0].watched_fd = RXQ_QUIET;
    worker_add_queue(w, &f->port.rxq[0]);
    for (unsigned i = 1; i <= 50; i++) {
        CHECK(sleeps_reach(&stats, stat_of(&stats.wakeups) + 1));
        atomic_fetch_add(&f->pending, 1);
        CHECK_EQ(rxq_watch(&f->port.rxq[0], f->kick_fd), 0);
        CHECK(taken_reaches(f, i));
    }
    worker_destroy(w);
    fake_destroy(&f->port);
}

/* Threat F3: a kick fd that is readable for ever wakes the worker once, not for ever. */
TEST(readable_kick_fd)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = worker_new(&stats, 0, 0);
    uint64_t passes;
    int fds[2];

    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    worker_add_queue(w, &f->port.rxq[0]);
    CHECK_EQ(rxq_watch(&f->port.rxq[0], fds[0]), 0);
    pause_ns(ms(50));
    passes = stat_of(&stats.passes);
    pause_ns(ms(50));
    CHECK_EQ(stat_of(&stats.passes), passes);
    worker_destroy(w);
    fake_destroy(&f->port);
    close(fds[0]);
    close(fds[1]);
}

/* Threat F3: the peer filled its call eventfd and made it blocking. The write ends, and the neighbour lives. */
TEST(stuck_call_fd)
{
    struct us_worker_state stats = { 0 };
    struct fake *bad = fake_new(), *good = fake_new();
    struct worker *w = worker_new(&stats, 0, 0);
    const uint64_t full = UINT64_MAX - 1;
    uint64_t began, longest = 0;

    bad->call_fd = eventfd(0, EFD_CLOEXEC);
    CHECK_EQ(write(bad->call_fd, &full, sizeof(full)), sizeof(full));
    worker_add_queue(w, &bad->port.rxq[0]);
    worker_add_queue(w, &good->port.rxq[0]);
    for (unsigned i = 1; i <= 50; i++) {
        began = now_ns();
        fake_push(bad, 1);
        fake_push(good, 1);
        if (!CHECK(taken_reaches(bad, i)) || !CHECK(taken_reaches(good, i)))
            break;
        if (now_ns() - began > longest)
            longest = now_ns() - began;
    }
    CHECK_EQ(atomic_load(&bad->call_error), EINTR);
    printf("stuck call fd: longest turn %.2f ms\n", (double)longest / 1e6);
    worker_destroy(w);
    close(bad->call_fd);
    fake_destroy(&bad->port);
    fake_destroy(&good->port);
}

/* A sleeping worker is offline: taking a queue from it does not wait for anything. */
TEST(del_from_sleeper)
{
    struct us_worker_state stats = { 0 };
    struct worker *w = worker_new(&stats, 0, 0);
    uint64_t began = 0, longest = 0;

    for (unsigned i = 0; i < 20; i++) {
        struct fake *f = fake_new();

        worker_add_queue(w, &f->port.rxq[0]);
        pause_ns(ms(2));
        began = now_ns();
        worker_del_queue(w, &f->port.rxq[0]);
        if (now_ns() - began > longest)
            longest = now_ns() - began;
        fake_destroy(&f->port);
    }
    printf("taking a queue from a sleeper: longest %.3f ms\n", (double)longest / 1e6);
    CHECK(longest < ms(500));
    worker_destroy(w);
}

MAIN
{
    RUN(ping_pong_sleep_at_once);
    RUN(ping_pong_short_spin);
    RUN(circle);
    RUN(no_kicks_while_awake);
    RUN(no_kicks_after_change);
    RUN(stale_kick);
    RUN(idle_costs_nothing);
    RUN(polled_queue);
    RUN(watch_wakes);
    RUN(readable_kick_fd);
    RUN(stuck_call_fd);
    RUN(del_from_sleeper);
}
