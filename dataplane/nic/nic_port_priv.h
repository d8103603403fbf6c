/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_port_priv.h - what the files of the port share: nic_port.c (frames),
 * nic_port_life.c (beginning, end, reset), nic_port_link.c (link, counters),
 * nic_port_hang.c (transmit queues that stand still).
 */
#ifndef USWITCH_NIC_PORT_PRIV_H
#define USWITCH_NIC_PORT_PRIV_H

#include "nic/nic_port.h"

/**
 * struct nic_tx_watch - a transmit queue at the last look (control)
 * @last: where the device stood; nothing pending: there is nothing to compare with
 * @frames: frames given to the queue until the device came there
 * @at: the look's time, ms
 * @stood: how long the device has stood there, ms
 */
struct nic_tx_watch {
    struct nic_tx_progress last;
    uint64_t frames;
    int64_t at;
    int64_t stood;
};

/**
 * struct nic_port - an adapter as port
 * @nic: device and generic part; first
 * @dev: the way to the device (owned)
 * @running: the driver's queues may be used (writer: control; a grace period follows when it becomes false)
 * @link_up: the wire is there (writer: control)
 * @opened: driver->open() succeeded, driver->close() is due (control)
 * @started: driver->start() succeeded, driver->stop() is due (control)
 * @guests: guests' memory that is mapped for the device, NULL: none; nic.guests is this or NULL (control, owned)
 * @epoll_fd: where the eventfds of nic_port_watch() are, -1: nowhere (borrowed, control)
 * @others: calls of nic_port_other() since @others_at (control)
 * @others_at: CLOCK_MONOTONIC s (control)
 * @tx_watch: by queue (control)
 * @before: what the page counted before this port (control)
 */
struct nic_port {
    struct nic nic;
    struct nic_device *dev;
    _Atomic bool running;
    _Atomic bool link_up;
    bool opened;
    bool started;
    struct dma_guests *guests;
    int epoll_fd;
    uint32_t others;
    int64_t others_at;
    struct nic_tx_watch tx_watch[US_QUEUES_MAX];
    uint64_t before[US_NIC_COUNTERS_MAX];
};

static inline struct nic_port *nic_port_of(struct port *p)
{
    return (struct nic_port *)p;
}

/* Are there rings?  acquire: who sees them after a reset sees them as they were made, not the old ones. */
static inline bool nic_port_runs(struct nic_port *np)
{
    return atomic_load_explicit(&np->running, memory_order_acquire);
}

/* nic_port.c: may the driver's queues be used now? */
static inline bool nic_port_is_up(struct nic_port *np)
{
    return nic_port_runs(np) && !port_is_broken(&np->nic.port);
}

unsigned nic_port_rx_burst(struct rxq *q, struct burst *b);
void nic_port_rx_complete(struct rxq *q, struct burst *b);
unsigned nic_port_tx_burst(struct port *p, struct frame *const *frames, unsigned n);
bool nic_port_arm(struct rxq *q);
void nic_port_disarm(struct rxq *q);

/* nic_port_life.c: no worker uses the driver's queues any more, the device is quiet until the next reset. Control. */
void nic_port_quiet(struct nic_port *np);

/*
 * nic_lend.c, control: progress of the queues is told to who waits for it; 0 or -ENOMEM / nobody looks any more after a
 * grace period / the device is quiet, who waits is done / the device is quiet and ends, its mappings as well.
 */
int nic_lend_begin(struct nic *n);
void nic_lend_detach(struct nic *n);
void nic_lend_stopped(struct nic *n);
void nic_lend_end(struct nic_port *np);

/* nic_port_link.c: bring state->nic up to date; true if the link has changed. */
bool nic_port_read_device(struct nic_port *np);

/* The same, and a change is news. */
void nic_port_refresh(struct nic_port *np);

/**
 * nic_port_check_tx() - fence the port if the device has stopped taking what it is to send
 * @np: the port, read just now
 * @now: CLOCK_MONOTONIC, ms
 *
 * To be called every NIC_READ_MS or more often: nic_port_hang.c.
 */
void nic_port_check_tx(struct nic_port *np, int64_t now);

/* A storm has ended the watch; the device starts afresh. */
void nic_port_rewatch(const struct nic_port *np);

#endif /* USWITCH_NIC_PORT_PRIV_H */
