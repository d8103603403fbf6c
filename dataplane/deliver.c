/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * deliver.c - sends the groups of deliver.h, and puts software in the place of
 * offloads that a receiver lacks.  Worker thread.
 */
#include "deliver.h"

#include <errno.h>

int delivery_init(struct delivery *d)
{
    d->offload = offload_scratch_create();
    return d->offload ? 0 : -ENOMEM;
}

void delivery_fini(struct delivery *d)
{
    offload_scratch_destroy(d->offload);
    d->offload = NULL;
}

/*
 * Out counters of queue 0, but of reasons that drivers do not use: several
 * workers may be here at once, without the lock of the receiving ring.
 */
void delivery_refuse(struct port *p, enum drop_reason why)
{
    __atomic_fetch_add(&p->state->out[0].drop[why], 1, __ATOMIC_RELAXED);
}

/* Delivers what software makes of a frame that the receiver cannot take as it is. */
static void send_fixed(struct offload_scratch *offload, const struct group *g, const struct frame *f)
{
    struct us_queue_counters *out = &g->port->state->out[0];
    struct frame *piece[BURST_MAX];
    bool first = true;
    unsigned n;

    if (offload_begin(offload, f, g->offloads) != DROP_none) {
        delivery_refuse(g->port, DROP_offload);
        return;
    }
    while ((n = offload_next(offload, piece, BURST_MAX)) != 0) {
        /* The first piece is the longest. */
        if (first && piece[0]->len > g->max_frame) {
            delivery_refuse(g->port, DROP_mtu);
            return;
        }
        first = false;
        g->port->ops->tx_burst(g->port, piece, n);
    }
    __atomic_fetch_add(f->vnet.gso_type ? &out->gso_fixed : &out->csum_fixed, 1, __ATOMIC_RELAXED);
}

/* A group with frames that fit and frames that do not: runs of the former in one go, order kept. */
static void send_mixed(struct offload_scratch *offload, struct group *g)
{
    uint32_t run = 0;

    for (uint32_t i = 0; i <= g->n; i++) {
        if (i < g->n && offload_fits(g->frame[i], g->offloads))
            continue;
        if (i > run)
            g->port->ops->tx_burst(g->port, &g->frame[run], i - run);
        if (i < g->n)
            send_fixed(offload, g, g->frame[i]);
        run = i + 1;
    }
}

void delivery_send(struct delivery *d)
{
    for (uint32_t i = 0; i < d->n_groups; i++) {
        struct group *g = &d->group[i];

        d->group_of[g->port->id] = 0;
        if (g->n == 0)
            continue;
        for (uint32_t j = 0; g->flooded && j < g->n; j++)
            g->frame[j]->out_vid = g->vid[j];
        if (__builtin_expect(!g->unfit, 1))
            g->port->ops->tx_burst(g->port, g->frame, g->n);
        else
            send_mixed(d->offload, g);
    }
    d->n_groups = 0;
}
