/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_lend.c - an adapter's port: guests' memory that the device may read in
 * place (zero copy), from the mapping to the end of the last read.  Control
 * thread, except nic_lend_look().
 *
 * Memory goes in this order: out of the table that workers look into, a grace
 * period, the device has read what it was given or is stopped, out of the
 * IOMMU.  So neither a frame nor a device ever reaches memory that was given
 * back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/rcu.h"
#include "nic/dma_guest.h"
#include "nic/nic_port_priv.h"

/* A queue that has finished nothing for so long while a guest waits for it is stuck; a ring is some ms of work. */
#define STUCK_NS 500000000ull

/* ---- progress of the queues ---- */

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Somebody waits for this queue: does it move at all?  Under its lock. */
static void watch_progress(struct nic_queue *q)
{
    const uint64_t done = atomic_load_explicit(&q->reader->done, memory_order_relaxed);

    if (done >= q->lent || done != q->seen_done || q->seen_at == 0) {
        q->seen_done = done;
        q->seen_at = now_ns();
    } else if (now_ns() - q->seen_at > STUCK_NS && !atomic_load_explicit(&q->nic->failed, memory_order_relaxed)) {
        nic_fail(q->nic, q->index, BREAK_nic_error, q->lent - done);
    }
}

/* hold_reader.look; of a fenced adapter as well, which goes on reading until it is stopped. */
static void nic_lend_look(void *queue)
{
    struct nic_queue *const q = queue;
    struct nic_port *const np = (struct nic_port *)q->nic;

    if (!spin_try_lock(&q->tx_lock))
        return;
    if (nic_port_runs(np)) {
        q->nic->driver->tx_look(q);
        watch_progress(q);
    }
    spin_unlock(&q->tx_lock);
}

/* hold_reader.silence */
static void nic_lend_silence(void *queue)
{
    struct nic_queue *const q = queue;
    struct nic_port *const np = (struct nic_port *)q->nic;

    log_warning("port %u: the adapter does not finish sending from guests' memory: stopped", np->nic.port.id);
    nic_fail(q->nic, q->index, BREAK_nic_error, q->lent - atomic_load(&q->reader->done));
    nic_port_quiet(np);
}

int nic_lend_begin(struct nic *n)
{
    for (uint32_t i = 0; i < n->cfg.n_queues; i++) {
        struct nic_queue *const q = &n->queue[i];

        q->reader = hold_reader_create(q, nic_lend_look, nic_lend_silence);
        if (!q->reader)
            return -ENOMEM;
    }
    return 0;
}

void nic_lend_detach(struct nic *n)
{
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        if (n->queue[i].reader)
            hold_reader_detach(n->queue[i].reader);
    }
}

void nic_lend_stopped(struct nic *n)
{
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        struct nic_queue *const q = &n->queue[i];

        if (q->reader && atomic_load(&q->reader->done) < q->lent)
            atomic_store_explicit(&q->reader->done, q->lent, memory_order_release);
        q->seen_at = 0;
    }
}

void nic_lend_end(struct nic_port *np)
{
    struct dma_guests *const old = np->guests;

    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        hold_reader_retire(np->nic.queue[i].reader);
        np->nic.queue[i].reader = NULL;
    }
    atomic_store_explicit(&np->nic.guests, NULL, memory_order_relaxed);
    for (uint32_t i = 0; old && i < old->n; i++)
        np->dev->ops->unmap_guest(np->dev, &old->region[i]);
    np->guests = NULL;
    free(old);
}

/* ---- the table ---- */

bool nic_port_lends(const struct port *p)
{
    return p->kind == US_KIND_NIC && ((const struct nic *)p)->cfg.zero_copy;
}

/* Workers find a frame's pieces in @g when this returns, or nothing if it is NULL; nobody looks into another one. */
static void publish(struct nic_port *np, const struct dma_guests *g)
{
    atomic_store_explicit(&np->nic.guests, g, memory_order_release);
    rcu_wait();
}

int nic_port_lend(struct port *p, void *base, size_t size)
{
    struct nic_port *const np = nic_port_of(p);
    struct dma_guests *const old = np->guests;
    const uint32_t n = old ? old->n : 0;
    struct dma_guests *const g = calloc(1, sizeof(*g) + (n + 1) * sizeof(g->region[0]));
    struct dma_region new = { .host = base, .size = size };
    uint32_t at = 0;
    int rc;

    if (!g)
        return -ENOMEM;
    rc = np->dev->ops->map_guest(np->dev, &np->nic.pool, old, &new);
    if (rc < 0) {
        free(g);
        return rc;
    }
    for (; at < n && (uintptr_t)old->region[at].host < (uintptr_t)base; at++)
        g->region[at] = old->region[at];
    g->region[at] = new;
    for (; at < n; at++)
        g->region[at + 1] = old->region[at];
    g->n = n + 1;
    np->guests = g;
    publish(np, g);
    free(old);
    p->state->nic.pool_bytes += size;
    return 0;
}

/* Without memory of its own, since it must not fail: meanwhile nothing is read in place. */
void nic_port_unlend(struct port *p, void *base)
{
    struct nic_port *const np = nic_port_of(p);
    struct dma_guests *const g = np->guests;
    const struct dma_region *const found = g ? dma_guests_at(g, base) : NULL;

    if (!found || found->host != base)
        return;
    publish(np, NULL);
    for (uint32_t i = 0; i < np->nic.cfg.n_queues; i++)
        hold_reader_settle(np->nic.queue[i].reader, np->nic.queue[i].lent);
    np->dev->ops->unmap_guest(np->dev, found);
    p->state->nic.pool_bytes -= found->size;
    g->n--;
    for (uint32_t at = (uint32_t)(found - g->region); at < g->n; at++)
        g->region[at] = g->region[at + 1];
    atomic_store_explicit(&np->nic.guests, g, memory_order_release);
}
