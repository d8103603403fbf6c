/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fair.h - how the queues of one worker share its core: by time, not by
 * frames.  Worker thread, inside a turn; called by worker.c only.
 *
 * Theory of operation.  A burst that is flooded to fifty ports, or made of
 * frames of 64 KiB, costs many times what a neighbour's costs.  So each queue
 * has an account of the cycles it has spent, and the floor is the lowest
 * account among the queues that had work in the last turn.  A queue more than
 * FAIR_AHEAD above the floor is left out until the others have caught up.  A
 * queue without work does not hold the floor down, so whoever is alone never
 * waits; it keeps a little credit (FAIR_CREDIT), so that a ring that is empty
 * for a moment does not lose its share, and no more, so that a long silence
 * buys nothing.
 *
 * A burst cannot be taken back once begun.  While queues compete, the frames
 * taken at once are therefore halved until a burst costs no more than
 * FAIR_TURN, which also bounds how long the neighbours wait for a turn.
 *
 * Cycles are the processor's: where clock_cycles() is always 0, every queue
 * gets its burst a turn.  What an interruption of the thread adds to a queue's
 * account is bounded by FAIR_CHARGE_MAX.
 */
#ifndef USWITCH_FAIR_H
#define USWITCH_FAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

#define FAIR_TURN 32768                         /* cycles of a burst while others wait; about 10 us */
#define FAIR_AHEAD FAIR_TURN                    /* so far above the floor a queue still gets its turn */
#define FAIR_CREDIT (4 * FAIR_TURN)             /* so far below it a queue that was silent may come back */
#define FAIR_CHARGE_MAX (8 * FAIR_TURN)         /* of one burst, whatever the counter says */
#define FAIR_CONTEST (64 * FAIR_TURN)           /* cycles spent until a competition counts as over */

/**
 * struct fair - what the queues of a worker have in common
 * @floor: lowest account of the last turn
 * @next: lowest account of this turn so far
 * @contest: cycles until bursts may be whole again, <= 0: nobody competes
 * @working: queues of this turn that had work, or were left out
 * @waiting: queues of this turn that were left out
 */
struct fair {
    int64_t floor;
    int64_t next;
    int64_t contest;
    uint32_t working;
    uint32_t waiting;
};

/**
 * struct fair_queue - one queue
 * @spent: its account, cycles
 * @frames: frames of a burst while others wait, 1 .. BURST_MAX
 */
struct fair_queue {
    int64_t spent;
    uint32_t frames;
};

/* A queue that comes to the worker has neither debt nor credit. */
static inline void fair_queue_init(const struct fair *f, struct fair_queue *q)
{
    q->spent = f->floor;
    q->frames = BURST_MAX;
}

static inline void fair_turn_begin(struct fair *f)
{
    f->next = INT64_MAX;
    f->working = 0;
    f->waiting = 0;
}

static inline void fair_note_working(struct fair *f, const struct fair_queue *q)
{
    f->next = q->spent < f->next ? q->spent : f->next;
    f->working++;
}

/* Whether the queue gets its turn now. */
static inline bool fair_may_run(struct fair *f, const struct fair_queue *q)
{
    if (__builtin_expect(q->spent - f->floor <= FAIR_AHEAD, 1))
        return true;
    fair_note_working(f, q);
    f->waiting++;
    return false;
}

/* How many frames it may take. */
static inline uint32_t fair_frames(const struct fair *f, const struct fair_queue *q)
{
    return f->contest > 0 ? q->frames : BURST_MAX;
}

/**
 * fair_charge() - put a burst on the account
 * @f: the worker's
 * @q: the queue that had its turn
 * @cycles: what it took
 * @worked: it brought frames, or threw some away: a peer that sends rubbish pays for it
 */
static inline void fair_charge(struct fair *f, struct fair_queue *q, uint64_t cycles, bool worked)
{
    const int64_t charge = cycles < FAIR_CHARGE_MAX ? (int64_t)cycles : FAIR_CHARGE_MAX;

    if (!worked)
        return;
    if (q->spent < f->floor - FAIR_CREDIT)
        q->spent = f->floor - FAIR_CREDIT;
    if (charge > FAIR_TURN)
        q->frames = q->frames > 1 ? q->frames / 2 : 1;
    else if (charge < FAIR_TURN / 2 && q->frames < BURST_MAX)
        q->frames *= 2;
    q->spent += charge;
    f->contest -= charge;
    fair_note_working(f, q);
}

static inline void fair_turn_end(struct fair *f)
{
    if (f->working == 0)
        return;
    f->floor = f->next;
    if (f->working > 1)
        f->contest = FAIR_CONTEST;
    else if (f->contest < 0)
        f->contest = 0;
}

#endif /* USWITCH_FAIR_H */
