/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * worker_control.c - what the control thread does with a worker: make and
 * start it, stop and free it, change its queues and what they are watched by.
 *
 * The queue list is changed by filling the spare one, publishing it, and
 * waiting a grace period; then the old one is the spare.  So nothing is
 * allocated, and taking a queue away cannot fail.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/rcu.h"
#include "worker_priv.h"

/* ---- control: life ---- */

static int watch_fd(struct worker *w, int fd)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

    if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0)
        return 0;
    /* Watched already: MOD reports an edge again if it is readable. */
    if (errno == EEXIST && epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0)
        return 0;
    return -errno;
}

int worker_create(struct switch_core *core, struct us_worker_state *stats, uint32_t index, uint32_t poll_us,
                  int cpu, struct worker **out)
{
    struct worker *w = aligned_alloc(WORKER_LINE, sizeof(*w));
    int rc = -ENOMEM;

    if (!w)
        return -ENOMEM;
    memset(w, 0, sizeof(*w));
    w->core = core;
    w->stats = stats;
    w->index = index;
    w->poll_ns = (uint64_t)poll_us * 1000;
    w->cpu = cpu;
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sem_init(&w->started, 0, 0);
    atomic_init(&w->queues, &w->list[0]);
    atomic_init(&w->report_fd, -1);
    clock_init(&w->clock, clock_khz());
    w->scratch = switch_scratch_create();
    w->burst = aligned_alloc(WORKER_LINE, sizeof(*w->burst));
    w->turn = calloc(QUEUES_MAX, sizeof(*w->turn));
    if (!w->scratch || !w->burst || !w->turn)
        goto fail;
    memset(w->burst, 0, sizeof(*w->burst));     /* page faults now, not under traffic */
    rc = w->epoll_fd < 0 || w->wake_fd < 0 ? -EMFILE : watch_fd(w, w->wake_fd);
    if (rc < 0)
        goto fail;
    memset(stats, 0, sizeof(*stats));
    stats->cpu = cpu;
    *out = w;
    return 0;
fail:
    worker_destroy(w);
    return rc;
}

/* Everything but faults of its own and the nudge goes to the control thread. */
static void worker_signals(sigset_t *blocked)
{
    static const int open[] = { SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };

    sigfillset(blocked);
    for (unsigned i = 0; i < sizeof(open) / sizeof(open[0]); i++)
        sigdelset(blocked, open[i]);
    sigdelset(blocked, nudge_signal());
}

