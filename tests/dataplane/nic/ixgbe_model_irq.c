/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_irq.c - interrupts of ixgbe_model.h: causes, masks, vectors (7.3).
 */
#include "nic/ixgbe_model_priv.h"

/* The vector of a cause in EICR, by IVAR and IVAR_MISC; -1: none. */
static int vector_of(struct ixgbe_model *m, unsigned bit)
{
    const uint32_t other = ixm_reg(m, IVAR_MISC) >> 8 & 0xff;

    if (!(ixm_reg(m, GPIE) & 1u << 4))
        return 0;
    if (bit < 16)
        return (int)bit;
    return other & 0x80 ? (int)(other & 0x3f) : -1;
}

void ixm_deliver(struct ixgbe_model *m)
{
    for (unsigned bit = 0; bit < 30; bit++) {
        const uint32_t mask = 1u << bit;
        const int vector = vector_of(m, bit);

        if (!(m->reg[EICR / 4] & m->reg[EIMS / 4] & mask) || vector < 0)
            continue;
        m->fired[vector]++;
        if (m->fire)
            m->fire(m->fire_ctx, (unsigned)vector);
        if (ixm_reg(m, EIAC) & mask)
            m->reg[EICR / 4] &= ~mask;
        if ((ixm_reg(m, GPIE) & 1u << 30) && (ixm_reg(m, EIAM) & mask))
            m->reg[EIMS / 4] &= ~mask;
    }
}

void ixm_cause(struct ixgbe_model *m, uint32_t eicr)
{
    m->reg[EICR / 4] |= eicr;
    ixm_deliver(m);
}

void ixm_queue_cause(struct ixgbe_model *m, uint32_t queue, bool tx)
{
    const uint32_t ivar = ixm_reg(m, IVAR + 4 * (queue / 2)) >> (16 * (queue & 1) + (tx ? 8 : 0));

    if (ivar & 0x80)
        ixm_cause(m, 1u << (ivar & 0xf));
}

/* 7.3.4: an enabled queue cause that no queue is mapped to never comes. */
void ixm_check_mask(struct ixgbe_model *m, uint32_t queues)
{
    for (unsigned i = 0; i < 256; i++) {
        const uint32_t entry = ixm_reg(m, IVAR + 4 * (i / 4)) >> (8 * (i % 4)) & 0xff;

        if (entry & 0x80)
            queues &= ~(1u << (entry & 0xf));
    }
    if (queues)
        ixm_breach(m, "7.3.4", "EIMS enables causes 0x%x, to which IVAR maps no queue", queues);
}

void ixm_link(struct ixgbe_model *m, bool up, uint32_t speed)
{
    m->link_up = up;
    m->speed = speed;
    ixm_cause(m, 1u << 20);
}
