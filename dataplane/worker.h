/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * worker.h - a packet thread: polls its queues, runs each burst to completion,
 * spins while it pays and then sleeps (design law 7).
 *
 * One turn: for each queue rx_burst -> switch_burst -> rx_complete; then a
 * quiescent state.  Queues share the worker by time (fair.h); one whose port
 * has used up its limit is left out until tokens come (limit.h).  After poll_us without work: arm all queues, look once
 * more, sleep in epoll_wait, offline for RCU.  Control changes are published
 * as a new immutable queue list.
 *
 * Guard against peers' fds: while a worker thread is awake a timer interrupts
 * it every millisecond (WORKER_NUDGE_NS), without SA_RESTART.  A write() to a
 * call fd that blocks, because its owner cleared O_NONBLOCK and filled it,
 * returns -EINTR after that time at the latest; the driver takes this as a
 * peer that misbehaves (BREAK_call_stuck).  worker_turn() has no such timer.
 */
#ifndef USWITCH_WORKER_H
#define USWITCH_WORKER_H

#include "switch.h"

struct worker;

/* A blocking call inside a turn is interrupted after so long. */
#define WORKER_NUDGE_NS 1000000

/**
 * worker_create() - prepare a worker; no thread runs yet
 * @core: the switch (borrowed, outlives the worker)
 * @stats: its part of the switch page (borrowed)
 * @index: its number, for the thread's name
 * @poll_us: spin this long without work, 0: sleep at once
 * @cpu: CPU to pin to, -1: none
 * @out: the worker, owned by the caller
 *
 * Control thread.  Return: 0 or -errno.
 */
int worker_create(struct switch_core *core, struct us_worker_state *stats, uint32_t index, uint32_t poll_us,
                  int cpu, struct worker **out);

/**
 * worker_start() - start the thread
 * @w: the worker, not started yet
 *
 * Control thread.  The thread has the calling thread's seccomp filter and so on.  Return: 0, or -errno when
 * the thread, its timer or its CPU is not to be had; then no thread runs.
 */
int worker_start(struct worker *w);

/* Control: end and join the thread; legal if never started, and twice. */
void worker_stop(struct worker *w);

/* Control: stop, then free; NULL is legal. Its queues must be taken away or never be used again. */
void worker_destroy(struct worker *w);

/**
 * worker_add_queue() - hand a queue to the worker
 * @w: the worker
 * @q: the queue, nobody else's (q->worker is NULL); stays until worker_del_queue()
 *
 * Control thread; waits a grace period.  Return: 0 or -errno (of the queue's fd, or -ENOSPC), nothing changed then.
 */
int worker_add_queue(struct worker *w, struct rxq *q);

/* Control: take a queue away; after return, i.e. after a grace period, the worker does not touch it. */
void worker_del_queue(struct worker *w, struct rxq *q);

/**
 * worker_move_queue() - give a queue of another worker to this one
 * @to: the worker
 * @q: the queue, some worker's
 *
 * No frame is lost, and none overtakes another: when the new worker begins, the old one has ended.  Control
 * thread; waits two grace periods.  Return: 0 or -errno, nothing changed then.
 */
int worker_move_queue(struct worker *to, struct rxq *q);

/* Control: make the worker look again at what it remembers of its queues: limits changed. */
void worker_refresh(struct worker *w);

/**
 * worker_report() - ask to be told once when the worker wakes up
 * @w: the worker
 * @fd: non-blocking eventfd, borrowed until told or worker_report(w, -1); -1: never mind
 *
 * Control thread.  Return: whether the worker sleeps now; if it does, the next wake-up is told.
 */
bool worker_report(struct worker *w, int fd);

/* Control: its number. */
uint32_t worker_index(const struct worker *w);

/* Control: how many queues it has. */
unsigned worker_queue_count(const struct worker *w);

/**
 * worker_watch() - exchange the fd that announces work on a queue; the worker's half of rxq_watch()
 * @w: the worker that has the queue
 * @q: the queue; q->watched_fd is what was watched before, the caller stores the new value on success
 * @fd: fd (edge-triggered, never read), RXQ_QUIET or RXQ_POLLED
 *
 * Control thread.  Wakes the worker.  Return: 0 or -errno (-EPERM: not a kind of fd that can be waited for),
 * nothing changed then.
 */
int worker_watch(struct worker *w, struct rxq *q, int fd);

/* Control: in its next turn, which begins at once, the worker looks at what was posted at its ports (announce.h). */
void worker_look(struct worker *w);

/* Any thread: make a sleeping worker look at its queues now. */
void worker_wake(struct worker *w);

/*
 * One turn in the caller's thread, for switches without worker threads; returns frames taken in.  The caller
 * is registered for RCU (rcu_worker_register) and says when it is quiescent.
 */
unsigned worker_turn(struct worker *w);

#endif /* USWITCH_WORKER_H */
