/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * model_device.c - see model_device.h.
 */
#include "nic/model_device.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness.h"

static struct model_device *model_of(struct nic_device *d)
{
    return (struct model_device *)d;
}

static int map_bars(struct nic_device *d, uint32_t mask, struct bar bar[NIC_BARS], void (*lost)(void *arg), void *arg)
{
    const struct model_device *const m = model_of(d);

    (void)lost;
    (void)arg;
    CHECK(mask & 1u << m->bar);
    bar[m->bar] = (struct bar){ .size = m->size, .model = m->model };
    return 0;
}

static void unmap_bars(struct nic_device *d, struct bar bar[NIC_BARS])
{
    (void)d;
    memset(bar, 0, NIC_BARS * sizeof(*bar));
}

static int map_pool(struct nic_device *d, struct dma_pool *pool)
{
    pool->iova = MODEL_IOVA;
    *model_of(d)->pool = pool;
    return 0;
}

static void unmap_pool(struct nic_device *d, struct dma_pool *pool)
{
    CHECK(pool == *model_of(d)->pool && !model_of(d)->master);
    pool->iova = 0;
    *model_of(d)->pool = NULL;
}

static int wire(struct nic_device *d, uint32_t n_queues, struct nic_irq *irq)
{
    for (uint32_t i = 0; i <= n_queues; i++)
        d->irq_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *irq = (struct nic_irq){ .n = n_queues + 1, .msix = true };
    return 0;
}

static void unmask(struct nic_device *d)
{
    (void)d;
}

static int master(struct nic_device *d, bool on)
{
    model_of(d)->master = on;
    return 0;
}

/* As VFIO says of a function that has none of its own; the driver does it by register. */
static int reset(struct nic_device *d)
{
    (void)d;
    return 0;
}

static void destroy(struct nic_device *d)
{
    for (unsigned i = 0; i <= US_QUEUES_MAX; i++) {
        if (d->irq_fd[i] >= 0)
            close(d->irq_fd[i]);
    }
    model_of(d)->alive = false;
}

static const struct nic_device_ops ops = {
    .map_bars = map_bars, .unmap_bars = unmap_bars, .map_pool = map_pool, .unmap_pool = unmap_pool, .wire = wire,
    .unmask = unmask, .master = master, .reset = reset, .destroy = destroy,
};

void model_device_init(struct model_device *d, unsigned bar, uint32_t size, const struct bar_model *model,
                       const struct dma_pool **pool)
{
    *d = (struct model_device){ .dev = { .ops = &ops, .error_fd = -1, .request_fd = -1 }, .bar = bar, .size = size,
                                .model = model, .pool = pool, .alive = true };
    for (unsigned i = 0; i <= US_QUEUES_MAX; i++)
        d->dev.irq_fd[i] = -1;
}

void model_device_fire(struct model_device *d, unsigned vector)
{
    const uint64_t one = 1;

    CHECK(vector <= US_QUEUES_MAX && write(d->dev.irq_fd[vector], &one, sizeof(one)) == sizeof(one));
}
