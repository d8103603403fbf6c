/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * placement.c - see placement.h.
 */
#include "placement.h"

#include <stdbool.h>

#include "include/uswitch.h"

#define NOBODY UINT32_MAX

/* The busiest worker that @stuck does not name, or NOBODY. */
static uint32_t busiest(const uint64_t *load, uint32_t n_workers, uint32_t stuck)
{
    uint32_t best = NOBODY;

    for (uint32_t i = 0; i < n_workers; i++) {
        if (!(stuck & (1u << i)) && (best == NOBODY || load[i] > load[best]))
            best = i;
    }
    return best;
}

static uint32_t idlest(const uint64_t *load, uint32_t n_workers)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n_workers; i++) {
        if (load[i] < load[best])
            best = i;
    }
    return best;
}

static bool is_moved(const struct placement_move *moves, uint32_t n, uint32_t queue)
{
    for (uint32_t i = 0; i < n; i++) {
        if (moves[i].queue == queue)
            return true;
    }
    return false;
}

/* By how much the lead shrinks if a queue of that load goes over. */
static uint64_t gain_of(uint64_t load, uint64_t lead)
{
    if (load >= lead)
        return 0;
    return 2 * (load < lead - load ? load : lead - load);
}

uint32_t placement_plan(struct placement_queue *queue, uint32_t n_queues, uint32_t n_workers, uint64_t period,
                        struct placement_move *out, uint32_t max)
{
    uint64_t load[US_WORKERS_MAX] = { 0 };
    uint32_t stuck = 0, n = 0;

    for (uint32_t i = 0; i < n_queues; i++)
        load[queue[i].worker] += queue[i].load;
    while (n < max) {
        const uint32_t from = busiest(load, n_workers, stuck), to = idlest(load, n_workers);
        uint64_t best_gain = period / PLACEMENT_WORTH;
        uint32_t best = NOBODY;

        if (from == NOBODY || load[from] < period / PLACEMENT_BUSY || period == 0)
            break;
        for (uint32_t i = 0; i < n_queues; i++) {
            const uint64_t gain = gain_of(queue[i].load, load[from] - load[to]);

            if (queue[i].worker == from && gain > best_gain && !is_moved(out, n, i)) {
                best = i;
                best_gain = gain;
            }
        }
        if (best == NOBODY) {
            stuck |= 1u << from;
            continue;
        }
        load[from] -= queue[best].load;
        load[to] += queue[best].load;
        queue[best].worker = to;
        out[n++] = (struct placement_move){ .queue = best, .worker = to };
        stuck = 0;
    }
    return n;
}
