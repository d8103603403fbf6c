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

#include "announce.h"
#include "base/rcu.h"
#include "base/spin.h"
#include "worker_priv.h"

/* How many edges one sweep takes; one left over costs a needless turn. */
#define EVENTS_MAX 64
/* A sleeping worker looks so often at queues that announce nothing (RXQ_POLLED); without such queues, never. */
#define POLLED_INTERVAL_MS 1
/* Looks in vain that may go by without being charged: some hundred cycles, which whoever works next pays. */
#define UNCHARGED_MAX 4
/* So long after work a worker looks again without a pause in between: an answer may be on its way. */
#define EAGER_NS 20000
/* Who waits for a token longer than this is looked at in between; limits may change, and clocks. */
#define TOKEN_WAIT_MAX_MS 1000

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

/* Whether the queue's port has no token; the peer's memory is not looked at to find out. */
static bool must_wait(struct queue_turn *t, const struct rxq *q, uint64_t now_ns)
{
    if (__builtin_expect(!t->limited, 1))
        return false;
    if (now_ns >= t->not_before)
        t->not_before = limit_ready_at(&q->port->limit, now_ns);
    return now_ns < t->not_before;
}

/*
 * True if some queue has work already; then not all are armed.  Of a queue that waits for tokens no news are
 * wanted: the worker looks at it again when they are there.
 */
static bool arm_all(struct worker *w, const struct queue_list *list, uint64_t now_ns)
{
    w->wake_ns = UINT64_MAX;
    for (uint32_t i = 0; i < list->n; i++) {
        struct rxq *q = list->q[i];

        if (port_is_broken(q->port))
            continue;
        if (must_wait(&w->turn[i], q, now_ns))
            w->wake_ns = w->turn[i].not_before < w->wake_ns ? w->turn[i].not_before : w->wake_ns;
        else if (q->port->ops->arm(q))
            return true;
    }
    return false;
}

static void disarm_all(const struct queue_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        list->q[i]->port->ops->disarm(list->q[i]);
}

/* Whether the driver gave buffers back since the last look, for frames that it did not list. */
static bool has_dropped(struct queue_turn *t, const struct rxq *q)
{
    const uint16_t used = q->port->state->ring[2 * q->index + 1].used_idx;
    const bool moved = used != t->used;

    t->used = used;
    return moved;
}

/* The time since a queue was charged is this one's.  Looks in vain are short: only every so many cost a clock. */
static void charge_queue(struct worker *w, struct queue_turn *t, const struct rxq *q, unsigned n)
{
    const bool worked = has_dropped(t, q) || n != 0;
    uint64_t now, spent;

    if (!worked && ++w->uncharged < UNCHARGED_MAX)
        return;
    now = clock_cycles();
    spent = now - w->turn_began;
    w->uncharged = 0;
    w->turn_began = now;
    fair_charge(&w->fair, &t->fair, spent, worked);
    if (n)
        stat_add(&q->port->state->in[q->index].cycles, spent);
}

static unsigned serve_queue(struct worker *w, struct queue_turn *t, struct rxq *q, uint64_t now_ns)
{
    const struct port_ops *ops = q->port->ops;
    unsigned n;

    if (port_is_broken(q->port) || must_wait(t, q, now_ns) || !fair_may_run(&w->fair, &t->fair))
        return 0;
    w->burst->held_back = BURST_MAX - fair_frames(&w->fair, &t->fair);
    n = ops->rx_burst(q, w->burst);
    if (n) {
        if (__builtin_expect(t->limited, 0))
            limit_charge(&q->port->limit, w->burst->frame, n, now_ns);
        switch_burst(w->core, w->scratch, q, w->burst, now_ns);
    }
    ops->rx_complete(q, w->burst);
    charge_queue(w, t, q, n);
    return n;
}

/*
 * Queues that are new, or started anew, may still ask their peers for kicks that an awake worker does not need.
 * Places in the list may have changed, and limits: what is remembered of them begins anew.
 */
static void adopt_changes(struct worker *w, const struct queue_list *list, uint32_t changes,
                          uint64_t now_ns)
{
    w->seen_changes = changes;
    stat_set(&w->stats->queues, list->n);
    for (uint32_t i = 0; i < list->n; i++) {
        fair_queue_init(&w->fair, &w->turn[i].fair);
        w->turn[i].not_before = 0;
        w->turn[i].limited = limit_is_set(&list->q[i]->port->limit);
        (void)has_dropped(&w->turn[i], list->q[i]);     /* what was given back until now was somebody else's */
    }
    disarm_all(list);
    for (uint32_t i = 0; i < list->n; i++)
        announce_send(w->core, w->scratch, list->q[i], w->burst, now_ns);
}

