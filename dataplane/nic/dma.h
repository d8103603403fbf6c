/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * dma.h - the one piece of memory that a NIC may reach: descriptor rings and
 * packet buffers of one uplink.  Nothing else is ever mapped for the device,
 * so neither a hostile NIC nor a mistake in a driver reaches a guest
 * (zero copy adds guests' regions, for reading: nic_lend.c).
 *
 * What lies in it can be rewritten by the device at any time: like guest
 * memory it is read once and checked (design law 4), and what is decided upon
 * is a private snapshot (law 3).
 */
#ifndef USWITCH_NIC_DMA_H
#define USWITCH_NIC_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A packet buffer; received frames longer than that take several. */
#define DMA_BUF_SIZE 2048

/**
 * struct dma_pool - memory of one uplink, contiguous for process and device
 * @base: mapping (owned)
 * @size: bytes, a multiple of the page size of the mapping
 * @iova: where the device sees @base
 * @used: bytes handed out by dma_alloc()
 * @huge: made of 2 MiB pages
 */
struct dma_pool {
    uint8_t *base;
    size_t size;
    uint64_t iova;
    size_t used;
    bool huge;
};

/**
 * dma_pool_create() - memory for an uplink, zeroed, kept out of core dumps
 * @p: to fill
 * @size: bytes wanted, rounded up
 *
 * 2 MiB pages if there are any, else ordinary ones.  Not yet mapped for a device: the caller does that and sets @iova.
 * Control thread.  Return: 0 or -ENOMEM.
 */
int dma_pool_create(struct dma_pool *p, size_t size);

/* Control thread; no device can reach the memory any more.  Legal on a zeroed pool. */
void dma_pool_destroy(struct dma_pool *p);

/**
 * dma_alloc() - cut a piece off the pool; pieces are never given back one by one
 * @p: the pool
 * @size: bytes
 * @align: power of two, at most 4096
 *
 * Control thread.  Return: zeroed memory, or NULL when the pool is used up.
 */
void *dma_alloc(struct dma_pool *p, size_t size, size_t align);

/* Forget all pieces (device quiet). */
void dma_reset(struct dma_pool *p);

/* What the device calls an address inside the pool. */
static inline uint64_t dma_iova(const struct dma_pool *p, const void *ptr)
{
    return p->iova + (uint64_t)((const uint8_t *)ptr - p->base);
}

#endif /* USWITCH_NIC_DMA_H */