static int spawn(struct worker *w)
{
    sigset_t blocked, before;
    pthread_attr_t attr;
    cpu_set_t cpus;
    int rc;

    pthread_attr_init(&attr);
    if (w->cpu >= 0) {
        CPU_ZERO(&cpus);
        CPU_SET(w->cpu, &cpus);
        pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
    }
    worker_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    rc = -pthread_create(&w->thread, &attr, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

int worker_start(struct worker *w)
{
    int rc;

    if (w->running)
        return -EALREADY;
    if (w->cpu >= CPU_SETSIZE)
        return -EINVAL;
    rc = nudge_install();
    if (rc < 0)
        return rc;
    atomic_store(&w->stop, false);
    rc = spawn(w);
    if (rc < 0)
        return rc;
    while (sem_wait(&w->started) < 0 && errno == EINTR)
        ;
    if (w->start_rc < 0) {
        pthread_join(w->thread, NULL);
        return w->start_rc;
    }
    w->running = true;
    return 0;
}

void worker_stop(struct worker *w)
{
    if (!w->running)
        return;
    atomic_store_explicit(&w->stop, true, memory_order_release);
    worker_wake(w);
    pthread_join(w->thread, NULL);
    w->running = false;
}

void worker_destroy(struct worker *w)
{
    if (!w)
        return;
    worker_stop(w);
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    sem_destroy(&w->started);
    switch_scratch_destroy(w->scratch);
    free(w->turn);
    free(w->burst);
    free(w);
}

void worker_wake(struct worker *w)
{
    const uint64_t one = 1;

    (void)!write(w->wake_fd, &one, sizeof(one));
}

/* ---- control: queues ---- */

static struct queue_list *spare_list(struct worker *w)
{
    return &w->list[current_queues(w) == &w->list[0]];
}

/* Tells the worker that something about its queues is different. */
static void announce(struct worker *w)
{
    atomic_fetch_add_explicit(&w->changes, 1, memory_order_release);
    worker_wake(w);
}

void worker_look(struct worker *w)
{
    announce(w);
}

static void publish(struct worker *w, struct queue_list *next)
{
    atomic_store_explicit(&w->queues, next, memory_order_release);
    announce(w);
    rcu_wait();
}

static int watch_begin(struct worker *w, int fd)
{
    if (fd == RXQ_POLLED)
        atomic_fetch_add_explicit(&w->polled, 1, memory_order_relaxed);
    return fd >= 0 ? watch_fd(w, fd) : 0;
}

static void watch_end(struct worker *w, int fd)
{
    if (fd == RXQ_POLLED)
        atomic_fetch_sub_explicit(&w->polled, 1, memory_order_relaxed);
    if (fd >= 0)                /* it may be closed already, then it has left the set by itself */
        epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* Whose queue it is, for us and for readers of the state page: worker 0 is 1 there. */
static void assign(struct rxq *q, struct worker *w)
{
    q->worker = w;
    __atomic_store_n(&q->port->state->in[q->index].worker, w ? w->index + 1 : 0, __ATOMIC_RELAXED);
}

/* There is room, and the queue is watched. */
static void append(struct worker *w, struct rxq *q)
{
    const struct queue_list *now = current_queues(w);
    struct queue_list *next = spare_list(w);

    memcpy(next->q, now->q, now->n * sizeof(next->q[0]));
    next->q[now->n] = q;
    next->n = now->n + 1;
    assign(q, w);
    publish(w, next);
}

int worker_add_queue(struct worker *w, struct rxq *q)
{
    int rc;

    if (q->worker)
        return -EBUSY;
    if (worker_queue_count(w) == QUEUES_MAX)
        return -ENOSPC;
    rc = watch_begin(w, q->watched_fd);
    if (rc == 0)
        append(w, q);
    return rc;
}

void worker_del_queue(struct worker *w, struct rxq *q)
{
    const struct queue_list *now = current_queues(w);
    struct queue_list *next = spare_list(w);

    if (q->worker != w)
        return;
    next->n = 0;
    for (uint32_t i = 0; i < now->n; i++)
        if (now->q[i] != q)
            next->q[next->n++] = now->q[i];
    watch_end(w, q->watched_fd);
    publish(w, next);
    assign(q, NULL);
}

/*
 * The new worker watches before the old one lets go, so only then can it fail.  A kick meanwhile may wake the
 * wrong one, or nobody: the new worker looks at the queue before it sleeps, as at any new one.
 */
int worker_move_queue(struct worker *to, struct rxq *q)
{
    struct worker *from = q->worker;
    int rc;

    if (!from)
        return -EINVAL;
    if (from == to)
        return 0;
    if (worker_queue_count(to) == QUEUES_MAX)
        return -ENOSPC;
    rc = watch_begin(to, q->watched_fd);
    if (rc < 0)
        return rc;
    worker_del_queue(from, q);
    append(to, q);
    return 0;
}

void worker_refresh(struct worker *w)
{
    announce(w);
}

uint32_t worker_index(const struct worker *w)
{
    return w->index;
}

unsigned worker_queue_count(const struct worker *w)
{
    return current_queues(w)->n;
}

int worker_watch(struct worker *w, struct rxq *q, int fd)
{
    const int before = q->watched_fd;
    const int rc = watch_begin(w, fd);

    if (rc < 0)
        return rc;
    if (before != fd || fd < 0)
        watch_end(w, before);
    announce(w);
    return 0;
}

bool worker_report(struct worker *w, int fd)
{
    uint64_t wakeups;

    atomic_store_explicit(&w->report_fd, fd, memory_order_seq_cst);
    /* Before the sleeps: one that begins in between looks like being asleep, and its end will be told. */
    wakeups = __atomic_load_n(&w->stats->wakeups, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&w->stats->sleeps, __ATOMIC_RELAXED) != wakeups;
}
