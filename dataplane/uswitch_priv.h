/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_priv.h - what is inside struct uswitch, for the files that make the
 * library out of the parts (uswitch.c: ports and rings; uswitch_lend.c: zero
 * copy; uswitch_check.c: what their requests may hold; uswitch_balance.c: who
 * serves a queue; uswitch_life.c: the rest), and the little the process needs
 * beside the ABI.
 */
#ifndef USWITCH_PRIV_H
#define USWITCH_PRIV_H

#include "base/nudge.h"
#include "placement.h"
#include "switch.h"
#include "worker.h"

#define BALANCE_QUEUES_MAX (US_PORTS_MAX * US_QUEUES_MAX)

/**
 * struct balance - the spreading of queues over several workers; control thread
 * @fd: eventfd that becomes readable when workers woke up that were all asleep (owned; written by workers)
 * @interval_ms: how often to look, 0: never
 * @at: cycles at the last look, 0: none yet
 * @moves: queues moved so far
 * @load: cycles of each worker in the last period, with guesses for queues that are newer
 * @share: what the average queue cost
 * @seen: cycles of each queue at the last look
 * @rxq: scratch: the queues of a look
 * @queue: scratch: their loads
 */
struct balance {
    int fd;
    uint32_t interval_ms;
    uint64_t at;
    uint64_t moves;
    uint64_t load[US_WORKERS_MAX];
    uint64_t share;
    uint64_t seen[US_PORTS_MAX][US_QUEUES_MAX];
    struct rxq *rxq[BALANCE_QUEUES_MAX];
    struct placement_queue queue[BALANCE_QUEUES_MAX];
};

/**
 * struct uswitch - a whole switch; control thread
 * @core: what the workers share (owned)
 * @page: switch page (owned mapping)
 * @page_fd: its memfd (owned)
 * @news_fd: eventfd that becomes readable when something broke (owned; written by any thread)
 * @device_fd: epoll set of adapters' eventfds that are no queue's, data: port id (owned)
 * @n_workers: workers, at least 1
 * @threaded: they have threads; without, uswitch_poll() is the only worker's
 * @worker: the workers (owned)
 * @nudge: timer of the control thread, which is the one that made the switch
 * @balance: who serves which queue
 * @n_ports: ports
 * @scan: port id at which uswitch_event_next() goes on
 * @told: the port's present break has been reported
 * @told_link: us_nic_state.link_changes at the last report
 */
struct uswitch {
    struct switch_core core;
    struct us_switch_page *page;
    int page_fd;
    int news_fd;
    int device_fd;
    uint32_t n_workers;
    bool threaded;
    struct worker *worker[US_WORKERS_MAX];
    struct nudge nudge;
    struct balance balance;
    uint32_t n_ports;
    uint32_t scan;
    bool told[US_PORTS_MAX];
    uint32_t told_link[US_PORTS_MAX];
};

/* The port of an id from outside, NULL if there is none. */
static inline struct port *uswitch_port(const struct uswitch *us, uint32_t port_id)
{
    if (port_id >= US_PORTS_MAX)
        return NULL;
    return atomic_load_explicit(&us->core.port[port_id], memory_order_relaxed);
}

/* uswitch_balance.c: give a queue that nobody serves to the worker with the least load; 0 or -errno. */
int uswitch_place_queue(struct uswitch *us, struct rxq *q);

/*
 * uswitch_lend.c, zero copy: a guest's port was made / an adapter's port was made and is not attached yet: it gets what
 * guests have; 0 or -errno, as nic_port_lend() / an adapter's port was attached, or is gone / a port is fenced: an
 * adapter that would go on reading in place is stopped.
 */
void uswitch_lend_guest(struct uswitch *us, struct port *p);
int uswitch_lend_adapter(struct uswitch *us, struct port *nic);
void uswitch_lend_refresh(struct uswitch *us);
void uswitch_lend_rest(struct port *p);

/* uswitch_check.c: a request for a port, with so many device fds; 0 or -EINVAL. */
int uswitch_check_port(const struct us_port_add *add, uint32_t n_device_fds);

/* uswitch_check.c: limits of a port; 0 or -EINVAL. */
int uswitch_check_limits(uint32_t flood_rate, uint32_t flood_burst, uint32_t max_frame);

/* How many ports there are. */
uint32_t uswitch_port_count(const struct uswitch *us);

#endif /* USWITCH_PRIV_H */
