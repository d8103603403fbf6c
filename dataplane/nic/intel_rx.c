/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_rx.c - see intel_ring.h: frames out of a receive ring.  Worker.
 *
 * The descriptors' words are loaded once, all of a burst in advance, while the
 * buffers they are about are fetched.  What follows works on these copies.
 */
#include "nic/intel_ring.h"
#include "nic/nic_copy.h"

/* Looked at in advance: the longest frame fits, so that a burst always gets on. */
#define LOOK_MAX (BURST_MAX + NIC_SEGS_MAX)

_Static_assert(BURST_MAX * NIC_SEGS_MAX + LOOK_MAX <= BURST_IOV, "scatter entries of a burst of longest frames");

/**
 * struct ahead - completed descriptors, looked at in advance (worker's stack)
 * @n: how many, from the ring's position on
 * @word: their status and length
 */
struct ahead {
    uint32_t n;
    uint64_t word[LOOK_MAX];
};

static inline void look_ahead(const struct intel_rx *r, struct ahead *a)
{
    const uint32_t most = r->size - 1 < LOOK_MAX ? r->size - 1 : LOOK_MAX;
    uint32_t at = r->pos, i;

    for (i = 0; i < most; i++, at = intel_ring_next(r->size, at)) {
        a->word[i] = intel_desc_load(&r->desc[at]);
        if (!(a->word[i] & INTEL_RX_DD))
            break;
        guest_prefetch(intel_rx_buf(r, at));
    }
    a->n = i;
}

/**
 * chain_len() - descriptors of the frame that begins with the first of some words
 * @word: words, DD set
 * @n: how many there are
 *
 * Return: 1 .. NIC_SEGS_MAX; 0: its end is not among them.
 */
static inline uint32_t chain_len(const uint64_t *word, uint32_t n)
{
    for (uint32_t i = 0; i < n && i < NIC_SEGS_MAX; i++) {
        if (word[i] & INTEL_RX_EOP)
            return i + 1;
    }
    return 0;
}

/*
 * The buffers of a frame as scatter entries of the burst, empty ones left out (an FCS that the device cuts off may
 * have a buffer of its own).  False: a length that no buffer has.
 */
static inline bool gather(const struct intel_rx *r, struct burst *b, const uint64_t *word, uint32_t n, uint32_t *pieces)
{
    struct iovec *iov = &b->iov[b->n_iov];
    uint32_t at = r->pos;

    for (uint32_t i = 0; i < n; i++, at = intel_ring_next(r->size, at)) {
        const uint32_t claimed_len = intel_rx_claimed_len(word[i]);

        if (claimed_len > DMA_BUF_SIZE)
            return false;
        *iov = (struct iovec){ intel_rx_buf(r, at), claimed_len };
        iov += claimed_len != 0;
    }
    *pieces = (uint32_t)(iov - &b->iov[b->n_iov]);
    return true;
}

static enum drop_reason take(struct nic_queue *q, struct burst *b, uint32_t status, uint32_t pieces)
{
    struct intel_rx *const r = q->rx;
    struct vnet vnet;

    if (__builtin_expect(status & r->kind->rx_damaged, 0))
        return DROP_nic_rx;
    if (__builtin_expect(pieces == 0, 0))
        return DROP_frame_short;
    vnet = intel_rx_vnet(r, status);
    return nic_take_frame(&q->nic->port, b, pieces, &vnet);
}

unsigned intel_rx_burst(struct nic_queue *q, struct burst *b)
{
    struct intel_rx *const r = q->rx;
    const uint32_t most = BURST_MAX - b->held_back;
    uint64_t bytes = 0;
    struct ahead a;
    uint32_t n;

    b->n = 0;
    b->n_iov = 0;
    look_ahead(r, &a);
    for (uint32_t i = 0, taken = 0; i < a.n && taken < most && bytes < BURST_BYTES; i += n, taken++) {
        enum drop_reason why;
        uint32_t pieces;

        n = chain_len(&a.word[i], a.n - i);
        if (__builtin_expect(n == 0, 0)) {
            if (a.n - i >= NIC_SEGS_MAX)    /* longer than any frame */
                nic_fail(q->nic, q->index, BREAK_nic_descriptor, a.word[i]);
            break;                          /* or its end is still to come */
        }
        if (__builtin_expect(!gather(r, b, &a.word[i], n, &pieces), 0)) {
            nic_fail(q->nic, q->index, BREAK_nic_descriptor, a.word[i]);
            break;
        }
        why = take(q, b, intel_rx_status(a.word[i + n - 1]), pieces);
        if (why == DROP_none)
            bytes += b->frame[b->n - 1].len;
        else
            count_drop_in(&q->nic->port, q->index, why);
        r->pos = r->pos + n < r->size ? r->pos + n : r->pos + n - r->size;
        r->taken += n;
    }
    return b->n;
}

void intel_rx_complete(struct nic_queue *q, struct burst *b)
{
    struct intel_rx *const r = q->rx;
    uint32_t at = r->pos >= r->taken ? r->pos - r->taken : r->pos + r->size - r->taken;

    (void)b;
    if (r->taken == 0)
        return;
    for (; at != r->pos; at = intel_ring_next(r->size, at))
        intel_rx_refill(r, at);
    r->taken = 0;
    /* The one before the next to be looked at stays ours: head == tail would mean "none". */
    bar_write32(&q->nic->bar[0], r->tail_reg, r->pos == 0 ? r->size - 1 : r->pos - 1);
}

bool intel_rx_pending(const struct nic_queue *q)
{
    const struct intel_rx *const r = q->rx;
    uint32_t at = r->pos;

    for (uint32_t i = 0; i < NIC_SEGS_MAX; i++, at = intel_ring_next(r->size, at)) {
        const uint64_t word = intel_desc_load(&r->desc[at]);

        if (!(word & INTEL_RX_DD))
            return false;
        if (word & INTEL_RX_EOP)
            return true;
    }
    return true;
}
