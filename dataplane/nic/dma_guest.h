/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * dma_guest.h - guests' memory that one adapter may read (zero copy): which
 * parts of this process's address space, and under which addresses the device
 * knows them.
 *
 * A table is immutable.  The control thread publishes a new one when memory
 * comes or goes (nic_lend.c); workers find a frame's pieces in it, never
 * without their length.
 */
#ifndef USWITCH_NIC_DMA_GUEST_H
#define USWITCH_NIC_DMA_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct dma_region - memory that the device may read and not write
 * @host: where it is mapped here, on a page
 * @size: bytes, whole pages
 * @iova: where the device sees it
 */
struct dma_region {
    const uint8_t *host;
    uint64_t size;
    uint64_t iova;
};

/**
 * struct dma_guests - all of them (immutable)
 * @n: number
 * @region: sorted by @host, disjoint
 */
struct dma_guests {
    uint32_t n;
    struct dma_region region[];
};

/* The region that holds @at, or NULL. */
static inline const struct dma_region *dma_guests_at(const struct dma_guests *g, const uint8_t *at)
{
    uint32_t low = 0, high = g->n;

    while (low < high) { /* first region that starts behind @at */
        const uint32_t middle = (low + high) / 2;

        if ((uintptr_t)g->region[middle].host <= (uintptr_t)at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || (uintptr_t)at - (uintptr_t)g->region[low - 1].host >= g->region[low - 1].size)
        return NULL;
    return &g->region[low - 1];
}

/**
 * dma_guests_find() - translate a piece of a frame
 * @g: table
 * @hint: region that was hit last, or NULL; updated
 * @at: the piece
 * @len: its bytes, > 0
 * @iova: set to the device's address of it
 *
 * Return: false if not all of it lies in one region.
 */
static inline bool dma_guests_find(const struct dma_guests *g, const struct dma_region **hint, const void *at,
                                   uint64_t len, uint64_t *iova)
{
    const struct dma_region *r = *hint;
    uint64_t off;

    if (!r || (uintptr_t)at - (uintptr_t)r->host >= r->size) {
        r = dma_guests_at(g, at);
        if (!r)
            return false;
        *hint = r;
    }
    off = (uintptr_t)at - (uintptr_t)r->host;
    *iova = r->iova + off;
    return len <= r->size - off;
}

#endif /* USWITCH_NIC_DMA_GUEST_H */
