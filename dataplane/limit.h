/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * limit.h - how much a port may send into the switch: token buckets for bits
 * and for packets, shared by all queues of the port.
 *
 * Theory of operation.  The level of a bucket is kept as in flood.h, as the
 * time at which it will be full again, in one word that workers change by
 * compare-and-swap.  But nothing is refused here: a queue whose port has no
 * token left is not looked at until there is one again, and its frames wait
 * in the guest's ring (or in the kernel's queue, which drops what it cannot
 * hold).  Since nobody knows what a burst will weigh before it is taken, the
 * burst is paid for afterwards and may leave a debt; the wait repays it, so
 * that the rate holds exactly over any longer time.
 *
 * A worker that has nothing else to do sleeps until the next token, which the
 * kernel's timer makes up to two milliseconds late: a bucket holds what
 * arrives in LIMIT_WINDOW_MIN at least, so that being late costs no rate.
 */
#ifndef USWITCH_LIMIT_H
#define USWITCH_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

#define LIMIT_WINDOW_MIN 4000000        /* ns */

/**
 * struct limit_bucket - one kind of token
 * @rate: tokens a millisecond, 0: no limit (writer: control)
 * @window: ns in which an empty bucket fills (writer: control)
 * @debt: ns beyond an empty bucket that the port's queues can owe, and a second (writer: control)
 * @full_at: when it will be full, CLOCK_MONOTONIC ns (writer: workers, compare-and-swap)
 */
struct limit_bucket {
    _Atomic uint32_t rate;
    _Atomic uint64_t window;
    _Atomic uint64_t debt;
    _Atomic uint64_t full_at;
};

/**
 * struct limit - what a port may send
 * @bits: of Ethernet frames, no FCS
 * @packets: a frame with a segmentation request is one
 */
struct limit {
    struct limit_bucket bits;
    struct limit_bucket packets;
};

/**
 * struct limit_values - the limits as they come from the control plane
 * @kbps: kilobits a second, 0: no limit
 * @burst_kbit: kilobits at once after a silence
 * @kpps: thousands of packets a second, 0: no limit
 * @burst_kpkt: thousands of packets at once after a silence
 */
struct limit_values {
    uint32_t kbps;
    uint32_t burst_kbit;
    uint32_t kpps;
    uint32_t burst_kpkt;
};

/* Set the limits; control thread, traffic or not. A limit that changes begins with a full bucket. */
void limit_set(struct limit *l, const struct limit_values *values);

/* Whether there is any limit. */
static inline bool limit_is_set(const struct limit *l)
{
    return atomic_load_explicit(&l->bits.rate, memory_order_relaxed) != 0 ||
           atomic_load_explicit(&l->packets.rate, memory_order_relaxed) != 0;
}

/* When the port may send: 0 now, else the worker's clock at that time. Any worker. */
uint64_t limit_ready_at(const struct limit *l, uint64_t now_ns);

/**
 * limit_charge() - pay for a burst
 * @l: the port's limits
 * @frames: what it was
 * @n: of so many frames
 * @now_ns: the worker's clock
 *
 * Any worker.  Before the switch changes the frames.
 */
void limit_charge(struct limit *l, const struct frame *frames, uint32_t n, uint64_t now_ns);

#endif /* USWITCH_LIMIT_H */
