/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_model.c - see igb_model.h: registers and reset.  Interrupts, PHY
 * and frames are in igb_model_wire.c.
 */
#include "nic/igb_model.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define CTRL_GIO_DIS (1u << 2)
#define CTRL_SLU (1u << 6)
#define CTRL_RST (1u << 26)
#define DCTL_ON (1u << 25)

/* Registers that software may write at any time, by ranges; the rest is dealt with below, or not there. */
static const struct {
    uint32_t first, last;
} plain[] = {
    { 0x18, 0x18 }, { 0x100, 0x100 }, { 0x170, 0x170 }, { 0x400, 0x400 }, { 0x1514, 0x1514 }, { 0x152c, 0x1530 },
    { 0x1680, 0x16e0 }, { 0x1700, 0x1740 }, { 0x2160, 0x2168 }, { 0x359c, 0x35a0 }, { 0x5000, 0x5004 },
    { 0x5200, 0x53fc }, { 0x5400, 0x547c }, { 0x5818, 0x581c }, { 0x5c00, 0x5c7c }, { 0x5c80, 0x5ca4 },
};

static bool is_plain(uint32_t offset)
{
    for (unsigned i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (offset >= plain[i].first && offset <= plain[i].last)
            return true;
    }
    return false;
}

/* ---- reset, 4.2.1.6 and 4.5.3 ---- */

static void defaults(struct igb_model *m)
{
    uint32_t low;

    memset(m->reg, 0, sizeof(m->reg));
    for (unsigned q = 0; q < IGM_QUEUES; q++) {
        engine_ring_reset(&m->rx[q]);
        engine_ring_reset(&m->tx[q]);
    }
    memcpy(&low, m->mac, sizeof(low));
    if (!m->no_eeprom) {
        m->reg[IGM_RAL / 4] = le32toh(low);
        m->reg[IGM_RAH / 4] = 1u << 31 | (uint32_t)m->mac[5] << 8 | m->mac[4];
    }
    m->reg[IGM_DTXTCPFLGL / 4] = 0x0f760ff6;
    m->reg[IGM_DTXTCPFLGH / 4] = 0x0f7f;
    m->reg[IGM_RXCSUM / 4] = 3u << 8;
    m->reg[IGM_RLPML / 4] = 0x2600;
    m->reg[IGM_RX / 4 + 0xa] = m->reg[IGM_TX / 4 + 0xa] = DCTL_ON;  /* the first queue is on after a reset */
    m->rx[0].on = m->tx[0].on = true;
    m->phy[0] = 0x1140;
    m->negotiated = false;
}

static bool any_on(const struct igb_model *m)
{
    for (unsigned q = 0; q < IGM_QUEUES; q++) {
        if ((m->rx[q].on && m->rx[q].size) || (m->tx[q].on && m->tx[q].size))
            return true;
    }
    return false;
}

static void reset(struct igb_model *m)
{
    if (any_on(m) && !(igm_reg(m, IGM_CTRL) & CTRL_GIO_DIS))
        engine_breach(&m->e, "5.2.3.3: reset while queues are on and the bus master was not disabled");
    m->resets++;
    m->master_busy = false;
    defaults(m);
}

static uint32_t read_status(const struct igb_model *m)
{
    const bool master = !(igm_reg(m, IGM_CTRL) & CTRL_GIO_DIS) || m->master_busy;
    const bool up = m->cable && m->negotiated && (igm_reg(m, IGM_CTRL) & CTRL_SLU);

    return (up ? 1u | 1u << 1 | 2u << 6 : 0) | (master ? 1u << 19 : 0);
}

/* ---- queues, 8.10 and 8.12 ---- */

