/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_tx.c - see intel_ring.h: frames into a transmit ring.  One worker at a
 * time.
 */
#include <string.h>

#include "nic/intel_lend.h"
#include "nic/intel_offload.h"
#include "nic/intel_ring.h"
#include "nic/nic_copy.h"

/* The shortest frame of Ethernet without FCS: shorter ones are padded here, with zeros and not with what lay there. */
#define WIRE_MIN 60

#define TX_COMMAND (INTEL_TX_DATA | INTEL_TX_DEXT | INTEL_TX_IFCS)

_Static_assert((US_FRAME_MAX + VLAN_TAG_LEN + DMA_BUF_SIZE - 1) / DMA_BUF_SIZE == NIC_SEGS_MAX,
               "a tag does not make a longest frame longer by a buffer");
_Static_assert(INTEL_RING_MIN - 1 - (INTEL_RS_EVERY - 1) > NIC_SEGS_MAX + 1,
               "what was never asked about does not keep the longest frame out for good");

static inline uint8_t *buffer(const struct intel_tx *t, uint32_t i)
{
    return t->buf + (size_t)i * DMA_BUF_SIZE;
}

/* Descriptors come back in order, so the first report that has not come ends it. */
static inline void reclaim(struct intel_tx *t)
{
    while (t->rs_first != t->rs_next) {
        const uint32_t i = t->rs_first % INTEL_RS_MAX;

        if (!(intel_desc_load(&t->desc[t->rs[i].at]) & INTEL_TX_DD))
            break;
        t->free += t->rs[i].n;
        t->rs_first++;
    }
}

/* The same, and who waits for this queue hears of it. */
static inline void reclaim_told(struct nic_queue *q)
{
    struct intel_tx *const t = q->tx;
    const uint32_t before = t->free;

    reclaim(t);
    /* One writer at a time.  release: the device has read before buffers go back to a guest. */
    if (q->reader && t->free != before)
        atomic_store_explicit(&q->reader->done,
                              atomic_load_explicit(&q->reader->done, memory_order_relaxed) + (t->free - before),
                              memory_order_release);
}

static inline void advance(struct intel_tx *t)
{
    t->pos = intel_ring_next(t->size, t->pos);
    t->free--;
    t->unreported++;
}

/* A data descriptor at the ring's position; @every: descriptors after which there is a report. */
static inline void put_desc(struct intel_tx *t, uint64_t iova, uint32_t len, uint64_t word, uint32_t every)
{
    const bool report = (word & INTEL_TX_EOP) && t->unreported + 1 >= every;
    const uint32_t at = t->pos;

    if (__builtin_expect(report, 0))
        word |= INTEL_TX_RS;
    intel_desc_store(&t->desc[at], iova, word | len);
    advance(t);
    if (__builtin_expect(report, 0)) {
        const uint32_t i = t->rs_next++ % INTEL_RS_MAX;

        t->rs[i].at = (uint16_t)at;
        t->rs[i].n = (uint16_t)t->unreported;
        t->unreported = 0;
    }
}

/* The same for the buffer that belongs to the descriptor. */
static inline void put_data(struct intel_tx *t, uint32_t len, uint64_t word)
{
    put_desc(t, t->buf_iova + (uint64_t)t->pos * DMA_BUF_SIZE, len, word, INTEL_RS_EVERY);
}

static inline bool has_request(const struct frame *f)
{
    return (f->vnet.flags & VNET_NEEDS_CSUM) || f->vnet.gso_type != VNET_GSO_NONE;
}

/* Padding does not count in a checksum: zeros. Returns the length on the wire. */
static inline uint32_t pad(uint8_t *frame, uint32_t len)
{
    if (__builtin_expect(len >= WIRE_MIN, 1))
        return len;
    memset(frame + len, 0, WIRE_MIN - len);
    return WIRE_MIN;
}

/* The fast path: one buffer, no request. */
static inline enum drop_reason put_short(struct intel_tx *t, const struct frame *f, uint32_t len)
{
    uint8_t *const to = buffer(t, t->pos);

    if (t->free == 0)
        return DROP_ring_full;
    nic_copy_flat(to, f);
    len = pad(to, len);
    put_data(t, len, TX_COMMAND | INTEL_TX_EOP | INTEL_TX_PAYLEN(len));
    return DROP_none;
}

static void put_context(struct intel_tx *t, const struct intel_request *q)
{
    intel_desc_store(&t->desc[t->pos], q->context[0], q->context[1]);
    t->context[0] = q->context[0];
    t->context[1] = q->context[1];
    advance(t);
}

static void put_chain(struct intel_tx *t, uint32_t len, const struct intel_request *q)
{
    uint64_t first = q->options | INTEL_TX_PAYLEN(len - q->hdr_len);

    while (len) {
        const uint32_t part = len < DMA_BUF_SIZE ? len : DMA_BUF_SIZE;

        len -= part;
        put_data(t, part, TX_COMMAND | q->command | (len ? 0 : INTEL_TX_EOP) | first);
        first = 0;
    }
}

