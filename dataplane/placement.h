/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * placement.h - which queue shall change its worker: a decision from numbers,
 * nothing else.  Called by uswitch_balance.c; control thread.
 *
 * Theory of operation.  A move helps if the queue costs less than the
 * difference between the two workers; it helps most if it costs half of it.
 * So the busiest worker gives the queue nearest to half of its lead over the
 * idlest one.  One queue that fills a worker by itself stays where it is,
 * since it would fill the next one as well, and the second busiest is asked
 * instead.
 *
 * A move costs its flows two grace periods, and loads vary: what gains less
 * than a PLACEMENT_WORTH-th of a worker is left alone, and so is everything
 * while no worker is busy for a PLACEMENT_BUSY-th of the time.  Under constant
 * loads every move lowers the sum of the squares of the workers' loads, so
 * there is an end to it.
 */
#ifndef USWITCH_PLACEMENT_H
#define USWITCH_PLACEMENT_H

#include <stdint.h>

#define PLACEMENT_WORTH 16
#define PLACEMENT_BUSY 4

/**
 * struct placement_queue - a queue
 * @load: cycles it cost in the period
 * @worker: who has it
 */
struct placement_queue {
    uint64_t load;
    uint32_t worker;
};

/**
 * struct placement_move - a decision
 * @queue: index of the queue
 * @worker: who shall have it
 */
struct placement_move {
    uint32_t queue;
    uint32_t worker;
};

/**
 * placement_plan() - decide
 * @queue: all queues; their workers are changed as decided
 * @n_queues: how many
 * @n_workers: 1 .. US_WORKERS_MAX
 * @period: cycles of the period, what a worker can spend at most
 * @out: the moves, no queue twice
 * @max: at most so many
 *
 * Return: how many.
 */
uint32_t placement_plan(struct placement_queue *queue, uint32_t n_queues, uint32_t n_workers, uint64_t period,
                        struct placement_move *out, uint32_t max);

#endif /* USWITCH_PLACEMENT_H */
