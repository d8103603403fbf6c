/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_port_hang.c - transmit queues that stand still.  Control thread, beside
 * running workers.
 *
 * Theory of operation.  A device that no longer takes descriptors lets its
 * ring fill up, and then every frame is dropped for want of room, for ever.
 * So at each reading of the device its place in each transmit ring is compared
 * with the one before.  It has stood still if descriptors were waiting both
 * times and the place is the same; a queue without work is none of our
 * business, nor is one that is slow.
 *
 * The same place may also mean once around the ring.  Then, unless fewer wait
 * than before, a ring of descriptors was given to the queue meanwhile, and a
 * number of frames with them; after fewer frames than that the device has not
 * moved.  A queue that stands takes no more than its ring has room for, so that
 * this puts the finding off until the ring is full, at the latest.
 *
 * A device counts as standing only for as long as it was looked at: a machine
 * that stood still itself, for a migration say, gave it no time either.
 *
 * A peer that holds us up with PAUSE frames for so long would look the same; the
 * drivers have flow control switched off, and nobody heeds them.
 */
#include "nic/nic_port_priv.h"

/*
 * As much as Linux allows the same adapters.  A PAUSE frame, should anybody heed it, lasts at most 65535 times 512 bit
 * times (IEEE 802.3, 31B.2): 3.4 s at 10 Mbit/s.
 */
#define HANG_MS 5000
/* The most that a look adds. */
#define STEP_MS (NIC_READ_MS + NIC_READ_MS / 4)

_Static_assert(HANG_MS >= 2 * STEP_MS, "it was seen standing at least twice");

/* Has the device taken a descriptor since the last look, or may it have? */
static bool has_moved(const struct nic_tx_watch *w, const struct nic_tx_progress *now, uint64_t frames)
{
    return w->last.pending == 0 || now->position != w->last.position || now->pending < w->last.pending ||
           frames - w->frames >= now->around;
}

/* One queue; true: it hangs. */
static bool look(struct nic_port *np, uint32_t queue, int64_t at)
{
    const uint64_t frames = __atomic_load_n(&np->nic.port.state->out[queue].frames, __ATOMIC_RELAXED);
    struct nic_tx_watch *const w = &np->tx_watch[queue];
    struct nic_tx_progress now = { 0 };

    np->nic.driver->tx_progress(&np->nic.queue[queue], &now);
    if (has_moved(w, &now, frames)) {
        *w = (struct nic_tx_watch){ .last = now, .frames = frames, .at = at };
        return false;
    }
    w->stood += at - w->at < STEP_MS ? at - w->at : STEP_MS;
    w->at = at;
    w->last = now;
    return w->stood >= HANG_MS;
}

void nic_port_check_tx(struct nic_port *np, int64_t now)
{
    const bool up = nic_port_is_up(np) && atomic_load_explicit(&np->link_up, memory_order_relaxed);

    for (uint32_t i = 0; i < np->nic.cfg.n_queues; i++) {
        if (!up)
            np->tx_watch[i].last.pending = 0;
        else if (look(np, i, now))
            nic_fail(&np->nic, i, BREAK_nic_tx_hang, np->tx_watch[i].last.position);
    }
}
