/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_priv.h - what is inside struct uswitch, for the files that make the
 * library out of the parts (uswitch.c: ports and rings; uswitch_news.c: events
 * and addresses), and the little the process needs beside the ABI.
 */
#ifndef USWITCH_PRIV_H
#define USWITCH_PRIV_H

#include "base/nudge.h"
#include "switch.h"
#include "worker.h"

/**
 * struct uswitch - a whole switch; control thread
 * @core: what the workers share (owned)
 * @page: switch page (owned mapping)
 * @page_fd: its memfd (owned)
 * @news_fd: eventfd that becomes readable when something broke (owned; written by any thread)
 * @n_workers: workers, at least 1
 * @threaded: they have threads; without, uswitch_poll() is the only worker's
 * @worker: the workers (owned)
 * @nudge: timer of the control thread, which is the one that made the switch
 * @n_ports: ports
 * @scan: port id at which uswitch_event_next() goes on
 * @told: the port's present break has been reported
 */
struct uswitch {
    struct switch_core core;
    struct us_switch_page *page;
    int page_fd;
    int news_fd;
    uint32_t n_workers;
    bool threaded;
    struct worker *worker[US_WORKERS_MAX];
    struct nudge nudge;
    uint32_t n_ports;
    uint32_t scan;
    bool told[US_PORTS_MAX];
};

/* The port of an id from outside, NULL if there is none. */
static inline struct port *uswitch_port(const struct uswitch *us, uint32_t port_id)
{
    if (port_id >= US_PORTS_MAX)
        return NULL;
    return atomic_load_explicit(&us->core.port[port_id], memory_order_relaxed);
}

/* How many ports there are. */
uint32_t uswitch_port_count(const struct uswitch *us);

#endif /* USWITCH_PRIV_H */
