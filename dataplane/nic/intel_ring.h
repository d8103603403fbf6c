/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_ring.h - receive and transmit rings of advanced descriptors, as igb
 * and ixgbe have them; registers are the drivers' affair, but for the tails.
 *
 * Theory of operation.  Descriptor and buffer i of a ring belong together for
 * good: frames are received and sent in order, and a worker returns a burst's
 * buffers before it takes the next, so there is nothing to allocate.  All but
 * one of the descriptors are the device's at most, since head == tail means
 * that it has none (82576 7.1.8 and 7.2.3, 82599 7.1.9 and 7.2.3.3).
 *
 * Sending: a frame's bytes are copied into the buffers of its descriptors, so
 * nothing is kept for as long as the device takes; it reports (RS, DD) on
 * every INTEL_RS_EVERY descriptors or so, and only those that carry RS are
 * looked at.  With zero copy a long payload stays where it lies, if the device
 * reaches it: the frame's first descriptor has the headers, copied, the others
 * name the payload's pieces, and the last one reports, since somebody waits.
 * A frame with an offload request is preceded by a context descriptor, unless
 * the queue's context is still the same.
 *
 * The files: intel_ring.c life, intel_rx.c, intel_tx.c bursts,
 * intel_lend.c which payload may stay where it lies, intel_offload.c the
 * context of a request.
 */
#ifndef USWITCH_NIC_INTEL_RING_H
#define USWITCH_NIC_INTEL_RING_H

#include "nic/intel_desc.h"
#include "nic/nic.h"

/* Legal sizes: RDLEN and TDLEN are multiples of 128 bytes (82576 8.10, 8.12; 82599 8.2.3.8.3, 8.2.3.9.7). */
#define INTEL_RING_MIN 128
#define INTEL_RING_MAX 4096
#define INTEL_RING_MULTIPLE 8

/* One odd line between receive buffers: frames of a burst would else share a few cache sets. */
#define INTEL_BUF_STRIDE (DMA_BUF_SIZE + 64)

/*
 * Transmit buffers follow each other, the first one at the begin of a page, so that none lies in two: pages that are
 * neighbours for us and for the IOMMU need not be neighbours in memory, and an emulated adapter may take a buffer in
 * one piece only.
 */
#define INTEL_TX_ALIGN 4096
_Static_assert(INTEL_TX_ALIGN % DMA_BUF_SIZE == 0, "a page holds whole buffers");

/* The device reports at most every so many transmit descriptors, and what a frame adds. */
#define INTEL_RS_EVERY 32
/* Reports that can be outstanding, a power of two. */
#define INTEL_RS_MAX 1024
/* With so many outstanding no frame is sent in place: those report each, others after INTEL_RS_EVERY descriptors. */
#define INTEL_RS_LENT (INTEL_RS_MAX / 2)
_Static_assert(INTEL_RING_MAX / INTEL_RS_EVERY < INTEL_RS_MAX - INTEL_RS_LENT, "the others' always find room");

/**
 * struct intel_kind - what differs between the adapters
 * @rx_l4_checked: status: any of these: the TCP or UDP checksum was looked at
 * @rx_l4_wrong: error: it is wrong
 * @rx_ip_wrong: error: the IPv4 header's is wrong
 * @rx_damaged: errors of the frame as a whole
 */
struct intel_kind {
    uint32_t rx_l4_checked;
    uint32_t rx_l4_wrong;
    uint32_t rx_ip_wrong;
    uint32_t rx_damaged;
};

/**
 * struct intel_rx - nic_queue.rx
 * @desc: descriptors, in the pool
 * @buf: buffer of the first descriptor, in the pool
 * @buf_iova: the same for the device
 * @size: descriptors
 * @tail_reg: offset of RDT in BAR 0
 * @kind: adapter
 * @iova: of @desc, for RDBAL and RDBAH
 * @pos: next descriptor to look at (worker)
 * @taken: descriptors before @pos that are not given back (worker)
 * @csum_errors: frames with a wrong checksum (writer: worker)
 */
struct intel_rx {
    struct intel_desc *desc;
    uint8_t *buf;
    uint64_t buf_iova;
    uint32_t size;
    uint32_t tail_reg;
    const struct intel_kind *kind;
    uint64_t iova;

    uint32_t pos;
    uint32_t taken;
    uint64_t csum_errors;
};

