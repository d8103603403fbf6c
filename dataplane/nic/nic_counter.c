/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_counter.c - names of the hardware counters, for people.  Any thread.
 */
#include "nic/nic_counter.h"

#include <assert.h>
#include <stddef.h>

#include "include/uswitch.h"

#define COUNTER_NAME(name, text) #name,

static const char *const names[] = { NIC_COUNTERS(COUNTER_NAME) };

static_assert(sizeof(names) / sizeof(names[0]) == NIC_COUNTER_COUNT, "a name for each counter");
static_assert(NIC_COUNTER_COUNT <= US_NIC_COUNTERS_MAX, "the state page has room for each counter");

const char *us_nic_counter_name(uint32_t index)
{
    return index < NIC_COUNTER_COUNT ? names[index] : NULL;
}
