/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_tx.c - the transmit side of ixgbe_model.h.  Descriptors,
 * checksums and segments are the 82576's (82599: 7.2.3 - 7.2.5), so
 * intel_engine.c does them; here is what goes out, and what is the 82599's.
 */
#include <stdlib.h>
#include <string.h>

#include "nic/ixgbe_model_priv.h"

enum { TDBAL = 0x0, TDLEN = 0x8, TDT = 0x18 };

#define FRAME_MAX 15872                 /* 7.2.1.1, 8.2.3.22.8 */

/* A frame on the wire: padded (HLREG0.TXPADEN), counted, kept. */
static void sent(void *ctx, const uint8_t *data, uint32_t len)
{
    struct ixgbe_model *m = ctx;
    struct ixm_frame *f;

    if (len > FRAME_MAX)
        ixm_breach(m, "7.2.1.1", "frame of %u bytes", len);
    ixm_count(m, 0x4080, 1);
    m->counter_bytes_tx += (len < 60 ? 60 : len) + 4;
    if (m->counter_bytes_tx > IXM_BYTES_MAX)
        m->counter_bytes_tx = IXM_BYTES_MAX;
    if (data[0] == 0xff)
        ixm_count(m, 0x40f4, 1);
    else if (data[0] & 1)
        ixm_count(m, 0x40f0, 1);
    if (m->n_sent == IXM_SENT)
        return;
    f = &m->sent[m->n_sent++];
    f->len = len;
    f->data = malloc(len);
    memcpy(f->data, data, len);
}

void ixm_tx_run(struct ixgbe_model *m, uint32_t q)
{
    struct engine e = { .pool = m->pool, .guest = m->guest, .guest_ctx = m, .flags_first = ixm_reg(m, 0x4a88) & 0xfff,
                        .flags_middle = ixm_reg(m, 0x4a88) >> 16 & 0xfff, .flags_last = ixm_reg(m, 0x4a8c) & 0xfff,
                        .sent = sent, .ctx = m };
    struct engine_ring *const r = &m->tx_ring[q];
    bool reported;

    if (!m->tx[q].on)
        return;
    r->base = ixm_tx_reg(m, q, TDBAL) | (uint64_t)ixm_tx_reg(m, q, TDBAL + 4) << 32;
    r->size = ixm_tx_reg(m, q, TDLEN) / 16;
    r->head = m->tx[q].head;
    r->tail = ixm_tx_reg(m, q, TDT);
    reported = engine_transmit(&e, r);
    m->tx[q].head = r->head;
    m->breaches += e.breaches;
    m->guest_reads += e.guest_reads;
    if (e.faults)
        ixm_breach(m, "7.2.3", "%u accesses outside of the pool", e.faults);
    if (r->n)
        ixm_breach(m, "7.2.3.2.4", "the tail lies inside a frame");
    if (reported)
        ixm_queue_cause(m, q, true);
}

void ixm_send(struct ixgbe_model *m)
{
    m->tx_hold = false;
    for (uint32_t q = 0; q < IXM_QUEUES; q++)
        ixm_tx_run(m, q);
}
