/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * loop_nic.c - see loop_nic.h.
 */
#include "loop_nic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nic/nic_copy.h"
#include "nic/nic_counter.h"

#define SLOT 16384
#define VENDOR 0x1234
#define DEVICE 0x5678
#define VARIANT 7

struct loop_nic loop_nic;

/* Frames on the loop of one queue: slots tail .. taken are in the switch, taken .. head wait. */
struct loop {
    struct spin lock;
    uint32_t tail, taken, head;
    bool armed;
    uint8_t *slot;
    uint32_t *len;
    struct vnet *vnet;
};

static int step(enum loop_step s)
{
    return loop_nic.fail == s ? loop_nic.error : 0;
}

void loop_nic_signal(int fd)
{
    const uint64_t one = 1;

    (void)!write(fd, &one, sizeof(one));
}

/* ---- device ---- */

static uint8_t registers[64];

static int map_bars(struct nic_device *d, uint32_t mask, struct bar bar[NIC_BARS], void (*lost)(void *arg), void *arg)
{
    (void)d;
    (void)mask;
    bar[0] = (struct bar){ .base = registers, .size = sizeof(registers) };
    loop_nic.lost = lost;
    loop_nic.lost_arg = arg;
    loop_nic.bars = step(LOOP_MAP_BARS) == 0;
    return step(LOOP_MAP_BARS);
}

static void unmap_bars(struct nic_device *d, struct bar bar[NIC_BARS])
{
    (void)d;
    memset(bar, 0, NIC_BARS * sizeof(*bar));
    loop_nic.bars = false;
}

static int map_pool(struct nic_device *d, struct dma_pool *pool)
{
    (void)d;
    pool->iova = 0x100000;
    loop_nic.pool = step(LOOP_MAP_POOL) == 0;
    return step(LOOP_MAP_POOL);
}

static void unmap_pool(struct nic_device *d, struct dma_pool *pool)
{
    (void)d;
    (void)pool;
    loop_nic.pool = false;
}

static int wire(struct nic_device *d, uint32_t n_queues, struct nic_irq *irq)
{
    if (step(LOOP_WIRE))
        return step(LOOP_WIRE);
    *irq = (struct nic_irq){ .n = n_queues + 1, .msix = true };
    loop_nic.n_irq = n_queues + 1;
    for (uint32_t i = 0; i <= n_queues; i++)
        loop_nic.irq_fd[i] = d->irq_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return 0;
}

static void unmask(struct nic_device *d)
{
    (void)d;
}

static int master(struct nic_device *d, bool on)
{
    (void)d;
    if (on && step(LOOP_MASTER))
        return step(LOOP_MASTER);
    loop_nic.master = on;
    return 0;
}

static int reset(struct nic_device *d)
{
    (void)d;
    loop_nic.resets++;
    return step(LOOP_RESET);
}

static void destroy(struct nic_device *d)
{
    for (uint32_t i = 0; i <= US_QUEUES_MAX; i++) {
        if (d->irq_fd[i] >= 0)
            close(d->irq_fd[i]);
    }
    close(d->error_fd);
    close(d->request_fd);
    loop_nic.alive = false;
    free(d);
}

static const struct nic_device_ops device_ops = {
    .map_bars = map_bars, .unmap_bars = unmap_bars, .map_pool = map_pool, .unmap_pool = unmap_pool, .wire = wire,
    .unmask = unmask, .master = master, .reset = reset, .destroy = destroy,
};

void loop_nic_reset(void)
{
    loop_nic = (struct loop_nic){ .link_up = true, .speed = 1000 };
}

struct nic_device *loop_nic_open(void)
{
    struct nic_device *const d = calloc(1, sizeof(*d));

    d->ops = &device_ops;
    d->config[0] = VENDOR & 0xff;
    d->config[1] = VENDOR >> 8;
    d->config[2] = DEVICE & 0xff;
    d->config[3] = DEVICE >> 8;
    for (uint32_t i = 0; i <= US_QUEUES_MAX; i++)
        d->irq_fd[i] = -1;
    loop_nic.error_fd = d->error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop_nic.request_fd = d->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop_nic.alive = true;
    return d;
}

int loop_nic_vfio_open(int iommu_fd, int device_fd, bool iommufd, struct nic_device **out)
{
    (void)iommu_fd;
    (void)device_fd;
    (void)iommufd;
    if (step(LOOP_OPEN_DEVICE))
        return step(LOOP_OPEN_DEVICE);
    *out = loop_nic_open();
    return 0;
}

/* ---- driver ---- */

static size_t pool_size(const struct nic_config *cfg)
{
    return (size_t)cfg->n_queues * cfg->ring_size * SLOT;
}

static int driver_open(struct nic *n)
{
    static const uint8_t mac[ETH_ALEN] = { 2, 0, 0, 0, 0, 9 };

    if (step(LOOP_OPEN))
        return step(LOOP_OPEN);
    memcpy(n->mac, mac, sizeof(mac));
    atomic_store(&n->port.offloads, OFFLOAD_CSUM);
    loop_nic.opened = true;
    return 0;
}

