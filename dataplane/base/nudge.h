/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nudge.h - a timer that interrupts one thread's blocking system calls.
 *
 * A call fd belongs to the peer, and so does its O_NONBLOCK: the peer can
 * clear it and fill the eventfd at any time, and checking before each write()
 * is a race.  What bounds such a write() is a signal: with a handler and
 * without SA_RESTART the kernel returns -EINTR.  The timer is periodic,
 * because a signal that arrives just before the call is entered interrupts
 * nothing; the next one does.
 *
 * Workers have one that ticks while they are awake, the control thread has one
 * for the moments in which it writes to a peer's fd (uswitch.c).
 *
 * Everything except nudge_install() is called by the thread concerned.
 */
#ifndef USWITCH_NUDGE_H
#define USWITCH_NUDGE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/**
 * struct nudge - one thread's timer
 * @timer: the kernel's
 * @created: @timer is valid
 * @armed: it is ticking
 */
struct nudge {
    timer_t timer;
    bool created;
    bool armed;
};

/* Control thread, before the threads: the handler that does nothing. The signal is nudge_signal(). */
int nudge_install(void);

/* The signal, which must not be blocked in the threads concerned. */
int nudge_signal(void);

/* Make the calling thread's timer, not ticking. Return: 0 or -errno. */
int nudge_create(struct nudge *n);

/* Tick every @period_ns. A system call, except if it is ticking already. */
void nudge_arm(struct nudge *n, uint64_t period_ns);

/* Stop ticking. A system call, except if it does not tick. */
void nudge_disarm(struct nudge *n);

/* Legal on a zeroed struct. */
void nudge_destroy(struct nudge *n);

#endif /* USWITCH_NUDGE_H */
