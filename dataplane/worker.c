/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * worker.c - the worker's own thread: turns, sleep, start and end.  See
 * worker.h; the control thread's half is worker_control.c.
 *
 * Theory of operation.  A turn (worker_pass) runs with the queue list it
 * found at its start; everything it reads under RCU is valid until the
 * quiescent state behind it.
 *
 * Falling asleep must not lose work that arrives meanwhile.  Order, in
 * worker_sleep(): old edges are swept out of the epoll set; then the list and
 * the stop flag are read, the queues armed and looked at once more; then
 * epoll_wait().  Whoever brings work first makes it visible, then raises an
 * edge (kick fd, tap device, wake fd): an edge swept away came with work that
 * the look afterwards finds, any later edge ends the epoll_wait().
 * No fd is ever read: edges need no reading, and an eventfd counts to 2^64.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/rcu.h"
#include "base/spin.h"
#include "worker_priv.h"

/* How many edges one sweep takes; one left over costs a needless turn. */
#define EVENTS_MAX 64
/* A sleeping worker looks so often at queues that announce nothing (RXQ_POLLED); without such queues, never. */
#define POLLED_INTERVAL_MS 1

/* Counters are read by other processes while they run: whole stores, no locked instruction. */
static void stat_set(uint64_t *stat, uint64_t value)
{
    __atomic_store_n(stat, value, __ATOMIC_RELAXED);
}

static void stat_add(uint64_t *stat, uint64_t n)
{
    stat_set(stat, *stat + n);
}

/* ---- a turn ---- */

/* True if some queue has work already; then not all are armed. */
static bool arm_all(const struct queue_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        struct rxq *q = list->q[i];

        if (!port_is_broken(q->port) && q->port->ops->arm(q))
            return true;
    }
    return false;
}

static void disarm_all(const struct queue_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        list->q[i]->port->ops->disarm(list->q[i]);
}

static unsigned serve_queue(struct worker *w, struct rxq *q, uint64_t now_ns)
{
    const struct port_ops *ops = q->port->ops;
    unsigned n;

    if (port_is_broken(q->port))
        return 0;
    n = ops->rx_burst(q, w->burst);
    if (n)
        switch_burst(w->core, w->scratch, q, w->burst, now_ns);
    ops->rx_complete(q, w->burst);
    return n;
}

/* Queues that are new, or started anew, may still ask their peers for kicks that an awake worker does not need. */
static void adopt_changes(struct worker *w, const struct queue_list *list, uint32_t changes)
{
    w->seen_changes = changes;
    stat_set(&w->stats->queues, list->n);
    disarm_all(list);
}

/* Each queue once, at most BURST_MAX frames and BURST_BYTES of each: that is all the fairness there is. */
static unsigned worker_pass(struct worker *w, uint64_t now_ns)
{
    const uint32_t changes = atomic_load_explicit(&w->changes, memory_order_acquire);
    const struct queue_list *list = current_queues(w);
    unsigned frames = 0;

    if (__builtin_expect(changes != w->seen_changes, 0))
        adopt_changes(w, list, changes);
    for (uint32_t i = 0; i < list->n; i++)
        frames += serve_queue(w, list->q[i], now_ns);
    return frames;
}

/* Charges the time since turn_began to the turn that ends, and begins the next. */
static void account(struct worker *w, unsigned frames)
{
    const uint64_t now = clock_cycles();
    const uint64_t spent = now - w->turn_began;
    struct us_worker_state *stats = w->stats;

    w->turn_began = now;
    stat_add(&stats->passes, 1);
    stat_add(&stats->cycles, spent);
    if (frames) {
        stat_add(&stats->busy_passes, 1);
        stat_add(&stats->busy_cycles, spent);
        stat_add(&stats->frames, frames);
    }
}

/* ---- sleep ---- */

/*
 * Sleeps until an edge.  The nudging timer still ticks at first: threads that
 * sleep and wake a thousand times a second would otherwise pay two system
 * calls each time.  Its first tick inside shows a longer sleep and stops it.
 */
static void wait_for_edge(struct worker *w)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        const bool polled = atomic_load_explicit(&w->polled, memory_order_relaxed) != 0;

        if (epoll_wait(w->epoll_fd, events, EVENTS_MAX, polled ? POLLED_INTERVAL_MS : -1) >= 0)
            break;
        if (errno != EINTR)
            break;
        nudge_disarm(&w->nudge);
    }
    nudge_arm(&w->nudge, WORKER_NUDGE_NS);
}

static void sweep_edges(struct worker *w)
{
    struct epoll_event events[EVENTS_MAX];

    (void)!epoll_wait(w->epoll_fd, events, EVENTS_MAX, 0);
}

static void worker_sleep(struct worker *w)
{
    sweep_edges(w);
    if (!arm_all(current_queues(w)) && !atomic_load_explicit(&w->stop, memory_order_acquire)) {
        stat_add(&w->stats->sleeps, 1);
        rcu_worker_offline();
        wait_for_edge(w);
        rcu_worker_online();
        stat_add(&w->stats->wakeups, 1);
    }
    disarm_all(current_queues(w));
    w->turn_began = clock_cycles();
    w->busy_ns = clock_now(&w->clock, w->turn_began);
}

/* ---- the thread ---- */

static int thread_enter(struct worker *w)
{
    char name[16];
    int rc;

    snprintf(name, sizeof(name), "us-worker-%u", (unsigned)w->index);
    pthread_setname_np(pthread_self(), name);
    rc = nudge_create(&w->nudge);
    if (rc < 0)
        return rc;
    rcu_worker_register();
    nudge_arm(&w->nudge, WORKER_NUDGE_NS);
    __atomic_store_n(&w->stats->tid, syscall(SYS_gettid), __ATOMIC_RELAXED);
    w->turn_began = clock_cycles();
    w->busy_ns = clock_now(&w->clock, w->turn_began);
    return 0;
}

static void thread_leave(struct worker *w)
{
    rcu_worker_unregister();
    nudge_destroy(&w->nudge);
    __atomic_store_n(&w->stats->tid, 0, __ATOMIC_RELAXED);
}

void *worker_main(void *arg)
{
    struct worker *w = arg;
    const int rc = thread_enter(w);

    w->start_rc = rc;
    sem_post(&w->started);
    if (rc < 0)
        return NULL;
    while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
        const uint64_t now_ns = clock_now(&w->clock, w->turn_began);
        const unsigned frames = worker_pass(w, now_ns);

        account(w, frames);
        rcu_worker_quiescent();
        if (frames)
            w->busy_ns = now_ns;
        else if (now_ns - w->busy_ns >= w->poll_ns)
            worker_sleep(w);
        else
            spin_pause();
    }
    thread_leave(w);
    return NULL;
}

unsigned worker_turn(struct worker *w)
{
    unsigned frames;

    w->turn_began = clock_cycles();
    frames = worker_pass(w, clock_now(&w->clock, w->turn_began));
    account(w, frames);
    return frames;
}
