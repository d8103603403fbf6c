/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * worker_fake.h - what the tests of the worker share: a port that is a
 * counter and an eventfd, and a stub in the place of the switch, since what
 * matters there is who calls what when.
 *
 * A header, not a helper to link with: it defines switch_burst(), which other
 * tests want to be the real one.  One test_*.c a program includes it.
 */
#ifndef USWITCH_TESTS_WORKER_FAKE_H
#define USWITCH_TESTS_WORKER_FAKE_H

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "worker.h"

#define PATIENCE_NS 20000000000ull      /* a loaded machine is slow, a lost wake-up is for ever */
#define ms(n) ((n) * 1000000ull)

/* ---- a port that is a counter ---- */

/**
 * struct fake - frames are a number
 * @pending: pushed, not taken
 * @taken: taken by the worker
 * @armed: the worker wants a kick
 * @completes: calls of rx_complete
 * @kick_fd: eventfd, or what a test puts there
 * @call_fd: written by rx_complete after frames, if >= 0: a hostile one
 * @call_error: what the last such write() failed with
 * @forward_to: the stub pushes what it gets there, if set
 */
struct fake {
    struct port port;
    struct us_state_page page;
    _Atomic uint32_t pending;
    _Atomic uint64_t taken;
    _Atomic bool armed;
    _Atomic uint64_t completes;
    int kick_fd;
    int call_fd;
    _Atomic int call_error;
    struct fake *forward_to;
};

static inline struct fake *fake_of(const struct rxq *q)
{
    return (struct fake *)q->port;
}

static inline void fake_push(struct fake *f, uint32_t n)
{
    const uint64_t one = 1;

    atomic_fetch_add(&f->pending, n);
    if (atomic_exchange(&f->armed, false))
        CHECK(write(f->kick_fd, &one, sizeof(one)) == sizeof(one));
}

static inline unsigned fake_rx_burst(struct rxq *q, struct burst *b)
{
    struct fake *f = fake_of(q);
    const uint32_t pending = atomic_load(&f->pending);

    b->n = pending < BURST_MAX ? pending : BURST_MAX;
    b->n_iov = 0;
    atomic_fetch_sub(&f->pending, b->n);
    return b->n;
}

static inline void fake_rx_complete(struct rxq *q, struct burst *b)
{
    struct fake *f = fake_of(q);
    const uint64_t one = 1;

    atomic_fetch_add_explicit(&f->completes, 1, memory_order_relaxed);
    if (b->n && f->call_fd >= 0 && write(f->call_fd, &one, sizeof(one)) < 0)
        atomic_store(&f->call_error, errno);
    atomic_fetch_add(&f->taken, b->n);
}

static inline unsigned fake_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    (void)p;
    (void)frames;
    return n;
}

static inline bool fake_arm(struct rxq *q)
{
    struct fake *f = fake_of(q);

    atomic_store(&f->armed, true);
    return atomic_load(&f->pending) != 0;
}

static inline void fake_disarm(struct rxq *q)
{
    atomic_store(&fake_of(q)->armed, false);
}

static inline void fake_stop(struct port *p)
{
    (void)p;
}

static inline void fake_destroy(struct port *p)
{
    struct fake *f = (struct fake *)p;

    if (f->kick_fd >= 0)
        close(f->kick_fd);
    free(f);
}

static const struct port_ops fake_ops = {
    .kind = "fake",
    .rx_burst = fake_rx_burst,
    .rx_complete = fake_rx_complete,
    .tx_burst = fake_tx_burst,
    .arm = fake_arm,
    .disarm = fake_disarm,
    .stop = fake_stop,
    .destroy = fake_destroy,
};

static inline struct fake *fake_new(void)
{
    struct fake *f = calloc(1, sizeof(*f));

    f->port.ops = &fake_ops;
    f->port.state = &f->page;
    f->port.n_queues = 1;
    f->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->call_fd = -1;
    f->port.rxq[0] = (struct rxq){ .port = &f->port, .watched_fd = f->kick_fd };
    return f;
}

/* ---- stub of the switch ---- */

struct switch_scratch {
    int nothing;
};

struct switch_scratch *switch_scratch_create(void)
{
    return calloc(1, sizeof(struct switch_scratch));
}

void switch_scratch_destroy(struct switch_scratch *s)
{
    free(s);
}

void switch_burst(struct switch_core *core, struct switch_scratch *s, struct rxq *q, struct burst *b,
                  uint64_t now_ns)
{
    struct fake *f = fake_of(q);

    (void)core;
    (void)s;
    (void)now_ns;
    if (f->forward_to)
        fake_push(f->forward_to, b->n);
}

/* ---- helpers ---- */

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static inline void pause_ns(uint64_t ns)
{
    const struct timespec t = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

    nanosleep(&t, NULL);
}

static inline uint64_t stat_of(const uint64_t *stat)
{
    return __atomic_load_n(stat, __ATOMIC_RELAXED);
}

/* Frames arrive in the end; false when a wake-up must have been lost. */
static inline bool taken_reaches(struct fake *f, uint64_t want)
{
    const uint64_t deadline = now_ns() + PATIENCE_NS;

    for (unsigned i = 1; atomic_load(&f->taken) < want; i++) {
        if (i % 1024 == 0 && now_ns() > deadline)
            return false;
        sched_yield();
    }
    return true;
}

static inline bool sleeps_reach(const struct us_worker_state *stats, uint64_t want)
{
    const uint64_t deadline = now_ns() + PATIENCE_NS;

    while (stat_of(&stats->sleeps) < want && now_ns() < deadline)
        pause_ns(ms(1));
    return stat_of(&stats->sleeps) >= want;
}

/* A running worker, its statistics outside. */
static inline struct worker *worker_new(struct us_worker_state *stats, uint32_t index, uint32_t poll_us)
{
    struct worker *w = NULL;

    CHECK_EQ(worker_create(NULL, stats, index, poll_us, -1, &w), 0);
    CHECK_EQ(worker_start(w), 0);
    return w;
}

#endif /* USWITCH_TESTS_WORKER_FAKE_H */
