/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_ring.c - see intel_ring.h: rings come and go.  Control thread.
 */
#include "nic/intel_ring.h"

#include <errno.h>
#include <stdlib.h>

/* Where rings and receive buffers begin; the adapters want 128 bytes of the former. */
#define RING_ALIGN 4096
#define BUF_ALIGN 64

static size_t desc_bytes(uint32_t size)
{
    return (size_t)size * sizeof(struct intel_desc);
}

static size_t rx_bytes(uint32_t size)
{
    return (size_t)size * INTEL_BUF_STRIDE;
}

static size_t tx_bytes(uint32_t size)
{
    return (size_t)size * DMA_BUF_SIZE;
}

size_t intel_ring_pool_size(const struct nic_config *cfg)
{
    /* A piece costs its alignment at most. */
    const size_t ring = desc_bytes(cfg->ring_size) + RING_ALIGN;
    const size_t buf = rx_bytes(cfg->ring_size) + BUF_ALIGN + tx_bytes(cfg->ring_size) + INTEL_TX_ALIGN;

    return (2 * ring + buf) * cfg->n_queues;
}

static int create_rx(struct nic_queue *q, const struct intel_kind *kind, uint32_t rdt)
{
    struct nic *const n = q->nic;
    struct intel_rx *const r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    r->size = n->cfg.ring_size;
    r->kind = kind;
    r->tail_reg = rdt;
    r->desc = dma_alloc(&n->pool, desc_bytes(r->size), RING_ALIGN);
    r->buf = dma_alloc(&n->pool, rx_bytes(r->size), BUF_ALIGN);
    if (!r->desc || !r->buf) {
        free(r);
        return -ENOMEM;
    }
    r->iova = dma_iova(&n->pool, r->desc);
    r->buf_iova = dma_iova(&n->pool, r->buf);
    for (uint32_t i = 0; i < r->size; i++)
        intel_rx_refill(r, i);
    q->rx = r;
    return 0;
}

static int create_tx(struct nic_queue *q, uint32_t tdt)
{
    struct nic *const n = q->nic;
    struct intel_tx *const t = calloc(1, sizeof(*t));

    if (!t)
        return -ENOMEM;
    t->size = n->cfg.ring_size;
    t->tail_reg = tdt;
    t->free = t->size - 1;
    t->desc = dma_alloc(&n->pool, desc_bytes(t->size), RING_ALIGN);
    t->buf = dma_alloc(&n->pool, tx_bytes(t->size), INTEL_TX_ALIGN);
    if (!t->desc || !t->buf) {
        free(t);
        return -ENOMEM;
    }
    t->iova = dma_iova(&n->pool, t->desc);
    t->buf_iova = dma_iova(&n->pool, t->buf);
    q->tx = t;
    return 0;
}

int intel_ring_create(struct nic_queue *q, const struct intel_kind *kind, uint32_t rdt, uint32_t tdt)
{
    int rc = create_rx(q, kind, rdt);

    if (rc == 0)
        rc = create_tx(q, tdt);
    if (rc < 0)
        intel_ring_destroy(q);
    return rc;
}

void intel_rx_offer(struct nic_queue *q)
{
    const struct intel_rx *const r = q->rx;

    bar_write32(&q->nic->bar[0], r->tail_reg, r->size - 1);
}

void intel_ring_destroy(struct nic_queue *q)
{
    free(q->rx);
    free(q->tx);
    q->rx = NULL;
    q->tx = NULL;
}
