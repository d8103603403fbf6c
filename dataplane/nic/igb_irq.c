/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_irq.c - see igb.h.
 *
 * With MSI-X (7.3) vector i is queue i, receive side only - transmit rings are
 * cleaned when the next burst goes out - and vector n_queues everything else.
 * A queue's cause clears itself when its message is sent (EIAC), and masks
 * itself (EIAM), so that one arm is one interrupt.  All of these adapters have
 * MSI-X; a queue without a vector is polled.
 */
#include "nic/igb.h"

#include "nic/intel_ring.h"

/* The link, and errors that only a reset mends. */
#define ERROR_CAUSES (IGB_ICR_FER | IGB_ICR_DOUTSYNC | IGB_ICR_DRSTA)
#define OTHER_CAUSES (IGB_ICR_LSC | ERROR_CAUSES)

static bool is_wired(const struct nic *n, uint32_t vector)
{
    return n->irq.msix && vector < n->irq.n;
}

/* IVAR, 8.8: the receive side of a queue; its place differs. */
static void wire_queue(const struct nic *n, uint32_t q)
{
    const uint32_t reg = n->variant == IGB_82576 ? IGB_IVAR(q % 8) : IGB_IVAR(q / 2);
    const uint32_t shift = n->variant == IGB_82576 ? q / 8 * 16 : q % 2 * 16;

    igb_update(n, reg, 0xffffu << shift, (q | IGB_IVAR_VALID) << shift);
}

static uint32_t interval(const struct nic *n)
{
    return IGB_EITR_US(n->cfg.irq_us < IGB_EITR_US_MAX ? n->cfg.irq_us : IGB_EITR_US_MAX);
}

void igb_irq_start(const struct nic *n)
{
    const uint32_t other = n->cfg.n_queues;
    uint32_t queues = 0;

    if (!n->irq.msix)
        return;
    igb_write(n, IGB_GPIE, IGB_GPIE_MSIX | IGB_GPIE_PBA | IGB_GPIE_EIAME | IGB_GPIE_NSICR);
    for (uint32_t q = 0; q < n->cfg.n_queues && is_wired(n, q); q++) {
        wire_queue(n, q);
        igb_write(n, IGB_EITR(q), interval(n) | IGB_EITR_CNT_IGNR);
        queues |= 1u << q;
    }
    igb_write(n, IGB_EIAM, queues);
    if (!is_wired(n, other)) {
        igb_write(n, IGB_EIAC, queues);
        return;
    }
    igb_write(n, IGB_EIAC, queues | 1u << other);
    igb_write(n, IGB_IVAR_MISC, (other | IGB_IVAR_VALID) << 8);
    igb_write(n, IGB_IMS, OTHER_CAUSES);
    igb_write(n, IGB_EIMS, 1u << other);
}

/* The cause is still set if a frame came while it was masked, and the message follows: nothing is lost. */
bool igb_irq_arm(struct nic_queue *q)
{
    if (!is_wired(q->nic, q->index))
        return true;
    igb_write(q->nic, IGB_EIMS, 1u << q->index);
    return intel_rx_pending(q);
}

void igb_irq_disarm(struct nic_queue *q)
{
    if (is_wired(q->nic, q->index))
        igb_write(q->nic, IGB_EIMC, 1u << q->index);
}

void igb_irq_other(struct nic *n)
{
    const uint32_t causes = igb_read(n, IGB_ICR);

    if (intel_is_gone(n)) {
        nic_fail(n, 0, BREAK_device_gone, 0);
        return;
    }
    if (causes & IGB_ICR_LSC)
        igb_of(n)->link_changes++;
    if (causes & ERROR_CAUSES)
        nic_fail(n, 0, BREAK_nic_error, causes);
    if (is_wired(n, n->cfg.n_queues))
        igb_write(n, IGB_EIMS, 1u << n->cfg.n_queues);
}
