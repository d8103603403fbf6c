/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * spin.h - a lock for sections of a few hundred nanoseconds: one burst into
 * one receiving ring.  Taken by workers, never by the control thread while it
 * may sleep inside, and never nested.
 *
 * A pthread mutex would put its futex path on the packet path; this one is a
 * single byte that lies in the cache line of what it protects.  When there
 * are more workers than CPUs the holder may have been preempted: the waiter
 * then gives its own time slice away instead of burning it.
 */
#ifndef USWITCH_SPIN_H
#define USWITCH_SPIN_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

/* About 20 us of pauses; an undisturbed holder is long done by then. */
#define SPIN_PAUSES 512

/**
 * struct spin - the lock
 * @held: 1 while somebody owns it (any worker)
 */
struct spin {
    _Atomic unsigned char held;
};

/* One polite step of a busy loop: lets a sibling hyperthread run, saves power. */
static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Before anybody else can see the lock. */
static inline void spin_init(struct spin *s)
{
    atomic_init(&s->held, 0);
}

/* Waits for the holder; returns with the lock held. Pairs with spin_unlock(). */
static inline void spin_lock(struct spin *s)
{
    unsigned pauses = 0;

    while (__builtin_expect(atomic_exchange_explicit(&s->held, 1, memory_order_acquire), 0)) {
        /* Look without writing, so that the line stays shared among the waiters. */
        while (atomic_load_explicit(&s->held, memory_order_relaxed)) {
            spin_pause();
            if (++pauses == SPIN_PAUSES) {
                sched_yield();
                pauses = 0;
            }
        }
    }
}

/* False if somebody else has it. */
static inline bool spin_try_lock(struct spin *s)
{
    return !atomic_load_explicit(&s->held, memory_order_relaxed) &&
           !atomic_exchange_explicit(&s->held, 1, memory_order_acquire);
}

/* By the holder. Pairs with spin_lock(). */
static inline void spin_unlock(struct spin *s)
{
    atomic_store_explicit(&s->held, 0, memory_order_release);
}

#endif /* USWITCH_SPIN_H */
