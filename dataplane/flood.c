/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * flood.c - the token bucket of flood.h.  Runs once a flooded frame, in any
 * worker; nothing here waits for another one.
 */
#include "flood.h"

#define NS_PER_S 1000000000ULL
/* More losers of the race than that in a row means the budget is being fought over: refuse. */
#define CHARGE_TRIES 16
/* Workers' clocks differ by less than a turn; what lies further ahead than this was charged under other limits. */
#define SKEW_NS NS_PER_S

void flood_set(struct flood_bucket *b, uint32_t rate, uint32_t depth)
{
    atomic_store_explicit(&b->rate, rate, memory_order_relaxed);
    atomic_store_explicit(&b->depth, depth, memory_order_relaxed);
}

bool flood_charge(struct flood_bucket *b, uint32_t copies, uint64_t now_ns)
{
    const uint64_t rate = atomic_load_explicit(&b->rate, memory_order_relaxed);
    const uint64_t depth = atomic_load_explicit(&b->depth, memory_order_relaxed);
    uint64_t full_at, window_ns, cost_ns;

    if (rate == 0)
        return true;
    /* 2^32 copies at one a second: both products stay below 2^62. */
    window_ns = depth * NS_PER_S / rate;
    cost_ns = copies * NS_PER_S / rate;

    full_at = atomic_load_explicit(&b->state, memory_order_relaxed);
    for (unsigned i = 0; i < CHARGE_TRIES; i++) {
        const bool in_debt = full_at > now_ns && full_at - now_ns > window_ns + SKEW_NS;
        uint64_t next = full_at > now_ns ? full_at : now_ns;
        bool affordable = true;

        /* Debt beyond an empty bucket is of older limits: forgiven, and written down, so that time can repay. */
        if (in_debt)
            next = now_ns + window_ns;
        if (next + cost_ns - now_ns > window_ns)
            affordable = false;
        else
            next += cost_ns;
        if (!affordable && !in_debt)
            return false;
        if (atomic_compare_exchange_weak_explicit(&b->state, &full_at, next, memory_order_relaxed,
                                                  memory_order_relaxed))
            return affordable;
    }
    return false;
}
