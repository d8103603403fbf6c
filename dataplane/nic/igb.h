/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb.h - what the files of the igb driver share; nobody else includes it.
 *
 *   igb.c         table of devices, life: open, start, stop, close
 *   igb_reset.c   waiting, quiescing, reset
 *   igb_phy.c     firmware semaphore, PHY, link
 *   igb_queue.c   receive and transmit units and queues
 *   igb_irq.c     vectors, moderation, the "everything else" vector
 *   igb_stats.c   counters
 *
 * Control thread unless a function says worker.
 */
#ifndef USWITCH_NIC_IGB_H
#define USWITCH_NIC_IGB_H

#include "nic/igb_regs.h"
#include "nic/intel_device.h"
#include "nic/nic.h"
#include "nic/nic_counter.h"

/* nic_id.variant: the device's generation. */
enum igb_variant {
    IGB_82576,
    IGB_I350,
    IGB_I210,
    IGB_I211,
};

/**
 * struct igb - nic->priv
 * @counter: hardware counters so far, index enum nic_counter
 * @link_changes: "link status change" causes seen
 * @started: between start and stop
 */
struct igb {
    uint64_t counter[NIC_COUNTER_COUNT];
    uint32_t link_changes;
    bool started;
};

static inline struct igb *igb_of(struct nic *n)
{
    return n->priv;
}

static inline uint32_t igb_read(const struct nic *n, uint32_t reg)
{
    return bar_read32(&n->bar[0], reg);
}

static inline void igb_write(const struct nic *n, uint32_t reg, uint32_t value)
{
    bar_write32(&n->bar[0], reg, value);
}

/* Change some bits of a register; reserved ones are written as they were read. */
static inline void igb_update(const struct nic *n, uint32_t reg, uint32_t clear, uint32_t set)
{
    igb_write(n, reg, (igb_read(n, reg) & ~clear) | set);
}

/* ---- igb_reset.c ---- */

/* Switch a queue off, by its RXDCTL or TXDCTL, and wait until it is. */
void igb_stop_queue(const struct nic *n, uint32_t dctl);

/* Pairs of queues that the device has. */
uint32_t igb_queues(const struct nic *n);

/*
 * From anything, queues running and bus busy included, to the state after reset: interrupts masked, EEPROM loaded
 * (4.5.3).  0 or -EIO; quiet in either case, unless the device does not answer.
 */
int igb_reset(struct nic *n);

/* ---- igb_phy.c ---- */

/* Start negotiating, once after a reset (4.5.7).  The link comes up by itself, later. 0 or -EIO. */
int igb_link_start(const struct nic *n);
/* Link and speed, into the state. */
void igb_link_read(const struct nic *n, struct us_nic_state *out);

/* ---- igb_queue.c ---- */

/* After reset: rings, queues, filters, and both units on. 0 or -errno. */
int igb_queues_start(struct nic *n);
void igb_queues_free(struct nic *n);

/* nic_driver.tx_progress */
void igb_tx_progress(const struct nic_queue *q, struct nic_tx_progress *out);

/* ---- igb_irq.c ---- */

/* Wire and moderate; enables the "everything else" vector only. */
void igb_irq_start(const struct nic *n);
/* Worker. */
bool igb_irq_arm(struct nic_queue *q);
void igb_irq_disarm(struct nic_queue *q);
void igb_irq_other(struct nic *n);

/* ---- igb_stats.c ---- */

/* Clear the device's counters, without adding them up. */
void igb_stats_clear(const struct nic *n);
/* Add what the device has counted since the last time; nothing if it is gone. */
void igb_stats_collect(struct nic *n);
/* Add what the rings have counted, before they are freed. */
void igb_stats_keep(struct nic *n);
void igb_stats_read(struct nic *n, struct us_nic_state *out);

#endif /* USWITCH_NIC_IGB_H */
