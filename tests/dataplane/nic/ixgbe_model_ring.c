/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_ring.c - the registers of a queue of ixgbe_model.h: base, length,
 * head, tail, enable (7.1.9, 7.2.3, 4.6.7.1, 4.6.8.1).
 */
#include "nic/ixgbe_model_priv.h"

static void check_ring(struct ixgbe_model *m, uint32_t base, const char *side)
{
    const uint64_t iova = m->reg[base / 4] | (uint64_t)m->reg[base / 4 + 1] << 32;
    const uint32_t len = m->reg[base / 4 + 2];

    if (len < 128 || len % 128)
        ixm_breach(m, "7.1.9", "%s ring of %u bytes enabled", side, len);
    if (iova % 128)
        ixm_breach(m, "7.1.9", "%s ring at 0x%llx is not aligned", side, (unsigned long long)iova);
    (void)ixm_memory(m, iova, len, "a ring");
}

static void write_dctl(struct ixgbe_model *m, uint32_t base, uint32_t q, uint32_t value, bool tx)
{
    struct ixm_ring *r = tx ? &m->tx[q] : &m->rx[q];
    const bool on = value & 1u << 25;

    if (on && !r->on) {
        check_ring(m, base, tx ? "transmit" : "receive");
        if (tx && !(ixm_reg(m, DMATXCTL) & 1))
            ixm_breach(m, "4.6.8", "TXDCTL[%u].ENABLE before DMATXCTL.TE", q);
        if (m->reg[(base + 0x10) / 4] != 0 || m->reg[(base + 0x18) / 4] != 0)
            ixm_breach(m, "7.1.9", "queue %u enabled with head or tail not 0", q);
        r->head = r->held = 0;
        r->confirmed = false;
        r->on = !((tx ? m->tx_stuck : m->rx_stuck) >> q & 1);
    } else if (!on && r->on) {
        r->on = (tx ? m->tx_on : m->rx_on) >> q & 1;
    }
    m->reg[(base + 0x28) / 4] = (value & ~(1u << 25)) | (r->on ? 1u << 25 : 0);
}

static void write_tail(struct ixgbe_model *m, uint32_t base, uint32_t q, uint32_t value, bool tx)
{
    struct ixm_ring *r = tx ? &m->tx[q] : &m->rx[q];
    const uint32_t n = m->reg[(base + 8) / 4] / 16;
    uint32_t held;

    if (!r->on && value == 0) {
        m->reg[(base + 0x18) / 4] = 0;
        return;
    }
    if (!r->on || !r->confirmed) {
        ixm_breach(m, tx ? "4.6.8.1" : "4.6.7.1", "tail of queue %u written before it was read to be enabled", q);
        return;
    }
    if (value >= n) {
        ixm_breach(m, "7.1.9", "tail %u of a ring of %u", value, n);
        return;
    }
    held = (value + n - r->head) % n;
    if (!tx && held < r->held)
        ixm_breach(m, "7.1.9", "tail of receive queue %u moved back: %u descriptors held, was %u", q, held, r->held);
    r->held = held;
    m->reg[(base + 0x18) / 4] = value;
    if (tx && !m->tx_hold)
        ixm_tx_run(m, q);
}

void ixm_write_queue(struct ixgbe_model *m, uint32_t offset, uint32_t value, bool tx)
{
    const uint32_t q = (offset & 0xfff) / 0x40;
    const uint32_t base = offset & ~0x3fu;
    const uint32_t which = offset & 0x3f;
    struct ixm_ring *r;

    if (q >= IXM_QUEUES) {
        ixm_breach(m, "8.2.3.8", "queue %u of a switch that has 8", q);
        return;
    }
    r = tx ? &m->tx[q] : &m->rx[q];
    if (which == 0x28)
        write_dctl(m, base, q, value, tx);
    else if (which == 0x18)
        write_tail(m, base, q, value, tx);
    else if (r->on)
        ixm_breach(m, "7.1.9", "register 0x%x of an enabled queue written", offset);
    else
        m->reg[offset / 4] = value;
}

uint32_t ixm_read_queue(struct ixgbe_model *m, uint32_t offset, bool tx)
{
    const uint32_t q = (offset & 0xfff) / 0x40;
    struct ixm_ring *r = tx ? &m->tx[q % IXM_QUEUES] : &m->rx[q % IXM_QUEUES];

    if ((offset & 0x3f) == 0x28 && q < IXM_QUEUES)
        r->confirmed = r->on;
    if ((offset & 0x3f) == 0x10 && q < IXM_QUEUES)
        return r->head;
    return m->reg[offset / 4];
}
