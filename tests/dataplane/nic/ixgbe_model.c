/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model.c - which registers there are, what may be done to
 * them and when; see ixgbe_model.h.
 */
#include "nic/ixgbe_model_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* What may be done to a register. */
enum mode {
    RW,         /* at any time */
    RX,         /* while receiving is off (4.6.7) */
    TX,         /* while the transmit arbiter is off (4.6.8) */
    LIVE,       /* has code of its own */
    RO,
    COUNTER,    /* read only, cleared by it */
};

/* 8.2.2: the registers that exist here.  @keep: bits to be written as they were read. */
static const struct {
    uint32_t offset, stride, n;
    enum mode mode;
    uint32_t keep;
} map[] = {
    { CTRL, 4, 1, LIVE, 0x1bfffff3 }, { STATUS, 4, 1, RO, 0 }, { CTRL_EXT, 4, 1, RW, 0x0ffe0000 },
    { ESDP, 4, 1, RW, 0 }, { EEC, 4, 1, RO, 0 }, { EEMNGCTL, 4, 1, RO, 0 }, { SWSM, 4, 1, LIVE, 0 },
    { SW_FW_SYNC, 4, 1, LIVE, 0 }, { GCR_EXT, 4, 1, LIVE, 0xbfffffff },
    { EICR, 4, 1, LIVE, 0 }, { EICS, 4, 1, LIVE, 0 }, { EIAC, 4, 1, LIVE, 0 }, { 0x820, 4, 24, RW, 0x00007007 },
    { EIMS, 4, 1, LIVE, 0 }, { EIMC, 4, 1, LIVE, 0 }, { EIAM, 4, 1, RW, 0x80000000 }, { GPIE, 4, 1, RW, 0x3ffc0000 },
    { IVAR, 4, 64, RW, 0x40404040 }, { IVAR_MISC, 4, 1, RW, 0xffff4040 },
    { 0x5080, 4, 1, RW, 0xfffff8fd }, { 0x5088, 4, 1, RW, 0x0fff0000 }, { 0x5200, 4, 128, RW, 0 },
    { 0x5400, 8, 16, RW, 0 }, { 0x5404, 8, 16, RW, 0 }, { 0x5000, 4, 1, RX, 0xffffcfff },
    { 0x5008, 4, 1, RX, 0xfffe0000 }, { 0x5818, 4, 1, RX, 0x00007ff0 }, { 0x5c00, 4, 32, RW, 0xf0f0f0f0 },
    { 0xee80, 4, 96, RW, 0 }, { 0x5c80, 4, 10, RX, 0 }, { 0x5480, 4, 16, RX, 0 }, { 0x3028, 4, 1, RX, 0xffffff00 },
    { RXCTRL, 4, 1, LIVE, 0xfffffffe }, { SECRXCTRL, 4, 1, LIVE, 0 }, { SECRXSTAT, 4, 1, LIVE, 0 },
    { RDRXCTL, 4, 1, LIVE, 0xf9c1fff5 }, { 0x3c00, 4, 8, RX, 0xfff003ff },
    { 0x1000, 0x40, 64, LIVE, 0x7f }, { 0x1004, 0x40, 64, LIVE, 0 }, { 0x1008, 0x40, 64, LIVE, 0xfff0007f },
    { 0x2200, 4, 16, RX, 0x0000055f }, { 0x1010, 0x40, 64, LIVE, 0 }, { 0x2100, 4, 16, RX, 0xe03fc0e0 },
    { 0x1018, 0x40, 64, LIVE, 0 }, { 0x1028, 0x40, 64, LIVE, 0xb9ffffff }, { 0x102c, 0x40, 64, RX, 0xfffffff2 },
    { DMATXCTL, 4, 1, LIVE, 0xfffffff4 }, { 0x4a88, 4, 1, RW, 0 }, { 0x4a8c, 4, 1, RW, 0 },
    { 0x8100, 4, 1, TX, 0xfffff000 }, { 0x8120, 4, 1, TX, 0xfffffff0 }, { RTTDCS, 4, 1, RW, 0xff83ffaf },
    { 0xcc00, 4, 8, TX, 0xfff003ff }, { 0x4950, 4, 8, TX, 0xfffffc00 },
    { 0x6000, 0x40, 128, LIVE, 0x7f }, { 0x6004, 0x40, 128, LIVE, 0 }, { 0x6008, 0x40, 128, LIVE, 0xfff0007f },
    { 0x600c, 0x40, 128, LIVE, 0x0000055f }, { 0x6010, 0x40, 128, LIVE, 0 }, { 0x6018, 0x40, 128, LIVE, 0 },
    { 0x6028, 0x40, 128, LIVE, 0xf9808080 },
    { HLREG0, 4, 1, RW, 0xe8f02bf8 }, { MAXFRS, 4, 1, RX, 0x0000ffff }, { AUTOC, 4, 1, RW, 0xffff0fff },
    { 0x42a8, 4, 1, RW, 0xfffcffff }, { LINKS, 4, 1, RO, 0 },
    { 0x3200, 4, 4, RW, 0 }, { 0x3220, 4, 8, RW, 0 }, { 0x3260, 4, 8, RW, 0 }, { 0x32a0, 4, 1, RW, 0 },
    { 0x3d00, 4, 1, RW, 0 }, { 0x4294, 4, 1, RW, 0 },
    { 0x4000, 4, 1, COUNTER, 0 }, { 0x4004, 4, 1, COUNTER, 0 }, { 0x4008, 4, 1, COUNTER, 0 },
    { 0x3fa0, 4, 8, COUNTER, 0 }, { 0x4040, 4, 1, COUNTER, 0 }, { 0x3f60, 4, 1, COUNTER, 0 },
    { 0x41a4, 4, 1, COUNTER, 0 }, { 0x3f68, 4, 1, COUNTER, 0 }, { 0x41a8, 4, 1, COUNTER, 0 },
    { 0x4074, 4, 1, COUNTER, 0 }, { 0x4078, 4, 1, COUNTER, 0 }, { 0x407c, 4, 1, COUNTER, 0 },
    { 0x4080, 4, 1, COUNTER, 0 }, { GORCL, 4, 4, LIVE, 0 }, { 0x40a4, 4, 1, COUNTER, 0 },
    { 0x40a8, 4, 1, COUNTER, 0 }, { 0x40ac, 4, 1, COUNTER, 0 }, { 0x40b0, 4, 1, COUNTER, 0 },
    { 0x40f0, 4, 1, COUNTER, 0 }, { 0x40f4, 4, 1, COUNTER, 0 }, { 0x4120, 4, 1, COUNTER, 0 },
    { 0x1430, 0x40, 16, COUNTER, 0 },
};