static unsigned serve_all(struct worker *w, const struct queue_list *list, uint64_t now_ns)
{
    unsigned frames = 0;

    fair_turn_begin(&w->fair);
    for (uint32_t i = 0; i < list->n; i++)
        frames += serve_queue(w, &w->turn[i], list->q[i], now_ns);
    fair_turn_end(&w->fair);
    return frames;
}

/*
 * Each queue once, at most BURST_MAX frames and BURST_BYTES of each; who has spent more than its share waits.  If
 * those for whom it waited have nothing, nobody waits.
 */
static unsigned worker_pass(struct worker *w, uint64_t now_ns)
{
    const uint32_t changes = atomic_load_explicit(&w->changes, memory_order_acquire);
    const struct queue_list *list = current_queues(w);
    unsigned frames;

    if (__builtin_expect(changes != w->seen_changes, 0))
        adopt_changes(w, list, changes, now_ns);
    frames = serve_all(w, list, now_ns);
    if (__builtin_expect(frames == 0 && w->fair.waiting, 0))
        frames = serve_all(w, list, now_ns);
    return frames;
}

/* Charges the time since @began to the turn that ends, and begins the next. */
static void account(struct worker *w, unsigned frames, uint64_t began)
{
    const uint64_t now = clock_cycles();
    const uint64_t spent = now - began;
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

/* For epoll_wait(): until the first token or the next look at a queue that announces nothing, or -1. */
static int sleep_ms(const struct worker *w, uint64_t now_ns)
{
    const uint64_t tokens = w->wake_ns == UINT64_MAX ? UINT64_MAX : (w->wake_ns - now_ns + 999999) / 1000000;

    if (atomic_load_explicit(&w->polled, memory_order_relaxed) != 0)
        return POLLED_INTERVAL_MS;
    if (tokens == UINT64_MAX)
        return -1;
    return tokens < TOKEN_WAIT_MAX_MS ? (int)tokens : TOKEN_WAIT_MAX_MS;
}

/*
 * Sleeps until an edge.  The nudging timer still ticks at first: threads that
 * sleep and wake a thousand times a second would otherwise pay two system
 * calls each time.  Its first tick inside shows a longer sleep and stops it.
 */
static void wait_for_edge(struct worker *w, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        if (epoll_wait(w->epoll_fd, events, EVENTS_MAX, timeout_ms) >= 0)
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

/* Pairs with worker_report(), all four accesses in one order: it sees the wake-up counted, or we see its fd. */
static void report_waking(struct worker *w)
{
    const uint64_t one = 1;
    int fd;

    __atomic_store_n(&w->stats->wakeups, w->stats->wakeups + 1, __ATOMIC_SEQ_CST);
    fd = atomic_load_explicit(&w->report_fd, memory_order_seq_cst);
    if (__builtin_expect(fd < 0, 1))
        return;
    atomic_store_explicit(&w->report_fd, -1, memory_order_relaxed);
    (void)!write(fd, &one, sizeof(one));
}

static void worker_sleep(struct worker *w)
{
    const uint64_t now_ns = clock_now(&w->clock, clock_cycles());

    sweep_edges(w);
    if (atomic_load_explicit(&w->changes, memory_order_acquire) == w->seen_changes &&
        !arm_all(w, current_queues(w), now_ns) && !atomic_load_explicit(&w->stop, memory_order_acquire)) {
        stat_add(&w->stats->sleeps, 1);
        rcu_worker_offline();
        wait_for_edge(w, sleep_ms(w, now_ns));
        rcu_worker_online();
        report_waking(w);
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
        const uint64_t began = w->turn_began;
        const uint64_t now_ns = clock_now(&w->clock, began);
        const unsigned frames = worker_pass(w, now_ns);

        account(w, frames, began);
        rcu_worker_quiescent();
        if (frames || w->fair.waiting)
            w->busy_ns = now_ns;
        else if (now_ns - w->busy_ns >= w->poll_ns)
            worker_sleep(w);
        else if (now_ns - w->busy_ns >= EAGER_NS)
            spin_pause();
    }
    thread_leave(w);
    return NULL;
}

unsigned worker_turn(struct worker *w)
{
    const uint64_t began = clock_cycles();
    unsigned frames;

    w->turn_began = began;
    frames = worker_pass(w, clock_now(&w->clock, began));
    account(w, frames, began);
    return frames;
}