static void enable(struct igb_model *m, struct engine_ring *r, const uint32_t *reg, bool tx)
{
    r->base = reg[0] | (uint64_t)reg[1] << 32;
    r->size = reg[2] / 16;
    r->head = reg[4];
    r->tail = reg[6];
    r->buf_size = (reg[3] & 0x7f) * 1024;
    if (reg[2] < 128 || reg[2] % 128 || r->base % 128)
        engine_breach(&m->e, "7.1.8: a ring of %u bytes at 0x%llx", reg[2], (unsigned long long)r->base);
    if (r->head || r->tail)
        engine_breach(&m->e, "4.5.9: a queue enabled with head %u, tail %u", r->head, r->tail);
    if (!tx && (reg[3] >> 25 & 7) != 1)
        engine_breach(&m->e, "8.10.2: SRRCTL 0x%x is not the advanced format with one buffer", reg[3]);
    if (tx && !(igm_reg(m, IGM_TCTL) & 2))
        engine_breach(&m->e, "4.5.10: a queue enabled before TCTL.EN");
}

static void write_dctl(struct igb_model *m, struct engine_ring *r, uint32_t *reg, uint32_t q, uint32_t value, bool tx)
{
    const bool want = value & DCTL_ON;

    if (want && (!r->on || !r->size))
        enable(m, r, reg, tx);
    if (want)
        r->on = !((tx ? m->tx_stuck : m->rx_stuck) >> q & 1);
    else
        r->on = r->on && ((tx ? m->tx_on : m->rx_on) >> q & 1);
    reg[0xa] = (value & ~DCTL_ON) | (r->on ? DCTL_ON : 0);
}

static void write_tail(struct igb_model *m, struct engine_ring *r, uint32_t q, uint32_t value, bool tx)
{
    if (!r->on || value >= r->size) {
        engine_breach(&m->e, "4.5.9: tail %u of queue %u, which is not enabled or has %u descriptors", value, q,
                      r->size);
        return;
    }
    if (!tx && engine_given(r) > (value + r->size - r->head) % r->size)
        engine_breach(&m->e, "7.1.8: tail of receive queue %u moved back to %u", q, value);
    r->tail = value;
    if (tx && !m->tx_hold)
        igm_transmit(m, q);
}

static void write_queue(struct igb_model *m, uint32_t offset, uint32_t value)
{
    const bool tx = offset >= IGM_TX;
    const uint32_t q = (offset & 0xfff) / 0x40, which = offset & 0x3f;
    uint32_t *const reg = &m->reg[(offset & ~0x3fu) / 4];
    struct engine_ring *const r = tx ? &m->tx[q % IGM_QUEUES] : &m->rx[q % IGM_QUEUES];

    if (q >= IGM_QUEUES)
        engine_breach(&m->e, "8.10: queue %u", q);
    else if (which == 0x28)
        write_dctl(m, r, reg, q, value, tx);
    else if (which == 0x18 && (r->size || value))
        write_tail(m, r, q, value, tx);
    else if (r->on)
        engine_breach(&m->e, "4.5.9: register 0x%x of an enabled queue written", offset);
    else
        reg[which / 4] = value;
}

/* ---- access ---- */

static bool count_down(struct igb_model *m)
{
    m->accesses++;
    if (m->gone_in && --m->gone_in == 0)
        m->gone = true;
    return m->gone;
}

static void write_other(struct igb_model *m, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case IGM_CTRL:
        if (value & CTRL_RST)
            reset(m);
        else
            m->reg[IGM_CTRL / 4] = value;
        break;
    case IGM_MDIC:
        igm_mdic(m, value);
        break;
    case IGM_SWSM:
        m->reg[IGM_SWSM / 4] = value;
        break;
    case IGM_SW_FW_SYNC:
        if ((igm_reg(m, IGM_SWSM) & 3) != 3)
            engine_breach(&m->e, "4.7.1: SW_FW_SYNC written without its semaphore");
        m->reg[IGM_SW_FW_SYNC / 4] = value;
        break;
    case IGM_ICS:
        igm_cause(m, value);
        break;
    case IGM_IMS:
        igm_enable(m, value, 0);
        break;
    case IGM_IMC:
        m->reg[IGM_IMS / 4] &= ~value;
        break;
    case IGM_EIMS:
        igm_enable(m, 0, value);
        break;
    case IGM_EIMC:
        m->reg[IGM_EIMS / 4] &= ~value;
        break;
    case IGM_EICR:
        m->reg[IGM_EICR / 4] &= ~value;
        break;
    default:
        engine_breach(&m->e, "8.1: 0x%x written to 0x%x, where no register is or a read-only one", value, offset);
    }
}

