/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * lend_rig.c - see lend_rig.h.
 */
#include "nic/lend_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nic/pci.h"

/* Regions lie apart, so that who runs on behind one is caught. */
#define FIRST_IOVA 0x7000000000ull
#define IOVA_STEP 0x100000000ull

static struct lend_rig *rig_of(struct nic_device *d)
{
    return (struct lend_rig *)d;
}

static int map_bars(struct nic_device *d, uint32_t mask, struct bar bar[NIC_BARS], void (*lost)(void *arg), void *arg)
{
    (void)mask;
    (void)lost;
    (void)arg;
    bar[0] = (struct bar){ .size = IGM_BAR_SIZE, .model = &rig_of(d)->m.bar };
    return 0;
}

static void unmap_bars(struct nic_device *d, struct bar bar[NIC_BARS])
{
    (void)d;
    memset(bar, 0, NIC_BARS * sizeof(*bar));
}

static int map_pool(struct nic_device *d, struct dma_pool *pool)
{
    pool->iova = LEND_POOL_IOVA;
    rig_of(d)->m.e.pool = pool;
    return 0;
}

static void unmap_pool(struct nic_device *d, struct dma_pool *pool)
{
    (void)d;
    pool->iova = 0;
}

static int map_guest(struct nic_device *d, const struct dma_pool *pool, const struct dma_guests *guests,
                     struct dma_region *region)
{
    struct lend_rig *const k = rig_of(d);

    (void)pool;
    (void)guests;
    if (k->refuse || k->n == LEND_REGIONS)
        return k->refuse ? k->refuse : -ENOSPC;
    pthread_mutex_lock(&k->lock);
    region->iova = k->next_iova;
    k->next_iova += IOVA_STEP;
    k->region[k->n++] = *region;
    k->maps++;
    pthread_mutex_unlock(&k->lock);
    return 0;
}

static void unmap_guest(struct nic_device *d, const struct dma_region *region)
{
    struct lend_rig *const k = rig_of(d);
    unsigned i = 0;

    pthread_mutex_lock(&k->lock);
    while (i < k->n && k->region[i].iova != region->iova)
        i++;
    if (i < k->n) {
        k->region[i] = k->region[--k->n];
        k->unmaps++;
    } else {
        fprintf(stderr, "what was never mapped is unmapped\n");
        k->m.e.faults++;
    }
    pthread_mutex_unlock(&k->lock);
}

/* engine.guest */
static const uint8_t *guest_memory(void *ctx, uint64_t iova, uint32_t len)
{
    struct lend_rig *const k = ctx;
    const uint8_t *found = NULL;

    pthread_mutex_lock(&k->lock);
    for (unsigned i = 0; i < k->n; i++) {
        const struct dma_region *const r = &k->region[i];

        if (iova >= r->iova && iova - r->iova < r->size && len <= r->size - (iova - r->iova))
            found = r->host + (iova - r->iova);
    }
    pthread_mutex_unlock(&k->lock);
    return found;
}

static int wire(struct nic_device *d, uint32_t n_queues, struct nic_irq *irq)
{
    (void)d;
    (void)n_queues;
    *irq = (struct nic_irq){ .n = 0 };
    return 0;
}

static void unmask(struct nic_device *d)
{
    (void)d;
}

static int master(struct nic_device *d, bool on)
{
    (void)d;
    (void)on;
    return 0;
}

static int reset(struct nic_device *d)
{
    (void)d;
    return 0;
}

static void destroy(struct nic_device *d)
{
    rig_of(d)->alive = false;
}

static const struct nic_device_ops rig_ops = {
    .map_bars = map_bars, .unmap_bars = unmap_bars, .map_pool = map_pool, .unmap_pool = unmap_pool,
    .map_guest = map_guest, .unmap_guest = unmap_guest, .wire = wire, .unmask = unmask, .master = master,
    .reset = reset, .destroy = destroy,
};

struct lend_rig *lend_rig_create(void)
{
    struct lend_rig *const k = calloc(1, sizeof(*k));

    if (!k)
        abort();
    k->dev.ops = &rig_ops;
    k->dev.error_fd = k->dev.request_fd = -1;
    for (unsigned i = 0; i <= US_QUEUES_MAX; i++)
        k->dev.irq_fd[i] = -1;
    /* Little-endian, as config space is. */
    memcpy(k->dev.config + PCI_VENDOR, "\x86\x80\xc9\x10", 4);
    pthread_mutex_init(&k->lock, NULL);
    igm_init(&k->m, NULL);
    k->m.cable = true;
    k->m.e.guest = guest_memory;
    k->m.e.guest_ctx = k;
    k->next_iova = FIRST_IOVA;
    k->alive = true;
    return k;
}

bool lend_rig_free(struct lend_rig *k)
{
    const bool good = !k->alive && k->n == 0 && k->m.e.faults == 0 && k->m.e.breaches == 0;

    if (!good)
        fprintf(stderr, "alive %d, regions %u, faults %u, breaches %u\n", k->alive, k->n, k->m.e.faults,
                k->m.e.breaches);
    pthread_mutex_destroy(&k->lock);
    igm_fini(&k->m);
    free(k);
    return good;
}

struct port *lend_rig_port_of(struct lend_rig *k, struct us_state_page *state, uint32_t ring_size)
{
    const struct us_port_add add = { .port_id = 3, .kind = US_KIND_NIC, .max_frame = 9014, .n_queues = 1,
                                     .ring_size = ring_size, .nic_flags = US_NIC_ZERO_COPY };
    struct port *p = NULL;

    return nic_port_create_on(&add, state, &k->dev, NULL, false, -1, &p) == 0 ? p : NULL;
}

struct port *lend_rig_port(struct lend_rig *k, struct us_state_page *state)
{
    return lend_rig_port_of(k, state, 128);
}

static void *fetch(void *arg)
{
    struct lend_rig *const k = arg;

    (void)poll(NULL, 0, 20);
    igm_send(&k->m);
    return NULL;
}

void lend_rig_fetch_later(struct lend_rig *k)
{
    if (pthread_create(&k->fetching, NULL, fetch, k))
        abort();
}

void lend_rig_fetched(struct lend_rig *k)
{
    pthread_join(k->fetching, NULL);
}
