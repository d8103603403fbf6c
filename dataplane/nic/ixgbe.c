/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe.c - driver of the Intel 82599 (X520) and of X540 and X550; see nic.h
 * for what it is asked, ixgbe.h for its files.
 *
 * NOT PROVEN ON HARDWARE.  There is no emulator of these adapters; the driver
 * has run on a model of the device made from the data sheet (tests/dataplane/
 * nic/ixgbe_model.h), which checks order, alignment and reserved bits.  What
 * a model cannot tell: whether the link comes up on a given module or
 * backplane, settling times, silicon errata, what firmware does beside.
 *
 * The X550's EM siblings (0x15aa and up, parts of a SoC) have another way to
 * a link and are not in the table, neither is the 82598.
 */
#include "nic/ixgbe.h"

#include <errno.h>
#include <string.h>

#include "nic/intel_ring.h"
#include "nic/ixgbe_rsc.h"

/* Linux' limit, 9.5 KiB with FCS and tag; the packet buffer's thresholds are made for it. */
#define FRAME_MAX (9728 - 4)
/* The timer of coalescing is 4 us and must end before the interrupt's (7.3.2.1.1). */
#define RSC_IRQ_US_MIN 8

static const struct nic_id ixgbe_ids[] = {
    { 0x8086, 0x10fb, IXGBE_82599_SFP, "Intel 82599 SFP+ (X520)" },
    { 0x8086, 0x1507, IXGBE_82599_SFP, "Intel 82599 SFP+ mezzanine" },
    { 0x8086, 0x1529, IXGBE_82599_SFP, "Intel 82599 SFP+ FCoE" },
    { 0x8086, 0x154a, IXGBE_82599_SFP, "Intel X520-4" },
    { 0x8086, 0x154d, IXGBE_82599_SFP, "Intel X520-2" },
    { 0x8086, 0x1557, IXGBE_82599_SFP, "Intel 82599EN SFP+ (X520-1)" },
    { 0x8086, 0x10f7, IXGBE_82599_BACKPLANE, "Intel 82599 KX4" },
    { 0x8086, 0x1514, IXGBE_82599_BACKPLANE, "Intel 82599 KX4 mezzanine" },
    { 0x8086, 0x1517, IXGBE_82599_BACKPLANE, "Intel 82599 KR" },
    { 0x8086, 0x10f8, IXGBE_82599_BACKPLANE, "Intel 82599 backplane" },
    { 0x8086, 0x152a, IXGBE_82599_BACKPLANE, "Intel 82599 backplane FCoE" },
    { 0x8086, 0x10f9, IXGBE_82599_BACKPLANE, "Intel 82599 CX4" },
    { 0x8086, 0x10fc, IXGBE_82599_BACKPLANE, "Intel 82599 XAUI" },
    { 0x8086, 0x1528, IXGBE_X540, "Intel X540-AT2" },
    { 0x8086, 0x1560, IXGBE_X540, "Intel X540-AT1" },
    { 0x8086, 0x1563, IXGBE_X550, "Intel X550-T2" },
    { 0x8086, 0x15d1, IXGBE_X550, "Intel X550-T1" },
    { 0 },
};

/* 7.1.6.2: where the 82599 differs from the 82576. */
static const struct intel_kind ixgbe_kind = {
    .rx_l4_checked = INTEL_RX_L4CS,
    .rx_l4_wrong = 1u << 30,            /* TCPE */
    .rx_ip_wrong = 1u << 31,            /* IPE */
    .rx_damaged = 1u << 29,             /* RXE; only ever set where bad frames are stored */
};

/* ---- life ---- */

static int ixgbe_open(struct nic *n)
{
    return intel_open(n, IXGBE_BAR_SIZE, sizeof(struct ixgbe), ixgbe_reset, IXGBE_RAL(0));
}

/* 4.6.3.2: flow control is off unless all of its registers say otherwise, and reset does not touch them all. */
static void clear_flow_control(const struct nic *n)
{
    for (uint32_t i = 0; i < 8; i++) {
        if (i < 4)
            ixgbe_write(n, IXGBE_FCTTV(i), 0);
        ixgbe_write(n, IXGBE_FCRTL(i), 0);
        ixgbe_write(n, IXGBE_FCRTH(i), 0);
    }
    ixgbe_write(n, IXGBE_FCRTV, 0);
    ixgbe_write(n, IXGBE_FCCFG, 0);
    ixgbe_write(n, IXGBE_MFLCN, 0);
}

