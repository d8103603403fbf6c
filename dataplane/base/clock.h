/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * clock.h - CLOCK_MONOTONIC for the price of reading the processor's cycle
 * counter, which a poll loop reads anyway for its statistics.
 *
 * Between two anchors, at most CLOCK_ANCHOR_NS apart, time is extrapolated
 * from the counter; an anchor is a real clock_gettime().  So an error of the
 * measured frequency stays below a microsecond, and a machine that is
 * suspended or migrated is right again at the next anchor.  Where the counter
 * does not run at constant speed (no invariant TSC, or another architecture)
 * every reading is a clock_gettime().
 *
 * One struct clock a thread.
 */
#ifndef USWITCH_CLOCK_H
#define USWITCH_CLOCK_H

#include <stdint.h>

#define CLOCK_ANCHOR_NS 1000000

/**
 * struct clock - one thread's clock
 * @ns_per_cycle: 32.32 fixed point, 0: the counter cannot be used
 * @anchor_cycles: counter at the last anchor
 * @anchor_ns: CLOCK_MONOTONIC there
 * @valid_cycles: extrapolate so far
 * @last_ns: never go back behind this
 */
struct clock {
    uint64_t ns_per_cycle;
    uint64_t anchor_cycles;
    uint64_t anchor_ns;
    uint64_t valid_cycles;
    uint64_t last_ns;
};

/* The cycle counter; for differences only. 0 where there is none. */
static inline uint64_t clock_cycles(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

/* Cycles a millisecond, measured in 2 ms of sleep; 0 if the counter cannot be used as a clock. */
uint64_t clock_khz(void);

/**
 * clock_init() - start a clock
 * @c: to fill
 * @khz: from clock_khz()
 */
void clock_init(struct clock *c, uint64_t khz);

/* The slow half of clock_now(). */
uint64_t clock_anchor(struct clock *c, uint64_t cycles);

/**
 * clock_now() - CLOCK_MONOTONIC in nanoseconds, never going back
 * @c: the thread's clock
 * @cycles: clock_cycles() just read
 */
static inline uint64_t clock_now(struct clock *c, uint64_t cycles)
{
    const uint64_t since = cycles - c->anchor_cycles;
    uint64_t now;

    if (__builtin_expect(since >= c->valid_cycles, 0))
        return clock_anchor(c, cycles);
    now = c->anchor_ns + ((since * c->ns_per_cycle) >> 32);
    if (now > c->last_ns)
        c->last_ns = now;
    return c->last_ns;
}

#endif /* USWITCH_CLOCK_H */