static void model_write(void *ctx, uint32_t offset, uint32_t value, unsigned bytes)
{
    struct igb_model *const m = ctx;

    if (count_down(m))
        return;
    if (bytes != 4 || offset % 4 || offset >= IGM_BAR_SIZE)
        engine_breach(&m->e, "8.1: %u bytes written at 0x%x", bytes, offset);
    else if (offset >= IGM_RX && offset < IGM_TX + 0x1000)
        write_queue(m, offset, value);
    else if (is_plain(offset))
        m->reg[offset / 4] = value;
    else
        write_other(m, offset, value);
}

/* 64 bits: the high word clears both. */
static uint32_t read_bytes(struct igb_model *m, uint32_t offset)
{
    uint64_t *const bytes = &m->bytes[offset >= IGM_GOTCL];
    const uint64_t value = *bytes;

    if (offset % 8 == 0)
        return (uint32_t)value;
    *bytes = 0;
    return (uint32_t)(value >> 32);
}

static uint32_t read_queue(const struct igb_model *m, uint32_t offset)
{
    const uint32_t q = (offset & 0xfff) / 0x40 % IGM_QUEUES;
    const struct engine_ring *const r = offset >= IGM_TX ? &m->tx[q] : &m->rx[q];

    if ((offset & 0x3f) == 0x10)
        return r->head;
    return (offset & 0x3f) == 0x18 ? r->tail : m->reg[offset / 4];
}

static uint32_t model_read(void *ctx, uint32_t offset, unsigned bytes)
{
    struct igb_model *const m = ctx;
    uint32_t value;

    if (count_down(m))
        return ~0u;
    if (bytes != 4 || offset % 4 || offset >= IGM_BAR_SIZE) {
        engine_breach(&m->e, "8.1: %u bytes read at 0x%x", bytes, offset);
        return 0;
    }
    value = m->reg[offset / 4];
    if (offset == IGM_CTRL)
        return value | (m->never_reset && m->resets ? CTRL_RST : 0);
    if (offset == IGM_STATUS)
        return read_status(m);
    if (offset == IGM_EECD)
        return 1u << 8 | (m->no_eeprom || m->no_ard ? 0 : 1u << 9);
    if (offset == IGM_EEMNGCTL)
        return m->no_cfg_done ? 0 : 3u << 18;
    if (offset == IGM_SWSM)
        m->reg[IGM_SWSM / 4] |= 1;
    if (offset >= IGM_GORCL && offset <= IGM_GOTCH)
        return read_bytes(m, offset);
    /* Cleared by reading: causes, statistics, frames that a queue has dropped. */
    if (offset == IGM_ICR || (offset >= 0x4000 && offset < 0x4200) ||
        (offset - 0xc030 < 0x400 && offset % 0x40 == 0x30))
        m->reg[offset / 4] = 0;
    return offset >= IGM_RX && offset < IGM_TX + 0x1000 && offset % 0x40 != 0x30 ? read_queue(m, offset) : value;
}

void igm_init(struct igb_model *m, const struct dma_pool *pool)
{
    static const uint8_t mac[6] = { 0x00, 0x1b, 0x21, 0x12, 0x34, 0x56 };

    memset(m, 0, sizeof(*m));
    m->bar = (struct bar_model){ .read = model_read, .write = model_write, .ctx = m };
    m->e = (struct engine){ .pool = pool, .sent = igm_sent, .ctx = m };
    m->cable = true;
    memcpy(m->mac, mac, sizeof(mac));
    defaults(m);
}

void igm_clear(struct igb_model *m)
{
    for (uint32_t i = 0; i < m->n_sent; i++)
        free(m->sent[i].data);
    m->n_sent = 0;
}

void igm_fini(struct igb_model *m)
{
    igm_clear(m);
    for (unsigned q = 0; q < IGM_QUEUES; q++) {
        engine_ring_reset(&m->rx[q]);
        engine_ring_reset(&m->tx[q]);
    }
}
