/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_port.c - the frames of an adapter's port: which transmit queue, locks,
 * counters, the fence.  Worker threads.
 *
 * Receive queue i is incoming queue i and belongs to its worker.  Transmit
 * queues are everybody's: a flow has its own, so that its frames keep their
 * order, and who uses one holds its lock, which guards its counters as well.
 */
#include "flow.h"
#include "nic/nic_port_priv.h"

/* ---- from the wire ---- */

unsigned nic_port_rx_burst(struct rxq *q, struct burst *b)
{
    struct nic_port *const np = nic_port_of(q->port);

    b->n = 0;
    b->n_iov = 0;
    if (__builtin_expect(!nic_port_is_up(np), 0))
        return 0;
    return np->nic.driver->rx_burst(&np->nic.queue[q->index], b);
}

/* Also of a port that was fenced meanwhile: the buffers are the driver's business. */
void nic_port_rx_complete(struct rxq *q, struct burst *b)
{
    struct nic_port *const np = nic_port_of(q->port);

    if (nic_port_runs(np))
        np->nic.driver->rx_complete(&np->nic.queue[q->index], b);
}

bool nic_port_arm(struct rxq *q)
{
    struct nic_port *const np = nic_port_of(q->port);
    bool work;

    if (!nic_port_is_up(np))
        return false;
    work = np->nic.driver->arm(&np->nic.queue[q->index]);
    if (np->dev->line)
        np->dev->ops->unmask(np->dev);
    return work;
}

void nic_port_disarm(struct rxq *q)
{
    struct nic_port *const np = nic_port_of(q->port);

    if (nic_port_is_up(np))
        np->nic.driver->disarm(&np->nic.queue[q->index]);
}

/* ---- to the wire ---- */

/* Frames of one queue, at most BURST_MAX. */
static unsigned send_by(struct port *p, unsigned queue, struct frame *const *frames, unsigned n)
{
    struct nic_port *const np = nic_port_of(p);
    struct nic_queue *const q = &np->nic.queue[queue];
    struct us_queue_counters *const c = &np->nic.port.state->out[queue];
    uint8_t why[BURST_MAX];
    unsigned delivered = 0;

    if (np->nic.port.shared)
        spin_lock(&q->tx_lock);
    if (__builtin_expect(!nic_port_is_up(np), 0)) {
        c->drop[port_is_broken(&np->nic.port) ? DROP_broken : DROP_link_down] += n;
    } else if (!atomic_load_explicit(&np->link_up, memory_order_relaxed)) {
        c->drop[DROP_link_down] += n;
    } else {
        np->nic.driver->tx_burst(q, frames, n, why);
        delivered = count_burst_out(c, frames, why, n);
    }
    if (np->nic.port.shared)
        spin_unlock(&q->tx_lock);
    return delivered;
}

unsigned nic_port_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    return flow_spread(p, (1u << nic_port_of(p)->nic.cfg.n_queues) - 1, frames, n, send_by);
}
