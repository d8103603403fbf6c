/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_tx.c - see ixgbe.h.  The transmit side, in the order of 4.6.8: the
 * sizes while the arbiter is off, the engine, then each queue.
 */
#include "nic/ixgbe.h"

#include "nic/intel_ring.h"

#define TX_BUFFER_KB 160
/* 4.6.11.3.4: room for one more frame of the longest kind before the next is fetched. */
#define TX_FRAME_KB 10

/* Without DCB and virtualisation one traffic class has all of the packet buffer. */
static void start_sizes(const struct nic *n)
{
    ixgbe_update(n, IXGBE_RTTDCS, 0, IXGBE_RTTDCS_ARBDIS);
    ixgbe_update(n, IXGBE_DTXMXSZRQ, IXGBE_DTXMXSZRQ_MAX, IXGBE_DTXMXSZRQ_MAX);
    ixgbe_write(n, IXGBE_TXPBSIZE(0), IXGBE_TXPBSIZE_KB(TX_BUFFER_KB));
    ixgbe_write(n, IXGBE_TXPBTHRESH(0), TX_BUFFER_KB - TX_FRAME_KB);
    for (uint32_t i = 1; i < 8; i++) {
        ixgbe_write(n, IXGBE_TXPBSIZE(i), 0);
        ixgbe_write(n, IXGBE_TXPBTHRESH(i), 0);
    }
    ixgbe_update(n, IXGBE_MTQC, 0xf, 0);
    ixgbe_update(n, IXGBE_RTTDCS, IXGBE_RTTDCS_ARBDIS, 0);
}

/*
 * Descriptors are fetched ahead up to 32 of them, in bunches of 8; one is written back as soon as it asks (WTHRESH 0),
 * which is what reports rely on (7.2.3.5).  Write-backs must not overtake one another.
 */
static void set_up_queue(const struct nic *n, uint32_t q)
{
    const struct intel_tx *t = n->queue[q].tx;

    ixgbe_write(n, IXGBE_TDBAL(q), (uint32_t)t->iova);
    ixgbe_write(n, IXGBE_TDBAH(q), (uint32_t)(t->iova >> 32));
    ixgbe_write(n, IXGBE_TDLEN(q), t->size * (uint32_t)sizeof(struct intel_desc));
    ixgbe_write(n, IXGBE_TDH(q), 0);
    ixgbe_write(n, IXGBE_TDT(q), 0);
    ixgbe_update(n, IXGBE_DCA_TXCTRL(q), IXGBE_DCA_TXCTRL_DESC_WRO, 0);
    ixgbe_update(n, IXGBE_TXDCTL(q), IXGBE_TXDCTL_THRESHOLDS, IXGBE_TXDCTL_PTHRESH(32) | IXGBE_TXDCTL_HTHRESH(8));
}

int ixgbe_tx_start(struct nic *n)
{
    int rc = 0;

    start_sizes(n);
    for (uint32_t q = 0; q < n->cfg.n_queues; q++)
        set_up_queue(n, q);
    ixgbe_update(n, IXGBE_DMATXCTL, 0, IXGBE_DMATXCTL_TE);
    for (uint32_t q = 0; q < n->cfg.n_queues && rc == 0; q++) {
        ixgbe_update(n, IXGBE_TXDCTL(q), 0, IXGBE_TXDCTL_ENABLE);
        rc = intel_wait(n, IXGBE_TXDCTL(q), IXGBE_TXDCTL_ENABLE, IXGBE_TXDCTL_ENABLE, 100, 100);
    }
    return rc;
}

void ixgbe_tx_progress(const struct nic_queue *q, struct nic_tx_progress *out)
{
    intel_tx_progress(q, IXGBE_TDH(q->index), out);
}
