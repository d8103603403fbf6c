/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - the seam between parse and lookup (design section 3): what a
 * port may send.
 *
 * The verdict falls after the frame has a segment and before its source
 * address is learned, and it is given on the snapshot, which is what will be
 * delivered (law 3).  A port's policy is a const table, published by the
 * control thread through struct port.policy like everything else under RCU;
 * the usual port has none and pays one test of a register a frame.
 * Anti-spoofing and security rules will be implementations of struct policy.
 * Worker thread.
 */
#ifndef USWITCH_POLICY_H
#define USWITCH_POLICY_H

#include "port.h"

/**
 * struct policy - what a port may send; immutable once published
 * @verdict: DROP_none, or the reason why the frame goes no further; looks at the canonical frame's
 *      snapshot, segment and pcp only, and changes nothing
 */
struct policy {
    enum drop_reason (*verdict)(const struct policy *policy, const struct frame *f);
};

/* The policy of a source port for this burst; RCU: valid until the worker's next quiescent state. */
static inline const struct policy *policy_of(const struct port *p)
{
    return atomic_load_explicit(&p->policy, memory_order_acquire);
}

/* DROP_none if the frame may pass; NULL lets everything pass. */
static inline enum drop_reason policy_verdict(const struct policy *policy, const struct frame *f)
{
    if (__builtin_expect(policy == NULL, 1))
        return DROP_none;
    return policy->verdict(policy, f);
}

#endif /* USWITCH_POLICY_H */
