/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_counter.c - the hardware counters: names for people (any thread), sums
 * over the lives of a port.
 */
#include "nic/nic_counter.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "include/uswitch.h"

#define COUNTER_NAME(name, text) #name,

static const char *const names[] = { NIC_COUNTERS(COUNTER_NAME) };

static_assert(sizeof(names) / sizeof(names[0]) == NIC_COUNTER_COUNT, "a name for each counter");
static_assert(NIC_COUNTER_COUNT <= US_NIC_COUNTERS_MAX, "the state page has room for each counter");

const char *us_nic_counter_name(uint32_t index)
{
    return index < NIC_COUNTER_COUNT ? names[index] : NULL;
}

void nic_counter_begin(struct us_nic_state *s, uint64_t *before)
{
    const struct us_nic_state old = *s;

    *s = (struct us_nic_state){ .resets = old.resets, .link_changes = old.link_changes };
    memcpy(s->counter, old.counter, sizeof(s->counter));
    for (unsigned i = 0; i < US_NIC_COUNTERS_MAX; i++)
        before[i] = old.counter[i] == US_NIC_COUNTER_NONE ? 0 : old.counter[i];
}

void nic_counter_publish(struct us_nic_state *s, const uint64_t *before, const uint64_t *now)
{
    for (unsigned i = 0; i < US_NIC_COUNTERS_MAX; i++)
        s->counter[i] = now[i] == US_NIC_COUNTER_NONE ? now[i] : before[i] + now[i];
}
