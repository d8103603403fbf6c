/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * hold.h - who still reads the payload of a burst's frames when the burst is
 * over: transmit queues of adapters that were given guests' memory instead of
 * a copy (zero copy).
 *
 * Theory of operation.  A source whose memory stays as it is until it hands
 * the buffers back points its frames at the burst's struct hold.  A device
 * that leaves a frame's payload where it lies notes there which of its queues
 * reads it, and up to which point of that queue's work.  The source keeps the
 * buffers of the burst until every queue that is named has come so far.
 * Nothing is noted a frame: a queue does its work in order, so the last frame
 * stands for all.
 *
 * A queue's progress (struct hold_reader) outlives the queue, since buffers
 * may wait for it when its adapter is removed; whoever names it counts.
 */
#ifndef USWITCH_HOLD_H
#define USWITCH_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Queues that a burst can wait for; a further one has to copy. */
#define HOLD_READERS 4

/**
 * struct hold_reader - progress of a device's queue
 * @done: work that it has finished with, free-running; UINT64_MAX: it reads nothing any more, for good (writer: who
 *      holds the queue's lock, and control when the device is quiet)
 * @users: who has a pointer to it: the device, and each hold that names it
 * @queue: for the two functions; NULL: the device is gone (writer: control; a grace period follows)
 * @look: any thread with the queue in its read-side section, and control: bring @done up to date if nobody else is at
 *      it
 * @silence: control.  Fence the adapter and stop it: it reads nothing when this returns, and @done says so.  Waits for
 *      a grace period
 */
struct hold_reader {
    _Atomic uint64_t done;
    _Atomic uint32_t users;
    _Atomic(void *) queue;
    void (*look)(void *queue);
    void (*silence)(void *queue);
};

/**
 * struct hold - what a burst waits for
 * @n: readers named, 0: nothing
 * @part: a reader, and the work it must have done
 */
struct hold {
    uint32_t n;
    struct {
        struct hold_reader *reader;
        uint64_t until;
    } part[HOLD_READERS];
};

/* Control.  One user, the device; NULL: no memory. */
struct hold_reader *hold_reader_create(void *queue, void (*look)(void *queue), void (*silence)(void *queue));

/* Control: nobody looks any more when a grace period has passed. */
void hold_reader_detach(struct hold_reader *r);

/* Control, the device being quiet: whoever waits is done. The device's pointer is gone. NULL is legal. */
void hold_reader_retire(struct hold_reader *r);

/* May a reader be added?  Worker; the frame is still in the burst that the hold belongs to. */
static inline bool hold_admits(const struct hold *h, const struct hold_reader *r)
{
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->part[i].reader == r)
            return true;
    }
    return h->n < HOLD_READERS;
}

/**
 * hold_add() - a queue reads a frame of the burst in place
 * @h: the burst's, which admits @r
 * @r: reader
 * @until: what @r->done will be, at least, when it has read the frame; never less than the last time
 */
static inline void hold_add(struct hold *h, struct hold_reader *r, uint64_t until)
{
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->part[i].reader == r) {
            h->part[i].until = until;
            return;
        }
    }
    (void)atomic_fetch_add_explicit(&r->users, 1, memory_order_relaxed);
    h->part[h->n].reader = r;
    h->part[h->n++].until = until;
}

/**
 * hold_is_over() - has everybody read?
 * @h: hold
 *
 * Worker or control.  Looks at queues that are late.
 */
bool hold_is_over(const struct hold *h);

/* Forget the readers: nothing is read in place any more, or it does not matter.  Any thread. */
void hold_end(struct hold *h);

/**
 * hold_settle() - wait until everybody has read, a fraction of a second at most; then silence who has not
 * @h: hold; over when this returns
 *
 * Control thread.
 */
void hold_settle(const struct hold *h);

/* The same for one reader. */
void hold_reader_settle(struct hold_reader *r, uint64_t until);

#endif /* USWITCH_HOLD_H */