#define MAP_SIZE (sizeof(map) / sizeof(map[0]))
#define MAP_NONE MAP_SIZE

void ixm_breach(struct ixgbe_model *m, const char *section, const char *format, ...)
{
    va_list ap;

    m->breaches++;
    if (m->hush)
        return;
    fprintf(stderr, "the data sheet forbids this: %s: ", section);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

uint8_t *ixm_memory(struct ixgbe_model *m, uint64_t iova, uint32_t len, const char *what)
{
    const struct dma_pool *p = m->pool;

    if (iova >= p->iova && iova - p->iova <= p->size && len <= p->size - (iova - p->iova))
        return p->base + (iova - p->iova);
    ixm_breach(m, "7.1.9", "%s at 0x%llx, %u bytes, is outside of the pool", what, (unsigned long long)iova, len);
    return NULL;
}

void ixm_count(struct ixgbe_model *m, uint32_t reg, uint32_t n)
{
    uint32_t *c = &m->reg[reg / 4];

    *c = n > ~0u - *c ? ~0u : *c + n;   /* 8.2.3.23: sticks at its maximum */
}

static size_t find(uint32_t offset)
{
    for (size_t i = 0; i < MAP_SIZE; i++) {
        const uint32_t past = offset - map[i].offset;

        if (offset >= map[i].offset && past % map[i].stride == 0 && past / map[i].stride < map[i].n)
            return i;
    }
    return MAP_NONE;
}

/* ---- rules of order, 4.6.3 ---- */

/* Rules about when registers may be written at all after a reset. */
static void check_settled(struct ixgbe_model *m, uint32_t offset)
{
    if (offset == CTRL || offset == EIMC || offset == EICR || offset == SWSM || offset == SW_FW_SYNC)
        return;
    if (m->in_reset)
        ixm_breach(m, "4.6.3.2", "register 0x%x written during reset", offset);
    else if (m->second_reset_due && offset != HLREG0 && offset != GCR_EXT)
        ixm_breach(m, "5.2.5.3.2", "register 0x%x written, but a second reset was due", offset);
    else if (m->resets && ixm_now_ns() - m->reset_ns < 10000000)
        ixm_breach(m, "4.6.3.2", "register 0x%x written less than 10 ms after a reset", offset);
    else if (m->resets && (!m->eeprom_seen || !m->dma_seen) && offset != HLREG0 && offset != GCR_EXT)
        ixm_breach(m, "4.6.3", "register 0x%x written before EEC.ARD and RDRXCTL.DMAIDONE were seen", offset);
}

/* ---- access ---- */

static void write_live(struct ixgbe_model *m, uint32_t offset, uint32_t value)
{
    const uint32_t old = m->reg[offset / 4];

    switch (offset) {
    case CTRL:
        m->reg[CTRL / 4] = value & ~(1u << 26 | 1u << 3);
        if (value & (1u << 26 | 1u << 3))
            ixm_reset(m);
        return;
    case EICR:
        m->reg[EICR / 4] &= ~value;
        return;
    case EICS:
        ixm_cause(m, value);
        return;
    case EIAC:
        if (value & ~0xffffu)
            ixm_breach(m, "7.3.1.2", "EIAC 0x%x clears causes that are not queues'", value);
        m->reg[EIAC / 4] = value;
        return;
    case EIMS:
        ixm_check_mask(m, value & 0xffff);
        m->reg[EIMS / 4] |= value;
        ixm_deliver(m);
        return;
    case EIMC:
        m->reg[EIMS / 4] &= ~value;
        return;
    case RXCTRL:
        if ((value & 1) && !(old & 1)) {
            if (!(ixm_reg(m, SECRXCTRL) & 2) || !m->sec_ready_seen)
                ixm_breach(m, "4.6.7.1", "RXEN set without halting the security engine and seeing it empty");
            ixm_rx_check(m);
        }
        m->reg[RXCTRL / 4] = value;
        return;
    case SECRXCTRL:
        m->sec_ready_seen = false;
        m->reg[SECRXCTRL / 4] = value;
        return;
    case SECRXSTAT:
        ixm_breach(m, "8.2.3.12", "SECRXSTAT is read only");
        return;
    case RDRXCTL:
        if (ixm_reg(m, RXCTRL) & 1)
            ixm_breach(m, "4.6.7", "RDRXCTL written while receiving");
        m->reg[RDRXCTL / 4] = value & ~8u;
        return;
    case DMATXCTL:
        if ((value & 1) && (ixm_reg(m, RTTDCS) & 1u << 6))
            ixm_breach(m, "4.6.8", "DMATXCTL.TE while RTTDCS.ARBDIS is set");
        m->reg[DMATXCTL / 4] = value;
        return;
    case SWSM:
        m->reg[SWSM / 4] = value;
        return;
    case SW_FW_SYNC:
        if (!(ixm_reg(m, SWSM) & 1) || (!ixm_is_x5(m) && !(ixm_reg(m, SWSM) & 2)))
            ixm_breach(m, "10.5.4", "SW_FW_SYNC written without its semaphore");
        m->reg[SW_FW_SYNC / 4] = value;
        return;
    case GCR_EXT:
        if (value & ~old & 1u << 30) {
            m->flushes++;
            if (!(ixm_reg(m, HLREG0) & 1u << 15) || (ixm_reg(m, RXCTRL) & 1))
                ixm_breach(m, "5.2.5.3.2", "buffers cleared without loopback, or while receiving");
        }
        m->reg[GCR_EXT / 4] = value;
        return;
    default:
        break;
    }
    if (offset >= 0x1000 && offset < 0x2000)
        ixm_write_queue(m, offset, value, false);
    else if (offset >= 0x6000 && offset < 0x8000)
        ixm_write_queue(m, offset, value, true);
    else
        ixm_breach(m, "8.2.3.23", "counter 0x%x is read only", offset);
}

static bool count_down(struct ixgbe_model *m)
{
    m->accesses++;
    if (m->gone_in && --m->gone_in == 0)
        m->gone = true;
    return m->gone;
}

static void model_write(void *ctx, uint32_t offset, uint32_t value, unsigned bytes)
{
    struct ixgbe_model *m = ctx;
    const size_t i = find(offset);

    if (count_down(m))
        return;
    if (i == MAP_NONE || bytes != 4) {
        ixm_breach(m, "8.2.2", "%u bytes written at 0x%x, where no register is", bytes, offset);
        return;
    }
    check_settled(m, offset);
    if ((value ^ m->reg[offset / 4]) & map[i].keep)
        ixm_breach(m, "8.1.1.2", "register 0x%x: reserved bits changed, 0x%x after 0x%x", offset, value,
                   m->reg[offset / 4]);
    if (map[i].mode == RX && (ixm_reg(m, RXCTRL) & 1))
        ixm_breach(m, "4.6.7", "register 0x%x written while receiving", offset);
    if (map[i].mode == TX && !(ixm_reg(m, RTTDCS) & 1u << 6))
        ixm_breach(m, "4.6.8", "register 0x%x written while RTTDCS.ARBDIS is clear", offset);
    if (map[i].mode == RO || map[i].mode == COUNTER)
        ixm_breach(m, "8.2.2", "register 0x%x is read only", offset);
    else if (map[i].mode == LIVE)
        write_live(m, offset, value);
    else
        m->reg[offset / 4] = value;
}

/* 10.5.4: reading SMBI, and on the X540 REGSMP, takes it. */
static uint32_t read_semaphore(struct ixgbe_model *m, uint32_t offset)
{
    const uint32_t value = m->reg[offset / 4];

    if (offset == SWSM) {
        m->reg[SWSM / 4] |= 1;
    } else if (ixm_is_x5(m)) {
        m->reg[SW_FW_SYNC / 4] |= 1u << 31;
    }
    if (offset == SW_FW_SYNC && m->firmware_holds) {
        m->firmware_holds--;
        return value | 0xe << 5;
    }
    return value;
}

static uint32_t read_bytes(struct ixgbe_model *m, uint32_t offset)
{
    uint64_t *bytes = offset < GOTCL ? &m->counter_bytes_rx : &m->counter_bytes_tx;
    uint32_t value;

    if (offset == GORCL || offset == GOTCL) {
        m->reg[(offset + 4) / 4] = 1;   /* the low word was read */
        return (uint32_t)*bytes;
    }
    if (!m->reg[offset / 4])
        ixm_breach(m, "8.2.3.23", "the high word of a byte counter read before the low one");
    value = (uint32_t)(*bytes >> 32) & 0xf;
    *bytes = 0;
    m->reg[offset / 4] = 0;
    return value;
}

static uint32_t read_live(struct ixgbe_model *m, uint32_t offset)
{
    uint32_t value = m->reg[offset / 4];

    switch (offset) {
    case CTRL:
        return m->in_reset ? value | 1u << 26 : value;
    case EICR:
        m->reg[EICR / 4] &= ixm_reg(m, GPIE) & 1u << 5 ? 0xffffu : 0;
        return value;
    case EICS:
    case EIMC:
        ixm_breach(m, "8.2.3.5", "register 0x%x is write only", offset);
        return 0;
    case SECRXSTAT:
        value = (ixm_reg(m, SECRXCTRL) & 2) && !m->no_sec_ready;
        m->sec_ready_seen = value;
        return value;
    case RDRXCTL:
        m->dma_seen = !m->no_dma_init && !m->in_reset;
        return m->dma_seen ? value | 8 : value;
    case SWSM:
    case SW_FW_SYNC:
        return read_semaphore(m, offset);
    default:
        break;
    }
    if (offset >= GORCL && offset <= GOTCH)
        return read_bytes(m, offset);
    if (offset >= 0x1000 && offset < 0x2000)
        return ixm_read_queue(m, offset, false);
    if (offset >= 0x6000 && offset < 0x8000)
        return ixm_read_queue(m, offset, true);
    return value;
}

static uint32_t read_status(struct ixgbe_model *m, uint32_t offset)
{
    if (offset == STATUS)
        return (ixm_reg(m, CTRL) & 1u << 2) && !m->master_busy ? 0 : 1u << 19;
    if (offset == EEC) {
        m->eeprom_seen = !m->no_eeprom && !m->in_reset;
        return 1u << 8 | (m->eeprom_seen ? 1u << 9 : 0);
    }
    if (offset == EEMNGCTL)
        return m->no_cfg_done ? 0 : 3u << 18;
    return (m->link_up ? 1u << 30 : 0) | m->speed << 28;
}

static uint32_t model_read(void *ctx, uint32_t offset, unsigned bytes)
{
    struct ixgbe_model *m = ctx;
    const size_t i = find(offset);
    uint32_t value;

    if (count_down(m))
        return ~0u;
    if (i == MAP_NONE || bytes != 4) {
        ixm_breach(m, "8.2.2", "%u bytes read at 0x%x, where no register is", bytes, offset);
        return 0;
    }
    if (map[i].mode == LIVE)
        return read_live(m, offset);
    if (map[i].mode == RO)
        return read_status(m, offset);
    value = m->reg[offset / 4];
    if (map[i].mode == COUNTER)
        m->reg[offset / 4] = 0;
    if (offset == AUTOC)
        value &= ~(1u << 12);   /* clears itself */
    return value;
}

void ixm_init(struct ixgbe_model *m, const struct dma_pool *pool, uint16_t device)
{
    static const uint8_t mac[6] = { 0x90, 0xe2, 0xba, 0x12, 0x34, 0x56 };

    memset(m, 0, sizeof(*m));
    m->bar = (struct bar_model){ .read = model_read, .write = model_write, .ctx = m };
    m->pool = pool;
    m->device = device;
    memcpy(m->mac, mac, sizeof(mac));
    m->link_up = true;
    m->speed = 3;
    m->eeprom_lms = device == IXM_82599 ? 3 : 4;
    ixm_defaults(m);
}

void ixm_clear(struct ixgbe_model *m)
{
    for (uint32_t i = 0; i < m->n_sent; i++)
        free(m->sent[i].data);
    m->n_sent = 0;
}

void ixm_fini(struct ixgbe_model *m)
{
    ixm_clear(m);
    for (unsigned q = 0; q < IXM_QUEUES; q++)
        engine_ring_reset(&m->tx_ring[q]);
}
