/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * worker.h - a packet thread: polls its queues, runs each burst to completion,
 * spins while it pays and then sleeps (design law 7).
 *
 * One turn: for each queue rx_burst -> switch_burst -> rx_complete; then a
 * quiescent state.  After poll_us without work: arm all queues, look once
 * more, sleep in epoll_wait, offline for RCU.  Control changes are published
 * as a new immutable queue list.
 */
#ifndef USWITCH_WORKER_H
#define USWITCH_WORKER_H

#include "switch.h"

struct worker;

/**
 * worker_create() - prepare a worker; no thread runs yet
 * @core: the switch (borrowed, outlives the worker)
 * @stats: its part of the switch page (borrowed)
 * @poll_us: spin this long without work, 0: sleep at once
 * @cpu: CPU to pin to, -1: none
 */
int worker_create(struct switch_core *core, struct us_worker_state *stats, uint32_t poll_us, int cpu,
                  struct worker **out);
int worker_start(struct worker *w);     /* control: start the thread */
void worker_stop(struct worker *w);     /* control: end and join it; legal if never started */
void worker_destroy(struct worker *w);

/* Control: hand a queue to the worker / take it away; the latter waits a grace period. */
int worker_add_queue(struct worker *w, struct rxq *q);
void worker_del_queue(struct worker *w, struct rxq *q);
unsigned worker_queue_count(const struct worker *w);

/* Any thread: make a sleeping worker look at its queues now. */
void worker_wake(struct worker *w);

/* One turn in the caller's thread, for switches without worker threads; returns frames taken in. */
unsigned worker_turn(struct worker *w);

#endif /* USWITCH_WORKER_H */