static int create_rings(struct nic *n)
{
    struct ixgbe *x = ixgbe_of(n);
    int rc = 0;

    x->rsc = n->cfg.lro && n->cfg.irq_us >= RSC_IRQ_US_MIN;
    for (uint32_t q = 0; q < n->cfg.n_queues && rc == 0; q++) {
        rc = intel_ring_create(&n->queue[q], &ixgbe_kind, IXGBE_RDT(q), IXGBE_TDT(q));
        if (rc == 0 && x->rsc)
            rc = ixgbe_rsc_create(&x->joined[q], n->cfg.ring_size);
    }
    return rc;
}

static void destroy_rings(struct nic *n)
{
    ixgbe_stats_keep(n);
    for (uint32_t q = 0; q < US_QUEUES_MAX; q++) {
        intel_ring_destroy(&n->queue[q]);
        ixgbe_rsc_destroy(&ixgbe_of(n)->joined[q]);
    }
}

/* Off the bus for good: whatever a queue or the bus did not want to stop, a reset does. */
static void ixgbe_stop(struct nic *n)
{
    struct ixgbe *x = ixgbe_of(n);

    if (!x)
        return;
    if (x->started) {
        ixgbe_stats_collect(n);
        (void)ixgbe_reset(n);
        ixgbe_update(n, IXGBE_CTRL_EXT, IXGBE_CTRL_EXT_DRV_LOAD, 0);
        x->started = false;
    }
    destroy_rings(n);
}

/* The order of 4.6.3. */
static int ixgbe_start(struct nic *n)
{
    int rc = create_rings(n);

    if (rc == 0)
        rc = ixgbe_reset(n);
    if (rc < 0) {
        destroy_rings(n);
        return rc;
    }
    ixgbe_of(n)->started = true;
    ixgbe_update(n, IXGBE_CTRL_EXT, 0, IXGBE_CTRL_EXT_DRV_LOAD);
    clear_flow_control(n);
    ixgbe_link_start(n);
    ixgbe_stats_clear(n);
    ixgbe_irq_start(n);         /* before the queues: coalescing needs its timer */
    rc = ixgbe_rx_start(n);
    if (rc == 0)
        rc = ixgbe_tx_start(n);
    if (rc < 0) {
        ixgbe_stop(n);
        return rc;
    }
    ixgbe_irq_enable_other(n);
    return 0;
}

/* ---- worker ---- */

static unsigned ixgbe_rx_burst(struct nic_queue *q, struct burst *b)
{
    return ixgbe_of(q->nic)->rsc ? ixgbe_rsc_burst(q, b) : intel_rx_burst(q, b);
}

static void ixgbe_rx_complete(struct nic_queue *q, struct burst *b)
{
    if (ixgbe_of(q->nic)->rsc)
        ixgbe_rsc_complete(q, b);
    else
        intel_rx_complete(q, b);
}

static bool ixgbe_arm(struct nic_queue *q)
{
    ixgbe_irq_arm(q);
    return ixgbe_of(q->nic)->rsc ? ixgbe_rsc_pending(q) : intel_rx_pending(q);
}

/* ---- state ---- */

static void ixgbe_read_state(struct nic *n, struct us_nic_state *out)
{
    ixgbe_link_read(n, out);
    ixgbe_stats_read(n, out);
}

const struct nic_driver ixgbe_driver = {
    .name = "ixgbe",
    .ids = ixgbe_ids,
    .bars = 1u << 0,
    .queues_max = US_QUEUES_MAX,
    .ring_min = INTEL_RING_MIN,
    .ring_max = INTEL_RING_MAX,
    .ring_multiple = INTEL_RING_MULTIPLE,
    .frame_max = FRAME_MAX,
    .pool_size = intel_ring_pool_size,
    .open = ixgbe_open,
    .start = ixgbe_start,
    .stop = ixgbe_stop,
    .close = intel_close,
    .rx_burst = ixgbe_rx_burst,
    .rx_complete = ixgbe_rx_complete,
    .tx_burst = intel_tx_burst,
    .tx_progress = ixgbe_tx_progress,
    .tx_look = intel_tx_look,
    .arm = ixgbe_arm,
    .disarm = ixgbe_irq_disarm,
    .other = ixgbe_irq_other,
    .read = ixgbe_read_state,
};
