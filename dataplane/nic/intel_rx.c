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
static uint32_t chain_len(const uint64_t *word, uint32_t n)
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
static bool gather(const struct intel_rx *r, struct burst *b, const uint64_t *word, uint32_t n, uint32_t *pieces)
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

/* Descriptors are consumed. */
static inline void advance(struct intel_rx *r, uint32_t n)
{
    r->pos += n;
    r->pos -= r->pos < r->size ? 0 : r->size;
    r->taken += n;
}

/**
 * take_run() - the fast path: good frames in one buffer each, up to the first that is something else
 * @r: ring
 * @b: burst, with room for @n frames
 * @longest: longest frame that needs no second look, at most a buffer
 * @word: words of the next descriptors, DD set
 * @n: how many at most
 * @bytes: of the burst so far
 *
 * What it counts with is in registers, since the barriers of the copies spoil what is not.  Return: frames taken.
 */
static inline uint32_t take_run(struct intel_rx *r, struct burst *b, uint32_t longest, const uint64_t *word, uint32_t n,
                                uint64_t *bytes)
{
    const uint32_t bad = r->kind->rx_damaged | r->kind->rx_l4_wrong | r->kind->rx_ip_wrong;
    const uint32_t checked = r->kind->rx_l4_checked;
    uint8_t *const first = intel_rx_buf(r, 0), *const end = intel_rx_buf(r, r->size);
    uint8_t *src = intel_rx_buf(r, r->pos), *snap = b->snap[b->n] + HDR_ROOM;
    struct iovec *iov = &b->iov[b->n_iov];
    struct frame *f = &b->frame[b->n];
    uint64_t sum = *bytes;
    uint32_t i;

    for (i = 0; i < n && sum < BURST_BYTES; i++) {
        const uint32_t status = intel_rx_status(word[i]), len = intel_rx_claimed_len(word[i]);
        const uint32_t snapped = len < SNAP_SHORT ? len : SNAP_SHORT;

        if (__builtin_expect((status & (bad | INTEL_RX_EOP)) != INTEL_RX_EOP || len < ETH_HDR_LEN || len > longest, 0))
            break;
        guest_copy64(snap, src);
        *f = (struct frame){ .hdr = snap, .iov = iov, .hdr_len = snapped, .len = len, .n_iov = len > SNAP_SHORT };
        f->vnet.flags = status & checked ? VNET_DATA_VALID : 0;
        /* Filled in any case, kept if it is not empty. */
        *iov = (struct iovec){ src + SNAP_SHORT, len - snapped };
        iov += f->n_iov;
        sum += len;
        snap += sizeof(b->snap[0]);
        f++;
        src += INTEL_BUF_STRIDE;
        if (src == end)
            src = first;
    }
    b->n = (uint32_t)(f - b->frame);
    b->n_iov = (uint32_t)(iov - b->iov);
    *bytes = sum;
    advance(r, i);
    return i;
}

/*
 * The general path: one frame of any number of buffers, or one that is dropped.  Returns its descriptors; 0: the burst
 * ends here, since the rest of the frame is still to come, or since it is nonsense.
 */
static uint32_t take_chain(struct nic_queue *q, struct burst *b, const uint64_t *word, uint32_t n, uint64_t *bytes)
{
    struct intel_rx *const r = q->rx;
    const uint32_t len = chain_len(word, n);
    enum drop_reason why;
    uint32_t pieces;

    if (len == 0) {
        if (n >= NIC_SEGS_MAX)  /* longer than any frame */
            nic_fail(q->nic, q->index, BREAK_nic_descriptor, word[0]);
        return 0;
    }
    if (!gather(r, b, word, len, &pieces)) {
        nic_fail(q->nic, q->index, BREAK_nic_descriptor, word[0]);
        return 0;
    }
    why = take(q, b, intel_rx_status(word[len - 1]), pieces);
    if (why == DROP_none)
        *bytes += b->frame[b->n - 1].len;
    else
        count_drop_in(&q->nic->port, q->index, why);
    advance(r, len);
    return len;
}

unsigned intel_rx_burst(struct nic_queue *q, struct burst *b)
{
    const uint32_t max_frame = atomic_load_explicit(&q->nic->port.max_frame, memory_order_relaxed);
    const uint32_t longest = max_frame < DMA_BUF_SIZE ? max_frame : DMA_BUF_SIZE;
    uint32_t i = 0, left = BURST_MAX - b->held_back;
    uint64_t bytes = 0;
    struct ahead a;

    b->n = 0;
    b->n_iov = 0;
    look_ahead(q->rx, &a);
    while (i < a.n && left && bytes < BURST_BYTES) {
        const uint32_t run = take_run(q->rx, b, longest, &a.word[i], a.n - i < left ? a.n - i : left, &bytes);
        uint32_t n;

        i += run;
        left -= run;
        if (i == a.n || left == 0 || bytes >= BURST_BYTES)
            break;
        n = take_chain(q, b, &a.word[i], a.n - i, &bytes);
        if (n == 0)
            break;
        i += n;
        left--;
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
