/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_port_life.c - an adapter's port: configuration, beginning and end,
 * reset, the fence.  Control thread, except nic_fail() and what is told of a
 * lost BAR.
 *
 * The device may access memory (bus master) only from just before the driver
 * starts it until just after the driver has stopped it, and reaches nothing
 * but the pool in between, and with zero copy guests' memory (nic_lend.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rcu.h"
#include "nic/nic_counter.h"
#include "nic/nic_port_priv.h"
#include "nic/pci.h"
#include "nic/vfio.h"

#define RING_DEFAULT 512
#define ALL_BARS ((1u << NIC_BARS) - 1)

/* ---- fence ---- */

void nic_fail(struct nic *n, uint32_t queue, enum break_reason reason, uint64_t detail)
{
    atomic_store_explicit(&n->failed, 1, memory_order_relaxed);
    port_break(&n->port, queue, reason, detail);
}

/* In the signal handler of a thread that touched a register. */
static void bar_lost(void *arg)
{
    nic_fail(arg, 0, BREAK_device_gone, 0);
}

/* ---- which driver, which configuration ---- */

/* Descriptors a ring if nobody says: enough for a burst from each of several senders. */
static uint32_t default_ring(const struct nic_driver *d)
{
    const uint32_t n = RING_DEFAULT < d->ring_min ? d->ring_min : RING_DEFAULT;

    return n < d->ring_max ? n : d->ring_max;
}

static int configure(struct nic *n, const struct us_port_add *add)
{
    const struct nic_driver *const d = n->driver;

    if ((add->nic_flags & US_NIC_ZERO_COPY) && !d->tx_look) {
        log_error("port %u: %s knows no zero copy: it takes frames from its own memory alone", add->port_id, d->name);
        return -ENOTSUP;
    }
    n->cfg = (struct nic_config){
        .n_queues = add->n_queues,
        .ring_size = add->ring_size ? add->ring_size : default_ring(d),
        .max_frame = add->max_frame,
        .irq_us = add->irq_us,
        .promiscuous = true,
        .lro = (add->nic_flags & US_NIC_LRO) != 0,
        .zero_copy = (add->nic_flags & US_NIC_ZERO_COPY) != 0,
    };
    if (n->cfg.n_queues <= d->queues_max && n->cfg.ring_size >= d->ring_min && n->cfg.ring_size <= d->ring_max &&
        n->cfg.ring_size % d->ring_multiple == 0 && n->cfg.max_frame <= d->frame_max)
        return 0;
    log_error("port %u: %s takes up to %u queues, rings of %u to %u descriptors in steps of %u, and frames of up to %u "
              "bytes; asked for were %u, %u and %u", add->port_id, d->name, d->queues_max, d->ring_min, d->ring_max,
              d->ring_multiple, d->frame_max, n->cfg.n_queues, n->cfg.ring_size, n->cfg.max_frame);
    return -EINVAL;
}

/* ---- start and stop ---- */

static void stop_device(struct nic_port *np)
{
    if (np->started)
        np->nic.driver->stop(&np->nic);
    np->started = false;
    (void)np->dev->ops->master(np->dev, false);
    nic_lend_stopped(&np->nic);
}

void nic_port_quiet(struct nic_port *np)
{
    atomic_store_explicit(&np->running, false, memory_order_relaxed);
    rcu_wait();
    stop_device(np);
}

static int start_device(struct nic_port *np)
{
    int rc;

    dma_reset(&np->nic.pool);
    rc = np->dev->ops->master(np->dev, true);
    if (rc == 0)
        rc = np->nic.driver->start(&np->nic);
    np->started = rc == 0;
    if (rc < 0) {
        (void)np->dev->ops->master(np->dev, false);
        return rc;
    }
    atomic_store(&np->nic.failed, 0);
    return 0;
}

