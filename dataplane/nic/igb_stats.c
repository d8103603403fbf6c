/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_stats.c - see igb.h.
 *
 * The device's counters are cleared by reading and stop at their maximum
 * (8.19), so reading adds them up here.  A counter of frames is full after
 * 48 minutes of the shortest ones at 1 Gbit/s.
 */
#include "nic/igb.h"

#include <string.h>

#include "nic/intel_ring.h"

/* Every 32-bit counter that is read, and where it is added. */
static const struct {
    uint32_t reg;
    uint32_t counter;
} counters[] = {
    { IGB_GPRC, NIC_COUNTER_rx_packets },
    { IGB_MPC, NIC_COUNTER_rx_missed },
    { IGB_CRCERRS, NIC_COUNTER_rx_crc_errors },
    { IGB_RLEC, NIC_COUNTER_rx_length_errors },
    { IGB_RUC, NIC_COUNTER_rx_length_errors },
    { IGB_RFC, NIC_COUNTER_rx_length_errors },
    { IGB_ROC, NIC_COUNTER_rx_length_errors },
    { IGB_RJC, NIC_COUNTER_rx_length_errors },
    { IGB_ALGNERRC, NIC_COUNTER_rx_errors },
    { IGB_RXERRC, NIC_COUNTER_rx_errors },
    { IGB_MPRC, NIC_COUNTER_rx_multicast },
    { IGB_BPRC, NIC_COUNTER_rx_broadcast },
    { IGB_XONRXC, NIC_COUNTER_rx_pause },
    { IGB_XOFFRXC, NIC_COUNTER_rx_pause },
    { IGB_GPTC, NIC_COUNTER_tx_packets },
    { IGB_ECOL, NIC_COUNTER_tx_errors },
    { IGB_LATECOL, NIC_COUNTER_tx_errors },
    { IGB_MPTC, NIC_COUNTER_tx_multicast },
    { IGB_BPTC, NIC_COUNTER_tx_broadcast },
    { IGB_XONTXC, NIC_COUNTER_tx_pause },
    { IGB_XOFFTXC, NIC_COUNTER_tx_pause },
};

#define N_COUNTERS (sizeof(counters) / sizeof(counters[0]))

static uint64_t read64(const struct nic *n, uint32_t low, uint32_t high)
{
    const uint64_t l = igb_read(n, low);

    return l | (uint64_t)igb_read(n, high) << 32;
}

/* Cleared by reading, on I210 and I211 by writing. */
static uint32_t read_dropped(const struct nic *n, uint32_t q)
{
    const uint32_t dropped = igb_read(n, IGB_RQDPC(q));

    if (n->variant == IGB_I210 || n->variant == IGB_I211)
        igb_write(n, IGB_RQDPC(q), 0);
    return dropped;
}

void igb_stats_collect(struct nic *n)
{
    uint64_t now[NIC_COUNTER_COUNT] = { 0 };

    for (unsigned i = 0; i < N_COUNTERS; i++)
        now[counters[i].counter] += igb_read(n, counters[i].reg);
    for (uint32_t q = 0; q < n->cfg.n_queues; q++)
        now[NIC_COUNTER_rx_missed] += read_dropped(n, q);
    now[NIC_COUNTER_rx_bytes] = read64(n, IGB_GORCL, IGB_GORCH);
    now[NIC_COUNTER_tx_bytes] = read64(n, IGB_GOTCL, IGB_GOTCH);
    /* A device that went away meanwhile told nothing but ones. */
    if (intel_is_gone(n))
        return;
    for (unsigned i = 0; i < NIC_COUNTER_COUNT; i++)
        igb_of(n)->counter[i] += now[i];
}

void igb_stats_clear(const struct nic *n)
{
    for (unsigned i = 0; i < N_COUNTERS; i++)
        (void)igb_read(n, counters[i].reg);
    for (uint32_t q = 0; q < igb_queues(n); q++)
        (void)read_dropped(n, q);
    (void)read64(n, IGB_GORCL, IGB_GORCH);
    (void)read64(n, IGB_GOTCL, IGB_GOTCH);
}

/* What the device has no counters for: the rings', since they were made. */
static void add_rings(const struct nic *n, uint64_t *counter)
{
    for (uint32_t q = 0; q < n->cfg.n_queues; q++) {
        const struct intel_rx *const r = n->queue[q].rx;
        const struct intel_tx *const t = n->queue[q].tx;

        if (!r || !t)
            continue;
        counter[NIC_COUNTER_rx_csum_errors] += __atomic_load_n(&r->csum_errors, __ATOMIC_RELAXED);
        counter[NIC_COUNTER_tx_tso] += __atomic_load_n(&t->tso, __ATOMIC_RELAXED);
    }
}

void igb_stats_keep(struct nic *n)
{
    add_rings(n, igb_of(n)->counter);
}

void igb_stats_read(struct nic *n, struct us_nic_state *out)
{
    igb_stats_collect(n);
    memcpy(out->counter, igb_of(n)->counter, sizeof(igb_of(n)->counter));
    add_rings(n, out->counter);
}
