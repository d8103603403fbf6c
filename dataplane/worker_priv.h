/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * worker_priv.h - the inside of a worker, shared by its two halves: worker.c
 * (its own thread) and worker_control.c (the control thread).  Nobody else
 * includes this.
 */
#ifndef USWITCH_WORKER_PRIV_H
#define USWITCH_WORKER_PRIV_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/nudge.h"
#include "fair.h"
#include "worker.h"

#define WORKER_LINE 64
#define QUEUES_MAX (US_PORTS_MAX * US_QUEUES_MAX)

/**
 * struct queue_list - what a turn goes through
 * @n: queues
 * @q: the queues (borrowed), in the order they were added
 */
struct queue_list {
    uint32_t n;
    struct rxq *q[QUEUES_MAX];
};

/**
 * struct queue_turn - what a worker remembers of the queue at the same place of its list (worker)
 * @not_before: the port's limit lets nothing pass until then, worker's clock
 * @fair: its share of the core
 * @limited: the port has a limit
 * @used: the ring's used index after the last burst
 */
struct queue_turn {
    uint64_t not_before;
    struct fair_queue fair;
    bool limited;
    uint16_t used;
};

struct worker {
    /* immutable after worker_create() */
    struct switch_core *core;           /* borrowed */
    struct us_worker_state *stats;      /* borrowed; writer: worker */
    uint64_t poll_ns;                   /* spin so long without work */
    uint32_t index;
    int cpu;                            /* -1: any */
    int epoll_fd;                       /* owned: watched fds and wake_fd */
    int wake_fd;                        /* owned */

    /* control thread */
    pthread_t thread;
    bool running;
    struct queue_list list[2];          /* one published, one spare */

    /* start of the thread (worker writes, control reads after the post) */
    sem_t started;
    int start_rc;

    /* published (writer: control, reader: worker) */
    _Atomic(struct queue_list *) queues __attribute__((aligned(WORKER_LINE)));
    _Atomic uint32_t changes;           /* counts changes of queues and of their fds */
    _Atomic uint32_t polled;            /* queues with RXQ_POLLED */
    _Atomic bool stop;
    _Atomic int report_fd;              /* write here once when work ends a sleep; -1: do not (borrowed) */

    /* worker only */
    uint32_t seen_changes __attribute__((aligned(WORKER_LINE)));
    uint64_t turn_began;                /* cycles; within a turn: when the queue at hand began */
    uint32_t uncharged;                 /* looks in vain since the last charge */
    uint64_t wake_ns;                   /* the earliest end of a wait for tokens, UINT64_MAX: nobody waits */
    struct fair fair;
    struct queue_turn *turn;            /* owned, QUEUES_MAX */
    uint64_t busy_ns;                   /* the last turn with work, or waking up */
    struct clock clock;
    struct nudge nudge;
    struct switch_scratch *scratch;     /* owned */
    struct burst *burst;                /* owned */
};

/* The queues of this turn; valid until the next quiescent state. */
static inline struct queue_list *current_queues(const struct worker *w)
{
    return atomic_load_explicit(&w->queues, memory_order_acquire);
}

/* worker.c: what the thread runs, a struct worker as argument. Posts w->started once. */
void *worker_main(void *arg);

#endif /* USWITCH_WORKER_PRIV_H */
