/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - the seam between parse and lookup (design section 3): what a
 * port may send.
 *
 * The verdict falls after the frame has a segment and before its source
 * address is learned, and it is given on the snapshot, which is what will be
 * delivered (law 3).  Most verdicts need no more of a frame than forwarding
 * does; one that does says POLICY_MORE, gets a longer snapshot and is asked
 * again, so that only such frames pay for it.
 *
 * A port's policy is a const table, published by the control thread through
 * struct port.policy like everything else under RCU; the usual port has none
 * and pays one test a burst.  Anti-spoofing (policy/antispoof.h) is one;
 * security rules will be another.  Worker thread.
 */
#ifndef USWITCH_POLICY_H
#define USWITCH_POLICY_H

#include "port.h"

/* As much of a canonical frame as any snapshot can hold: what a verdict may depend on. */
#define POLICY_VIEW (SNAP_SIZE - VLAN_TAG_LEN)
/* Instead of a verdict: it depends on bytes that are in the frame, but not in its snapshot. */
#define POLICY_MORE DROP_COUNT

/**
 * struct policy - what a port may send; immutable once published, one block of malloc()
 * @verdict: DROP_none, or the reason why the frame goes no further; looks at the canonical frame's
 *      snapshot (the first POLICY_VIEW bytes at most), its lengths, segment and pcp only, and changes nothing.
 *      POLICY_MORE is legal as long as the snapshot is shorter than the frame and than POLICY_VIEW.
 * @knows: false if no frame from this MAC address (a little-endian number of 48 bits) passes: what was learned of it
 *      before is forgotten.  Control thread.
 */
struct policy {
    enum drop_reason (*verdict)(const struct policy *policy, const struct frame *f);
    bool (*knows)(const struct policy *policy, uint64_t mac);
};

/* The policy of a source port for this burst; RCU: valid until the worker's next quiescent state. */
static inline const struct policy *policy_of(const struct port *p)
{
    return atomic_load_explicit(&p->policy, memory_order_acquire);
}

/**
 * policy_verdict() - may this frame pass?
 * @policy: of the port it came from
 * @f: canonical frame; its snapshot may become longer
 *
 * Return: DROP_none, or why not.
 */
static inline enum drop_reason policy_verdict(const struct policy *policy, struct frame *f)
{
    const enum drop_reason why = policy->verdict(policy, f);

    if (__builtin_expect(why != POLICY_MORE, 1))
        return why;
    frame_lengthen(f, POLICY_VIEW);
    return policy->verdict(policy, f);
}

#endif /* USWITCH_POLICY_H */
