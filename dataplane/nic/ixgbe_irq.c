/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_irq.c - see ixgbe.h.
 *
 * With MSI-X (7.3.1) vector i is queue i, receive side only - transmit rings
 * are cleaned when the next burst goes out - and vector n_queues everything
 * else.  A queue's cause clears itself when its message is sent (EIAC), and
 * masks itself (EIAM), so that one arm is one interrupt.
 *
 * With one vector alone every cause still has a bit of its own in EICR, but
 * nothing clears or masks itself: arm does it.
 */
#include "nic/ixgbe.h"

/* The link, and an error in the device's memories.  Linux listens to no other error either. */
#define OTHER_CAUSES (IXGBE_EICR_LSC | IXGBE_EICR_ECC)

/* A vector for each queue and one for the rest? */
static bool is_split(const struct nic *n)
{
    return n->irq.msix && n->irq.n > n->cfg.n_queues;
}

/* The queue's bit in EICR, and with MSI-X its vector. */
static uint32_t vector_of(const struct nic *n, uint32_t queue)
{
    return n->irq.msix && !is_split(n) ? 0 : queue;
}

static uint32_t cause_of(const struct nic_queue *q)
{
    return 1u << vector_of(q->nic, q->index);
}

/* IVAR, 8.2.3.5.14: a byte for the receive side of each queue, and one for its transmit side. */
static void wire(const struct nic *n)
{
    for (uint32_t q = 0; q < n->cfg.n_queues; q += 2) {
        uint32_t ivar = vector_of(n, q) | IXGBE_IVAR_VALID;

        if (q + 1 < n->cfg.n_queues)
            ivar |= (vector_of(n, q + 1) | IXGBE_IVAR_VALID) << 16;
        ixgbe_write(n, IXGBE_IVAR(q / 2), ivar);
    }
    ixgbe_write(n, IXGBE_IVAR_MISC, (vector_of(n, n->cfg.n_queues) | IXGBE_IVAR_VALID) << 8);
}

/* EITR, 8.2.3.5.12: nine bits of 2.048 us; a wish that is not zero does not become "no moderation". */
static uint32_t interval(const struct nic *n)
{
    uint64_t units = (uint64_t)n->cfg.irq_us * 1000 / IXGBE_EITR_UNIT_NS;

    if (n->cfg.irq_us && units == 0)
        units = 1;
    if (units > IXGBE_EITR_UNITS_MAX)
        units = IXGBE_EITR_UNITS_MAX;
    return IXGBE_EITR_INTERVAL((uint32_t)units);
}

void ixgbe_irq_start(struct nic *n)
{
    const uint32_t queues = (1u << n->cfg.n_queues) - 1;

    wire(n);
    ixgbe_write(n, IXGBE_GPIE,
                n->irq.msix ? IXGBE_GPIE_MSIX | IXGBE_GPIE_PBA | IXGBE_GPIE_EIAME | IXGBE_GPIE_OCD : 0);
    for (uint32_t q = 0; q < n->cfg.n_queues; q++)
        ixgbe_write(n, IXGBE_EITR(q), interval(n) | IXGBE_EITR_CNT_WDIS);
    ixgbe_write(n, IXGBE_EIAC, is_split(n) ? queues : 0);
    ixgbe_write(n, IXGBE_EIAM, is_split(n) ? queues : 0);
    ixgbe_write(n, IXGBE_EICR, ~0u);
}

/* Without any vector an interrupt would be a line that nobody serves. */
void ixgbe_irq_enable_other(struct nic *n)
{
    if (n->irq.n)
        ixgbe_write(n, IXGBE_EIMS, OTHER_CAUSES);
}

/*
 * The driver looks at the ring afterwards.  With a vector of its own the cause is still set if a frame came before the
 * mask was off, and the interrupt follows.  Else what is old is cleared first, and the read makes sure that both
 * writes have arrived before anybody looks.
 */
void ixgbe_irq_arm(struct nic_queue *q)
{
    struct nic *n = q->nic;

    if (n->irq.n == 0)
        return;
    if (is_split(n)) {
        ixgbe_write(n, IXGBE_EIMS, cause_of(q));
        return;
    }
    ixgbe_write(n, IXGBE_EICR, cause_of(q));
    ixgbe_write(n, IXGBE_EIMS, cause_of(q));
    (void)ixgbe_read(n, IXGBE_STATUS);
}

/* A cause that queues share stays enabled: another one's worker may be asleep. */
void ixgbe_irq_disarm(struct nic_queue *q)
{
    if (is_split(q->nic) || !q->nic->irq.msix || q->nic->cfg.n_queues == 1)
        ixgbe_write(q->nic, IXGBE_EIMC, cause_of(q));
}

/*
 * With OCD reading clears the "other" causes alone; without it (one vector, no MSI-X) it takes the queues' along, which
 * are put back.  A change of the link needs no more than that: nic_port.c reads the state anew.  Flow director
 * exceptions and the rest of EICR are neither enabled nor looked at.
 */
void ixgbe_irq_other(struct nic *n)
{
    const uint32_t causes = ixgbe_read(n, IXGBE_EICR);

    if (nic_is_gone(causes) && intel_is_gone(n)) {
        nic_fail(n, 0, BREAK_device_gone, 0);
        return;
    }
    if (!n->irq.msix && (causes & IXGBE_EICR_QUEUES))
        ixgbe_write(n, IXGBE_EICS, causes & IXGBE_EICR_QUEUES);
    if (causes & IXGBE_EICR_ECC) {
        nic_fail(n, 0, BREAK_nic_error, causes);
        return;
    }
    ixgbe_irq_enable_other(n);
}
