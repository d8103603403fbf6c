/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_stats.c - see ixgbe.h.
 *
 * The device's counters are cleared by reading and stop at their maximum (8.2.3.23), so reading adds them up here.
 * At 10 Gbit/s a counter of bytes, 36 bits, is full after 55 seconds: who wants exact figures reads more often.
 */
#include "nic/ixgbe.h"

#include <string.h>

#include "nic/intel_ring.h"

/* Every 32-bit counter that is read, and where it is added. */
static const struct {
    uint32_t reg;
    uint32_t counter;
} counters[] = {
    { IXGBE_GPRC, NIC_COUNTER_rx_packets },
    { IXGBE_MPC(0), NIC_COUNTER_rx_missed },    /* one packet buffer is all there is, see ixgbe_rx.c */
    { IXGBE_QPRDC(0), NIC_COUNTER_rx_missed },  /* after reset all queues count in the first one (RQSMR) */
    { IXGBE_CRCERRS, NIC_COUNTER_rx_crc_errors },
    { IXGBE_RLEC, NIC_COUNTER_rx_length_errors },
    { IXGBE_RUC, NIC_COUNTER_rx_length_errors },
    { IXGBE_RFC, NIC_COUNTER_rx_length_errors },
    { IXGBE_ROC, NIC_COUNTER_rx_length_errors },
    { IXGBE_RJC, NIC_COUNTER_rx_length_errors },
    { IXGBE_ILLERRC, NIC_COUNTER_rx_errors },
    { IXGBE_ERRBC, NIC_COUNTER_rx_errors },
    { IXGBE_MPRC, NIC_COUNTER_rx_multicast },
    { IXGBE_BPRC, NIC_COUNTER_rx_broadcast },
    { IXGBE_LXONRXCNT, NIC_COUNTER_rx_pause },
    { IXGBE_LXOFFRXCNT, NIC_COUNTER_rx_pause },
    { IXGBE_GPTC, NIC_COUNTER_tx_packets },
    { IXGBE_MPTC, NIC_COUNTER_tx_multicast },
    { IXGBE_BPTC, NIC_COUNTER_tx_broadcast },
    { IXGBE_LXONTXC, NIC_COUNTER_tx_pause },
    { IXGBE_LXOFFTXC, NIC_COUNTER_tx_pause },
    { IXGBE_XEC, NIC_COUNTER_rx_csum_errors },
};

#define N_COUNTERS (sizeof(counters) / sizeof(counters[0]))

/* A 36-bit counter: the low word first, reading the high one clears both (8.2.3.23.25, 8.2.3.23.27). */
static uint64_t read36(const struct nic *n, uint32_t low, uint32_t high)
{
    const uint64_t l = ixgbe_read(n, low);

    return l | (uint64_t)(ixgbe_read(n, high) & 0xf) << 32;
}

void ixgbe_stats_collect(struct nic *n)
{
    uint64_t now[NIC_COUNTER_COUNT] = { 0 };

    for (unsigned i = 0; i < N_COUNTERS; i++)
        now[counters[i].counter] += ixgbe_read(n, counters[i].reg);
    now[NIC_COUNTER_rx_bytes] = read36(n, IXGBE_GORCL, IXGBE_GORCH);
    now[NIC_COUNTER_tx_bytes] = read36(n, IXGBE_GOTCL, IXGBE_GOTCH);
    /* A device that went away meanwhile told nothing but ones. */
    if (intel_is_gone(n))
        return;
    for (unsigned i = 0; i < NIC_COUNTER_COUNT; i++)
        ixgbe_of(n)->counter[i] += now[i];
}

/* What the rings have counted, since they were made. */
static uint64_t count_tso(const struct nic *n)
{
    uint64_t sum = 0;

    for (uint32_t q = 0; q < n->cfg.n_queues; q++) {
        const struct intel_tx *t = n->queue[q].tx;

        sum += t ? __atomic_load_n(&t->tso, __ATOMIC_RELAXED) : 0;
    }
    return sum;
}

void ixgbe_stats_keep(struct nic *n)
{
    ixgbe_of(n)->counter[NIC_COUNTER_tx_tso] += count_tso(n);
}

void ixgbe_stats_clear(struct nic *n)
{
    for (unsigned i = 0; i < N_COUNTERS; i++)
        (void)ixgbe_read(n, counters[i].reg);
    (void)read36(n, IXGBE_GORCL, IXGBE_GORCH);
    (void)read36(n, IXGBE_GOTCL, IXGBE_GOTCH);
}

void ixgbe_stats_read(struct nic *n, struct us_nic_state *out)
{
    ixgbe_stats_collect(n);
    memcpy(out->counter, ixgbe_of(n)->counter, sizeof(ixgbe_of(n)->counter));
    out->counter[NIC_COUNTER_tx_tso] += count_tso(n);
    out->counter[NIC_COUNTER_tx_errors] = US_NIC_COUNTER_NONE;  /* there is no such counter */
}