/* Every BAR the driver names must be there, unless it takes what there is. */
static int map_bars(struct nic_port *np)
{
    const uint32_t mask = np->nic.driver->bars;
    int rc = np->dev->ops->map_bars(np->dev, mask, np->nic.bar, bar_lost, &np->nic);

    for (unsigned i = 0; rc == 0 && mask != ALL_BARS && i < NIC_BARS; i++) {
        if ((mask & 1u << i) && !np->nic.bar[i].size)
            rc = -ENOTSUP;
    }
    return rc;
}

int nic_port_reset(struct port *p)
{
    struct nic_port *const np = nic_port_of(p);
    int rc;

    nic_port_quiet(np);
    np->dev->ops->unmap_bars(np->dev, np->nic.bar);
    rc = np->dev->ops->reset(np->dev);
    if (rc == 0)
        rc = map_bars(np);
    if (rc == 0)
        rc = start_device(np);
    if (rc < 0) {
        log_error("port %u: the adapter cannot be started anew: %s", p->id, strerror(-rc));
        if (!port_is_broken(p))
            nic_fail(&np->nic, 0, BREAK_nic_error, (uint64_t)-rc);
        return rc;
    }
    p->state->nic.resets++;
    nic_port_rewatch(np);
    nic_port_refresh(np);
    port_mend(p);
    atomic_store_explicit(&np->running, true, memory_order_release);
    return 0;
}

void nic_port_rest(struct port *p)
{
    nic_port_quiet(nic_port_of(p));
}

uint32_t nic_port_max_frame(const struct port *p)
{
    return ((const struct nic *)p)->cfg.max_frame;
}

/* ---- beginning and end ---- */

static void nic_port_stop(struct port *p)
{
    struct nic_port *const np = nic_port_of(p);

    atomic_store_explicit(&np->running, false, memory_order_relaxed);
    nic_lend_detach(&np->nic);
    for (uint32_t i = 0; i < p->n_queues; i++)
        (void)rxq_watch(&p->rxq[i], RXQ_QUIET);
}

/* Everything but the device itself. */
static void take_apart(struct nic_port *np)
{
    stop_device(np);
    nic_lend_end(np);
    if (np->opened)
        np->nic.driver->close(&np->nic);
    if (np->nic.pool.iova)
        np->dev->ops->unmap_pool(np->dev, &np->nic.pool);
    np->dev->ops->unmap_bars(np->dev, np->nic.bar);
    dma_pool_destroy(&np->nic.pool);
    port_fini(&np->nic.port);
    free(np);
}

static void nic_port_destroy(struct port *p)
{
    struct nic_device *const dev = nic_port_of(p)->dev;

    take_apart(nic_port_of(p));
    dev->ops->destroy(dev);
}

static const struct port_ops nic_ops = {
    .kind = "nic",
    .rx_burst = nic_port_rx_burst,
    .rx_complete = nic_port_rx_complete,
    .tx_burst = nic_port_tx_burst,
    .arm = nic_port_arm,
    .disarm = nic_port_disarm,
    .stop = nic_port_stop,
    .destroy = nic_port_destroy,
};

static int make_pool(struct nic_port *np)
{
    struct nic *const n = &np->nic;
    int rc = dma_pool_create(&n->pool, n->driver->pool_size(&n->cfg));

    if (rc < 0)
        return rc;
    /* Before the kernel is asked: if it refuses, somebody wants to know how much it was. */
    n->port.state->nic.pool_bytes = n->pool.size;
    rc = np->dev->ops->map_pool(np->dev, &n->pool);
    if (rc < 0)
        n->pool.iova = 0;
    return rc;
}

/* The queues' vectors wake their workers; without interrupts they look every millisecond. */
static int watch_queues(struct nic_port *np)
{
    const struct nic_irq *const irq = &np->nic.irq;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < np->nic.cfg.n_queues; i++) {
        const int fd = irq->n == 0 ? RXQ_POLLED : np->dev->irq_fd[irq->n > np->nic.cfg.n_queues ? i : 0];

        rc = rxq_watch(&np->nic.port.rxq[i], fd);
    }
    return rc;
}

