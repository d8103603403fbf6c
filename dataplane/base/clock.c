/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * clock.c - see clock.h.
 */
#include "clock.h"

#include <stdbool.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define MEASURE_NS 2000000
/* Two readings of the counter around the clock's: further apart, somebody interrupted us in between. */
#define BRACKET_TRIES 16

static uint64_t monotonic_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* CPUID 80000007h, EDX bit 8: the TSC runs at one speed in every power state. */
static bool cycles_are_steady(void)
{
#if defined(__x86_64__)
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && (edx & (1u << 8));
#else
    return false;
#endif
}

/* Both clocks at one instant, as exactly as a few tries give it. */
static void read_pair(uint64_t *cycles, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < BRACKET_TRIES; i++) {
        const uint64_t before = clock_cycles();
        const uint64_t now = monotonic_ns();
        const uint64_t width = clock_cycles() - before;

        if (width < best) {
            best = width;
            *cycles = before + width / 2;
            *ns = now;
        }
    }
}

uint64_t clock_khz(void)
{
    const struct timespec pause = { 0, MEASURE_NS };
    uint64_t cycles[2] = { 0 }, ns[2] = { 0 };

    if (!cycles_are_steady())
        return 0;
    read_pair(&cycles[0], &ns[0]);
    nanosleep(&pause, NULL);
    read_pair(&cycles[1], &ns[1]);
    /* Interrupted by a signal, or stopped in a debugger: better no answer than a wrong one. */
    if (ns[1] - ns[0] < MEASURE_NS / 2 || ns[1] - ns[0] > 1000000000)
        return 0;
    return (cycles[1] - cycles[0]) * 1000000 / (ns[1] - ns[0]);
}

void clock_init(struct clock *c, uint64_t khz)
{
    *c = (struct clock){ 0 };
    if (khz) {
        c->ns_per_cycle = ((uint64_t)1000000 << 32) / khz;
        c->valid_cycles = khz * (CLOCK_ANCHOR_NS / 1000000);
    }
    clock_anchor(c, clock_cycles());
}

uint64_t clock_anchor(struct clock *c, uint64_t cycles)
{
    const uint64_t now = monotonic_ns();

    c->anchor_cycles = cycles;
    c->anchor_ns = now;
    if (now > c->last_ns)
        c->last_ns = now;
    return c->last_ns;
}