/**
 * struct intel_tx - nic_queue.tx; everything below @iova: who holds the queue's lock
 * @desc: descriptors, in the pool
 * @buf: buffer of the first descriptor, in the pool, at the begin of a page
 * @buf_iova: the same for the device
 * @size: descriptors
 * @tail_reg: offset of TDT in BAR 0
 * @iova: of @desc, for TDBAL and TDBAH
 * @pos: next descriptor to fill
 * @free: descriptors that can be filled
 * @unreported: filled since the last one with RS
 * @rs_first, @rs_next: first outstanding report, next one; free-running, modulo INTEL_RS_MAX
 * @context: words of the queue's context; 0, 0: none
 * @tso: segmentation requests sent (writer: worker)
 * @rs: a report: the descriptor with RS, and how many descriptors it is about
 */
struct intel_tx {
    struct intel_desc *desc;
    uint8_t *buf;
    uint64_t buf_iova;
    uint32_t size;
    uint32_t tail_reg;
    uint64_t iova;

    uint32_t pos;
    uint32_t free;
    uint32_t unreported;
    uint32_t rs_first, rs_next;
    uint64_t context[2];
    uint64_t tso;
    struct {
        uint16_t at;
        uint16_t n;
    } rs[INTEL_RS_MAX];
};

/* ---- life: control thread ---- */

/* Bytes of pool that a configuration's rings take: nic_driver.pool_size. */
size_t intel_ring_pool_size(const struct nic_config *cfg);

/**
 * intel_ring_create() - make both rings of a queue, in n->pool; no device knows of them yet
 * @q: queue, without rings
 * @kind: adapter, lives as long as the rings
 * @rdt: register of the receive tail
 * @tdt: register of the transmit tail
 *
 * Return: 0 or -ENOMEM; then the queue is as before.
 */
int intel_ring_create(struct nic_queue *q, const struct intel_kind *kind, uint32_t rdt, uint32_t tdt);

/* Give all receive buffers to the device; after its queue has been enabled (82576 4.5.9, 82599 4.6.7). */
void intel_rx_offer(struct nic_queue *q);

/* Free both rings, the device being quiet; the pool's pieces are freed by dma_reset().  Legal without rings. */
void intel_ring_destroy(struct nic_queue *q);

/* ---- worker ---- */

/* nic_driver.rx_burst, .rx_complete, .tx_burst */
unsigned intel_rx_burst(struct nic_queue *q, struct burst *b);
void intel_rx_complete(struct nic_queue *q, struct burst *b);
void intel_tx_burst(struct nic_queue *q, struct frame *const *frames, unsigned n, uint8_t *why);

/* nic_driver.tx_look */
void intel_tx_look(struct nic_queue *q);

/* Is a whole frame there (or something that makes no sense)?  For nic_driver.arm, after the interrupt was enabled. */
bool intel_rx_pending(const struct nic_queue *q);

/* The one after descriptor @i of a ring. */
static inline uint32_t intel_ring_next(uint32_t size, uint32_t i)
{
    return i + 1 == size ? 0 : i + 1;
}

static inline uint8_t *intel_rx_buf(const struct intel_rx *r, uint32_t i)
{
    return r->buf + (size_t)i * INTEL_BUF_STRIDE;
}

/* Give descriptor @i back; the tail is the caller's. */
static inline void intel_rx_refill(struct intel_rx *r, uint32_t i)
{
    intel_desc_store(&r->desc[i], r->buf_iova + (uint64_t)i * INTEL_BUF_STRIDE, 0);
}

/* What a status says of the checksums of its frame; counts wrong ones. An error counts where it was looked for. */
static inline struct vnet intel_rx_vnet(struct intel_rx *r, uint32_t status)
{
    const struct intel_kind *const kind = r->kind;
    const bool l4 = status & kind->rx_l4_checked;

    if (__builtin_expect((l4 && (status & kind->rx_l4_wrong)) ||
                         ((status & INTEL_RX_IPCS) && (status & kind->rx_ip_wrong)), 0)) {
        __atomic_store_n(&r->csum_errors, r->csum_errors + 1, __ATOMIC_RELAXED);
        return (struct vnet){ 0 };
    }
    return (struct vnet){ .flags = l4 ? VNET_DATA_VALID : 0 };
}

#endif /* USWITCH_NIC_INTEL_RING_H */
