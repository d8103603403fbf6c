/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe.h - what the files of the ixgbe driver share; nobody else includes it.
 *
 *   ixgbe.c        table of devices, life: open, start, stop, close
 *   ixgbe_reset.c  waiting, firmware semaphore, quiescing, reset
 *   ixgbe_rx.c     receive unit and queues
 *   ixgbe_tx.c     transmit unit and queues
 *   ixgbe_rsc.c    frames that the device joined, ixgbe_rsc_request.c their headers
 *   ixgbe_irq.c    vectors, moderation, the "everything else" vector
 *   ixgbe_link.c   link
 *   ixgbe_stats.c  counters
 *
 * Control thread unless a function says worker.
 */
#ifndef USWITCH_NIC_IXGBE_H
#define USWITCH_NIC_IXGBE_H

#include "nic/ixgbe_regs.h"
#include "nic/intel_device.h"
#include "nic/ixgbe_rsc.h"
#include "nic/nic.h"
#include "nic/nic_counter.h"

/* What nic_id.variant tells: the device's generation, and for the first one its medium. */
enum ixgbe_variant {
    IXGBE_82599_SFP,
    IXGBE_82599_BACKPLANE,
    IXGBE_X540,
    IXGBE_X550,
};

/**
 * struct ixgbe - nic->priv
 * @counter: hardware counters so far, index enum nic_counter
 * @started: queues may be on
 * @double_reset: the last master disable timed out: the next reset must be two (5.2.5.3.2)
 * @rsc: the device joins received segments (workers read it, changed while there are none)
 * @joined: where that stands, by queue
 */
struct ixgbe {
    uint64_t counter[NIC_COUNTER_COUNT];
    bool started;
    bool double_reset;
    bool rsc;
    struct ixgbe_rsc joined[US_QUEUES_MAX];
};

static inline struct ixgbe *ixgbe_of(struct nic *n)
{
    return n->priv;
}

static inline const struct bar *ixgbe_bar(const struct nic *n)
{
    return &n->bar[0];
}

static inline uint32_t ixgbe_read(const struct nic *n, uint32_t reg)
{
    return bar_read32(&n->bar[0], reg);
}

static inline void ixgbe_write(const struct nic *n, uint32_t reg, uint32_t value)
{
    bar_write32(&n->bar[0], reg, value);
}

/* Change some bits of a register, keep the others: 8.1.1.2 wants reserved bits written as they were read. */
static inline void ixgbe_update(const struct nic *n, uint32_t reg, uint32_t clear, uint32_t set)
{
    ixgbe_write(n, reg, (ixgbe_read(n, reg) & ~clear) | set);
}

/* ---- ixgbe_reset.c ---- */

/**
 * ixgbe_lock() - take resources that firmware uses as well (10.5.4)
 * @n: device
 * @resources: IXGBE_SW_FW_*
 *
 * Waits a second at most, then takes what a dead owner left locked; never fails for good.  Pairs with ixgbe_unlock().
 */
void ixgbe_lock(const struct nic *n, uint32_t resources);
void ixgbe_unlock(const struct nic *n, uint32_t resources);

/*
 * From anything, queues running and bus busy included, to the state after reset: interrupts masked, EEPROM loaded, DMA
 * initialised (4.6.3).  0 or -EIO; quiet in either case, unless the device does not answer.
 */
int ixgbe_reset(struct nic *n);

/* ---- ixgbe_link.c ---- */

/* Start negotiating, once after a reset (4.6.4).  The link comes up by itself, later. */
void ixgbe_link_start(struct nic *n);
/* Link and speed, into the state. */
void ixgbe_link_read(struct nic *n, struct us_nic_state *out);

/* ---- ixgbe_rx.c, ixgbe_tx.c ---- */

/* After reset, queues off: the unit as a whole, then each queue. 0 or -errno. */
int ixgbe_rx_start(struct nic *n);
int ixgbe_tx_start(struct nic *n);
/* nic_driver.tx_progress */
void ixgbe_tx_progress(const struct nic_queue *q, struct nic_tx_progress *out);

/* ---- ixgbe_irq.c ---- */

/* Wire and moderate; nothing is enabled yet. */
void ixgbe_irq_start(struct nic *n);
/* Enable the "everything else" vector. */
void ixgbe_irq_enable_other(struct nic *n);
/* Worker.  Look at the ring after arming: what came before needs no interrupt to be seen. */
void ixgbe_irq_arm(struct nic_queue *q);
void ixgbe_irq_disarm(struct nic_queue *q);
/* nic_driver.other */
void ixgbe_irq_other(struct nic *n);

/* ---- ixgbe_stats.c ---- */

/* Clear the device's counters, without adding them up. */
void ixgbe_stats_clear(struct nic *n);
/* Remember what the rings have counted, before they are freed. */
void ixgbe_stats_keep(struct nic *n);
/* Add what the device has counted since the last time. */
void ixgbe_stats_collect(struct nic *n);
/* The same, and tell. */
void ixgbe_stats_read(struct nic *n, struct us_nic_state *out);

#endif /* USWITCH_NIC_IXGBE_H */
