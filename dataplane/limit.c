/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * limit.c - the token buckets of limit.h.  Runs once a burst of a limited
 * port, in any worker; nothing here waits for another one.
 */
#include "limit.h"

#include "include/uswitch.h"

#define NS_PER_MS 1000000ULL
/* More losers of the race in a row: as many as a port has queues, and then some. */
#define CHARGE_TRIES 64
/* A worker that was interrupted in the middle of its turn comes with an old clock; that is no debt. */
#define SKEW_NS 1000000000ULL
/* What one queue can take in one turn. */
#define TURN_BITS ((BURST_BYTES + US_FRAME_MAX) * 8ULL)

/* @burst in tokens; 2^32 kbit in nanoseconds at one kbit/s stay below 2^63. */
static void set_bucket(struct limit_bucket *b, uint32_t rate, uint64_t burst, uint64_t turn)
{
    uint64_t window = rate ? burst * NS_PER_MS / rate : 0;

    if (window < LIMIT_WINDOW_MIN)
        window = LIMIT_WINDOW_MIN;
    if (rate == atomic_load_explicit(&b->rate, memory_order_relaxed) &&
        window == atomic_load_explicit(&b->window, memory_order_relaxed))
        return;
    atomic_store_explicit(&b->window, window, memory_order_relaxed);
    atomic_store_explicit(&b->debt, rate ? US_QUEUES_MAX * turn * NS_PER_MS / rate + SKEW_NS : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&b->rate, rate, memory_order_relaxed);
    /* A burst under way may still be charged at the old rate: what that can add in excess is forgiven below. */
    atomic_store_explicit(&b->full_at, 0, memory_order_relaxed);
}

void limit_set(struct limit *l, const struct limit_values *values)
{
    set_bucket(&l->bits, values->kbps, values->burst_kbit * 1000ULL, TURN_BITS);
    set_bucket(&l->packets, values->kpps, values->burst_kpkt * 1000ULL, BURST_MAX);
}

static uint64_t ready_at(const struct limit_bucket *b, uint64_t now_ns)
{
    const uint64_t window = atomic_load_explicit(&b->window, memory_order_relaxed);
    const uint64_t full_at = atomic_load_explicit(&b->full_at, memory_order_relaxed);

    if (atomic_load_explicit(&b->rate, memory_order_relaxed) == 0 || full_at < now_ns + window)
        return 0;
    /* More than can be owed under the present limits: it was under others, and is forgiven. */
    if (full_at - now_ns > window + atomic_load_explicit(&b->debt, memory_order_relaxed))
        return 0;
    return full_at - window + 1;
}

uint64_t limit_ready_at(const struct limit *l, uint64_t now_ns)
{
    const uint64_t bits = ready_at(&l->bits, now_ns), packets = ready_at(&l->packets, now_ns);

    return bits > packets ? bits : packets;
}

static void charge(struct limit_bucket *b, uint64_t tokens, uint64_t now_ns)
{
    const uint64_t rate = atomic_load_explicit(&b->rate, memory_order_relaxed);
    const uint64_t window = atomic_load_explicit(&b->window, memory_order_relaxed);
    const uint64_t debt = atomic_load_explicit(&b->debt, memory_order_relaxed);
    uint64_t full_at = atomic_load_explicit(&b->full_at, memory_order_relaxed);

    if (rate == 0)
        return;
    for (unsigned i = 0; i < CHARGE_TRIES; i++) {
        uint64_t next = full_at > now_ns ? full_at : now_ns;

        if (next - now_ns > window + debt)
            next = now_ns + window;
        next += tokens * NS_PER_MS / rate;
        if (atomic_compare_exchange_weak_explicit(&b->full_at, &full_at, next, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
    }
}

void limit_charge(struct limit *l, const struct frame *frames, uint32_t n, uint64_t now_ns)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < n; i++)
        bits += frames[i].len * 8ULL;
    charge(&l->bits, bits, now_ns);
    charge(&l->packets, n, now_ns);
}