/* A frame into @n buffers from the ring's position on; @buf: where they are. */
static void copy(const struct intel_tx *t, const struct frame *f, uint8_t *buf[NIC_SEGS_MAX], uint32_t n)
{
    uint32_t at = t->pos;

    buf[0] = buffer(t, at);
    if (n == 1) {
        nic_copy_flat(buf[0], f);
        return;
    }
    for (uint32_t i = 1; i < NIC_SEGS_MAX; i++) {
        at = intel_ring_next(t->size, at);
        buf[i] = buffer(t, at);
    }
    (void)nic_copy_frame(f, buf, DMA_BUF_SIZE);
}

/*
 * Headers from the pool, payload from where it lies: what can be in a descriptor beside its address is what the
 * validated request asked for, as in put_chain().
 */
static void put_lent(struct nic_queue *nq, const struct frame *f, const struct intel_request *q,
                     const struct intel_piece *piece, uint32_t n)
{
    struct intel_tx *const t = nq->tx;
    uint8_t *const to = buffer(t, t->pos);
    const uint32_t head = nic_copy_head(to, f);

    if (q->command)
        intel_offload_edit(q, to);
    put_data(t, head, TX_COMMAND | q->command | q->options | INTEL_TX_PAYLEN(nic_wire_len(f) - q->hdr_len));
    for (uint32_t i = 0; i < n; i++)
        put_desc(t, piece[i].iova, piece[i].len, TX_COMMAND | q->command | (i + 1 < n ? 0 : INTEL_TX_EOP), 1);
    nic_lend_frame(nq, f->hold,
                   atomic_load_explicit(&nq->reader->done, memory_order_relaxed) + (t->size - 1 - t->free));
}

/* Pieces to be sent where they lie, 0: the frame is copied. */
static inline uint32_t lend(const struct nic_queue *nq, const struct frame *f, const struct intel_request *q,
                            struct intel_piece piece[INTEL_LEND_PIECES])
{
    const struct intel_tx *const t = nq->tx;

    if (!intel_may_lend(nq, f) || q->software || t->rs_next - t->rs_first >= INTEL_RS_LENT)
        return 0;
    return intel_lend(nq, f, piece);
}

/* Frames of several buffers, those with a request, and those whose payload may stay where it lies. */
static enum drop_reason put_frame(struct nic_queue *nq, const struct frame *f)
{
    struct intel_tx *const t = nq->tx;
    const uint32_t wire_len = nic_wire_len(f), bufs = (wire_len + DMA_BUF_SIZE - 1) / DMA_BUF_SIZE;
    struct intel_piece piece[INTEL_LEND_PIECES];
    struct intel_request q = { 0 };
    uint8_t *buf[NIC_SEGS_MAX];
    bool new_context;
    uint32_t lent;

    if (f->len > US_FRAME_MAX)
        return DROP_mtu;
    if (has_request(f)) {
        const enum drop_reason why = intel_offload_parse(f, nq->nic->cfg.max_frame, &q);

        if (why != DROP_none)
            return why;
    }
    new_context = q.options && (q.context[0] != t->context[0] || q.context[1] != t->context[1]);
    lent = lend(nq, f, &q, piece);
    if (t->free < (lent ? 1 + lent : bufs) + new_context)
        return DROP_ring_full;
    if (new_context)
        put_context(t, &q);
    if (q.command)
        __atomic_store_n(&t->tso, t->tso + 1, __ATOMIC_RELAXED);
    if (lent) {
        put_lent(nq, f, &q, piece, lent);
        return DROP_none;
    }
    copy(t, f, buf, bufs);
    if (q.command)
        intel_offload_edit(&q, buf[0]);
    else if (q.software)
        intel_offload_complete(&f->vnet, wire_len - f->len, wire_len, buf);
    /* Padding would be payload to be segmented: the device pads segments by itself. */
    put_chain(t, q.command ? wire_len : pad(buf[0], wire_len), &q);
    return DROP_none;
}

void intel_tx_burst(struct nic_queue *q, struct frame *const *frames, unsigned n, uint8_t *why)
{
    struct intel_tx *const t = q->tx;
    const uint32_t before = t->pos;

    reclaim_told(q);
    for (unsigned i = 0; i < n; i++) {
        const struct frame *const f = frames[i];
        const uint32_t len = nic_wire_len(f);
        const bool plain = !has_request(f) && len <= DMA_BUF_SIZE && !intel_may_lend(q, f);

        why[i] = (uint8_t)(__builtin_expect(plain, 1) ? put_short(t, f, len) : put_frame(q, f));
    }
    if (t->pos != before)
        bar_write32(&q->nic->bar[0], t->tail_reg, t->pos);
}

void intel_tx_look(struct nic_queue *q)
{
    reclaim_told(q);
}
