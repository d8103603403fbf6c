/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_lend.c - see intel_lend.h.
 */
#include "nic/intel_lend.h"

#include "nic/dma_guest.h"

uint32_t intel_lend(const struct nic_queue *q, const struct frame *f, struct intel_piece piece[INTEL_LEND_PIECES])
{
    /* acquire: the table was filled before it was published */
    const struct dma_guests *const g = atomic_load_explicit(&q->nic->guests, memory_order_acquire);
    const struct dma_region *hint = NULL;
    uint32_t n = 0;

    if (!g || !hold_admits(f->hold, q->reader))
        return 0;
    for (uint32_t i = 0; i < f->n_iov; i++) {
        uint64_t left = f->iov[i].iov_len, iova;

        if (!dma_guests_find(g, &hint, f->iov[i].iov_base, left, &iova))
            return 0;
        while (left) {
            const uint32_t room = INTEL_LEND_PAGE - (uint32_t)(iova % INTEL_LEND_PAGE);
            const uint32_t part = left < room ? (uint32_t)left : room;

            if (n == INTEL_LEND_PIECES)
                return 0;
            piece[n++] = (struct intel_piece){ iova, part };
            iova += part;
            left -= part;
        }
    }
    return (f->len - f->hdr_len) / INTEL_LEND_CRUMB >= n ? n : 0;
}
