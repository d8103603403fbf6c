/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_lend.h - zero copy: which frames' payload the device may read where it
 * lies, and in which pieces.  Worker thread, with the queue's lock.
 */
#ifndef USWITCH_NIC_INTEL_LEND_H
#define USWITCH_NIC_INTEL_LEND_H

#include "frame.h"
#include "nic/nic.h"

/* Bytes of payload; less is copied: the second descriptor and its report cost as much (bench_zero_copy). */
#define INTEL_LEND_MIN 1000
/* And bytes a piece on average: crumbs are cheaper to copy. */
#define INTEL_LEND_CRUMB 512
/* Data descriptors behind that of the headers; a frame has 40 at most (82599 7.2.1.1). */
#define INTEL_LEND_PIECES 24
/* A piece lies in one page, for the reason that transmit buffers do (INTEL_TX_ALIGN). */
#define INTEL_LEND_PAGE 4096u
_Static_assert(US_FRAME_MAX / INTEL_LEND_PAGE + 2 <= INTEL_LEND_PIECES, "a contiguous payload always fits");

/* One data descriptor's worth of payload, for the device. */
struct intel_piece {
    uint64_t iova;
    uint32_t len;
};

/* May the payload be read in place at all?  The quick answer. */
static inline bool intel_may_lend(const struct nic_queue *q, const struct frame *f)
{
    return f->hold && f->len - f->hdr_len >= INTEL_LEND_MIN && q->reader;
}

/**
 * intel_lend() - find the payload for the device
 * @q: queue
 * @f: frame with intel_may_lend()
 * @piece: filled
 *
 * Return: pieces, or 0: copy the frame; a part of it is not mapped for the device, or it lies in too many.
 */
uint32_t intel_lend(const struct nic_queue *q, const struct frame *f, struct intel_piece piece[INTEL_LEND_PIECES]);

#endif /* USWITCH_NIC_INTEL_LEND_H */