static void driver_stop(struct nic *n)
{
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        struct loop *const l = n->queue[i].rx;

        if (!l)
            continue;
        free(l->len);
        free(l->vnet);
        free(l);
        n->queue[i].rx = NULL;
    }
    loop_nic.started = false;
}

static int driver_start(struct nic *n)
{
    if (step(LOOP_START))
        return step(LOOP_START);
    for (uint32_t i = 0; i < n->cfg.n_queues; i++) {
        struct loop *const l = calloc(1, sizeof(*l));

        l->slot = dma_alloc(&n->pool, (size_t)n->cfg.ring_size * SLOT, 64);
        l->len = calloc(n->cfg.ring_size, sizeof(*l->len));
        l->vnet = calloc(n->cfg.ring_size, sizeof(*l->vnet));
        n->queue[i].rx = l;
        if (!l->slot) {
            driver_stop(n);
            return -ENOMEM;
        }
    }
    loop_nic.started = true;
    return 0;
}

static void driver_close(struct nic *n)
{
    (void)n;
    loop_nic.opened = false;
}

static unsigned rx_burst(struct nic_queue *q, struct burst *b)
{
    struct loop *const l = q->rx;
    const uint32_t size = q->nic->cfg.ring_size;

    spin_lock(&l->lock);
    for (unsigned i = b->held_back; i < BURST_MAX && l->taken != l->head; i++, l->taken++) {
        const uint32_t at = l->taken % size;
        enum drop_reason why;

        b->iov[b->n_iov] = (struct iovec){ l->slot + (size_t)at * SLOT, l->len[at] };
        why = nic_take_frame(&q->nic->port, b, 1, &l->vnet[at]);
        if (why)
            count_drop_in(&q->nic->port, q->index, why);
    }
    spin_unlock(&l->lock);
    return b->n;
}

static void rx_complete(struct nic_queue *q, struct burst *b)
{
    struct loop *const l = q->rx;

    (void)b;
    spin_lock(&l->lock);
    l->tail = l->taken;
    spin_unlock(&l->lock);
}

static void tx_burst(struct nic_queue *q, struct frame *const *frames, unsigned n, uint8_t *why)
{
    struct loop *const l = q->rx;
    const uint32_t size = q->nic->cfg.ring_size;

    spin_lock(&l->lock);
    for (unsigned i = 0; i < n; i++) {
        const uint32_t at = l->head % size;
        uint8_t *const slot = l->slot + (size_t)at * SLOT;

        why[i] = loop_nic.full || l->head - l->tail == size ? DROP_ring_full : DROP_none;
        if (why[i])
            continue;
        nic_copy_frame(frames[i], &slot, SLOT);
        l->len[at] = nic_wire_len(frames[i]);
        l->vnet[at] = (struct vnet){ 0 };
        l->head++;
    }
    if (l->armed)
        loop_nic_signal(loop_nic.irq_fd[q->index]);
    spin_unlock(&l->lock);
}

static void tx_progress(const struct nic_queue *q, struct nic_tx_progress *out)
{
    *out = loop_nic.progress[q->index];
}

static bool arm(struct nic_queue *q)
{
    struct loop *const l = q->rx;
    bool work;

    spin_lock(&l->lock);
    l->armed = true;
    work = l->taken != l->head;
    spin_unlock(&l->lock);
    return work;
}

static void disarm(struct nic_queue *q)
{
    struct loop *const l = q->rx;

    spin_lock(&l->lock);
    l->armed = false;
    spin_unlock(&l->lock);
}

static void other(struct nic *n)
{
    (void)n;
    loop_nic.others++;
}

static void driver_read(struct nic *n, struct us_nic_state *out)
{
    (void)n;
    out->link_up = loop_nic.link_up;
    out->speed_mbps = loop_nic.link_up ? loop_nic.speed : 0;
    out->full_duplex = 1;
    out->counter[NIC_COUNTER_rx_packets] = 42;
}

static const struct nic_id ids[] = { { VENDOR, DEVICE, VARIANT, "loop" }, { 0, 0, 0, NULL } };

const struct nic_driver loop_driver = {
    .name = "loop", .ids = ids, .bars = 1, .queues_max = 4, .ring_min = 64, .ring_max = 1024, .ring_multiple = 8,
    .frame_max = 9216, .pool_size = pool_size, .open = driver_open, .start = driver_start, .stop = driver_stop,
    .close = driver_close, .rx_burst = rx_burst, .rx_complete = rx_complete, .tx_burst = tx_burst,
    .tx_progress = tx_progress, .arm = arm, .disarm = disarm, .other = other, .read = driver_read,
};

const struct nic_driver *loop_nic_find(uint16_t vendor, uint16_t device, uint32_t *variant)
{
    *variant = VARIANT;
    return vendor == VENDOR && device == DEVICE ? &loop_driver : NULL;
}
