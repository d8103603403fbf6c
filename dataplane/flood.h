/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * flood.h - how many copies a port may cause by flooding: a token bucket,
 * charged to the sender, one token a copy (design section 3).
 *
 * Theory of operation.  Level and time of a token bucket are one number when
 * written as "the time at which the bucket will be full again": it is full if
 * that time has passed, and empty if it lies depth / rate in the future.
 * Taking tokens moves the time forward by tokens / rate.  So the state is one
 * 64-bit word (nanoseconds of the workers' clock) and a compare-and-swap
 * charges it without a lock.  A state too far ahead to be a debt under the
 * present limits is pulled back to "empty", so a change of rate or depth needs
 * no reset and no lock either.
 *
 * A flood is all or nothing: a segment that hears half of a broadcast is
 * harder to find than one that hears none, so a burst smaller than a segment
 * silences the sender.  The control plane knows that when it sets limits.
 */
#ifndef USWITCH_FLOOD_H
#define USWITCH_FLOOD_H

#include "port.h"

/* Set the limits; control thread, port attached or not. rate 0: no limit. */
void flood_set(struct flood_bucket *b, uint32_t rate, uint32_t depth);

/**
 * flood_charge() - may this port cause so many copies now?
 * @b: the sender's bucket
 * @copies: copies the frame would become, all of which are charged, or none
 * @now_ns: the worker's clock
 *
 * Any worker.
 */
bool flood_charge(struct flood_bucket *b, uint32_t copies, uint64_t now_ns);

#endif /* USWITCH_FLOOD_H */
