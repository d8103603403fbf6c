/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_reset.c - what a reset does to ixgbe_model.h (4.2.1.6, 5.2.5.3.2).
 */
#include "nic/ixgbe_model_priv.h"

#include <string.h>
#include <time.h>

int64_t ixm_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

bool ixm_is_x5(const struct ixgbe_model *m)
{
    return m->device == IXM_X540 || m->device == IXM_X550;
}

void ixm_defaults(struct ixgbe_model *m)
{
    const uint32_t esdp = ixm_reg(m, ESDP), received = ixm_reg(m, 0x4074);

    memset(m->reg, 0, sizeof(m->reg));
    m->reg[ESDP / 4] = esdp;            /* pins are as they were left */
    m->reg[0x4074 / 4] = m->keep_counters ? received : 0;
    memset(m->rx, 0, sizeof(m->rx));
    memset(m->tx, 0, sizeof(m->tx));
    memset(m->rsc, 0, sizeof(m->rsc));
    for (unsigned q = 0; q < IXM_QUEUES; q++)
        engine_ring_reset(&m->tx_ring[q]);
    m->eeprom_seen = m->dma_seen = m->sec_ready_seen = false;
    m->reg[EEC / 4] = 1u << 8;
    m->reg[HLREG0 / 4] = 0x08000403;
    m->reg[MAXFRS / 4] = 0x05ee0000;
    m->reg[RDRXCTL / 4] = 8u << 17;
    m->reg[DMATXCTL / 4] = 0x81000000;
    m->reg[AUTOC / 4] = m->eeprom_lms << 13 | 0xc09c0000;
    m->reg[0x3c00 / 4] = 0x200 << 10;
    m->reg[0xcc00 / 4] = 0xa0 << 10;
    m->reg[0x4a88 / 4] = 0x0f760ff6;
    m->reg[0x4a8c / 4] = 0x00000f7f;
    for (unsigned i = 0; i < 16; i++)
        m->reg[0x2200 / 4 + i] = 0xb200;
    for (unsigned i = 0; i < 128; i++)
        m->reg[(0x600c + 0x40 * i) / 4] = 0x2a00;
    memcpy(&m->reg[0x5400 / 4], m->mac, 4);
    m->reg[0x5404 / 4] = 1u << 31 | (uint32_t)m->mac[5] << 8 | m->mac[4];
    m->reg[0x5400 / 4] = le32toh(m->reg[0x5400 / 4]);
}

static bool any_on(const struct ixgbe_model *m)
{
    for (unsigned q = 0; q < IXM_QUEUES; q++)
        if (m->rx[q].on || m->tx[q].on)
            return true;
    return false;
}

/* 5.2.5.3.2: the bus first, then reset; twice if the bus would not stop. */
void ixm_reset(struct ixgbe_model *m)
{
    const bool stopped = ixm_reg(m, CTRL) & 1u << 2;
    const bool busy = m->master_busy;

    if (!stopped && any_on(m))
        ixm_breach(m, "5.2.5.3.2", "reset while queues are on and the bus master was not disabled");
    if (ixm_is_x5(m) && !(ixm_reg(m, SW_FW_SYNC) & 6))
        ixm_breach(m, "10.5.4", "X540 reset without the semaphore of the PHY");
    m->resets++;
    ixm_defaults(m);
    m->second_reset_due = busy && !m->second_reset_due;
    if (!m->second_reset_due)
        m->master_busy = false;
    m->in_reset = m->hold_reset;
    m->reset_ns = ixm_now_ns();
    if (ixm_is_x5(m))
        m->reg[SW_FW_SYNC / 4] = 0;
}