static void describe(struct nic_port *np)
{
    struct us_nic_state *const s = &np->nic.port.state->nic;

    nic_counter_begin(s, np->before);
    strncpy((char *)s->driver, np->nic.driver->name, sizeof(s->driver) - 1);
    s->pci_vendor = np->nic.pci_vendor;
    s->pci_device = np->nic.pci_device;
    s->n_queues = np->nic.cfg.n_queues;
}

/* From a quiet device to one that runs, step by step; what was done is undone by take_apart(). */
static int bring_up(struct nic_port *np)
{
    struct nic *const n = &np->nic;
    int rc = map_bars(np);

    if (rc == 0)
        rc = n->driver->open(n);
    np->opened = rc == 0;
    if (rc == 0)
        rc = make_pool(np);
    if (rc == 0 && n->cfg.zero_copy)
        rc = nic_lend_begin(n);
    if (rc == 0)
        rc = np->dev->ops->wire(np->dev, n->cfg.n_queues, &n->irq);
    if (rc == 0)
        rc = start_device(np);
    if (rc == 0)
        rc = watch_queues(np);
    if (rc < 0)
        return rc;
    memcpy(n->port.state->nic.mac, n->mac, ETH_ALEN);
    (void)nic_port_read_device(np);
    /* The page may say what befell a process that died. */
    port_mend(&n->port);
    atomic_store_explicit(&np->running, true, memory_order_release);
    return 0;
}

int nic_port_create_on(const struct us_port_add *add, struct us_state_page *state, struct nic_device *d,
                       const struct nic_driver *driver, bool shared, int news_fd, struct port **out)
{
    struct nic_port *const np = aligned_alloc(64, (sizeof(*np) + 63) / 64 * 64);
    struct nic *n;
    int rc;

    if (!np)
        return -ENOMEM;
    memset(np, 0, sizeof(*np));
    n = &np->nic;
    np->dev = d;
    np->epoll_fd = -1;
    n->pci_vendor = pci_get16(d->config, PCI_VENDOR);
    n->pci_device = pci_get16(d->config, PCI_DEVICE);
    n->config = d->config;
    n->driver = driver ? driver : nic_find_driver(n->pci_vendor, n->pci_device, &n->variant);
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        n->queue[i] = (struct nic_queue){ .nic = n, .index = i };
        spin_init(&n->queue[i].tx_lock);
    }
    rc = n->driver ? configure(n, add) : -ENODEV;
    if (rc < 0) {
        free(np);
        return rc;
    }
    port_init(&n->port, &nic_ops, add, state, n->cfg.n_queues);
    /* With zero copy, who waits for a queue looks at it as well. */
    n->port.shared = shared || n->cfg.zero_copy;
    n->port.news_fd = news_fd;
    describe(np);
    rc = bring_up(np);
    if (rc < 0) {
        n->port.state = NULL;   /* stays the caller's */
        take_apart(np);
        return rc;
    }
    *out = &n->port;
    return 0;
}

int nic_port_create(const struct us_port_add *add, struct us_state_page *state, const int *fds, uint32_t n,
                    bool shared, int news_fd, struct port **out)
{
    struct nic_device *d;
    int rc;

    if (n != 2)
        return -EINVAL;
    rc = vfio_open(fds[0], fds[1], (add->nic_flags & US_NIC_IOMMUFD) != 0, &d);
    if (rc < 0)
        return rc;
    rc = nic_port_create_on(add, state, d, NULL, shared, news_fd, out);
    if (rc == -ENODEV)
        log_error("port %u: no driver for PCI device %04x:%04x; an AF_XDP uplink works with any", add->port_id,
                  pci_get16(d->config, PCI_VENDOR), pci_get16(d->config, PCI_DEVICE));
    if (rc < 0)
        d->ops->destroy(d);
    return rc;
}
