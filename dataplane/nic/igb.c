/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb.c - driver of the Intel 82576 and of I350, I210 and I211; see nic.h for
 * what it is asked, igb.h for its files.
 *
 * The 82576 has run in QEMU and on a model made from the data sheet
 * (tests/dataplane/nic/igb_model.h).  The others share its registers as far as
 * they are used here, but for IVAR; nobody has met them yet.
 */
#include "nic/igb.h"

#include <errno.h>

#include "base/log.h"
#include "nic/intel_ring.h"

/* 9.5 KiB with tag and FCS: what fits the packet buffer (7.1.1.1; I350 and I210: DTXMXPKTSZ). */
#define FRAME_MAX (9728 - 8)

static const struct nic_id igb_ids[] = {
    { 0x8086, 0x10c9, IGB_82576, "Intel 82576" },
    { 0x8086, 0x10e6, IGB_82576, "Intel 82576 fiber" },
    { 0x8086, 0x10e7, IGB_82576, "Intel 82576 SerDes" },
    { 0x8086, 0x10e8, IGB_82576, "Intel 82576 quad copper" },
    { 0x8086, 0x1526, IGB_82576, "Intel 82576 quad copper ET2" },
    { 0x8086, 0x150a, IGB_82576, "Intel 82576NS" },
    { 0x8086, 0x1518, IGB_82576, "Intel 82576NS SerDes" },
    { 0x8086, 0x150d, IGB_82576, "Intel 82576 quad SerDes" },
    { 0x8086, 0x1521, IGB_I350, "Intel I350 copper" },
    { 0x8086, 0x1522, IGB_I350, "Intel I350 fiber" },
    { 0x8086, 0x1523, IGB_I350, "Intel I350 SerDes" },
    { 0x8086, 0x1524, IGB_I350, "Intel I350 SGMII" },
    { 0x8086, 0x1533, IGB_I210, "Intel I210 copper" },
    { 0x8086, 0x1536, IGB_I210, "Intel I210 fiber" },
    { 0x8086, 0x1537, IGB_I210, "Intel I210 SerDes" },
    { 0x8086, 0x1538, IGB_I210, "Intel I210 SGMII" },
    { 0x8086, 0x1539, IGB_I211, "Intel I211 copper" },
    { 0x8086, 0x157b, IGB_I210, "Intel I210 copper, without flash" },
    { 0x8086, 0x157c, IGB_I210, "Intel I210 SerDes, without flash" },
    { 0 },
};

static int igb_open(struct nic *n)
{
    return intel_open(n, IGB_BAR_SIZE, sizeof(struct igb), igb_reset, IGB_RAL(0));
}

/* Off the bus for good: whatever a queue or the bus did not want to stop, a reset does. */
static void igb_stop(struct nic *n)
{
    struct igb *const g = igb_of(n);

    if (!g)
        return;
    if (g->started) {
        igb_stats_collect(n);
        (void)igb_reset(n);
        igb_update(n, IGB_CTRL_EXT, IGB_CTRL_EXT_DRV_LOAD, 0);
        g->started = false;
    }
    igb_stats_keep(n);
    igb_queues_free(n);
}

/* The order of 4.5. */
static int igb_start(struct nic *n)
{
    int rc;

    if (n->cfg.n_queues > igb_queues(n)) {
        log_error("igb: this adapter has %u pairs of queues, %u are asked for; set fewer queues", igb_queues(n),
                  n->cfg.n_queues);
        return -EINVAL;
    }
    rc = igb_reset(n);
    if (rc < 0)
        return rc;
    igb_of(n)->started = true;
    igb_update(n, IGB_CTRL_EXT, 0, IGB_CTRL_EXT_DRV_LOAD);
    rc = igb_link_start(n);
    igb_stats_clear(n);
    if (rc == 0)
        rc = igb_queues_start(n);
    if (rc < 0) {
        igb_stop(n);
        return rc;
    }
    igb_irq_start(n);
    return 0;
}

static void igb_read_state(struct nic *n, struct us_nic_state *out)
{
    if (intel_is_gone(n))
        nic_fail(n, 0, BREAK_device_gone, 0);
    igb_link_read(n, out);
    igb_stats_read(n, out);
    out->link_changes = igb_of(n)->link_changes;
}

const struct nic_driver igb_driver = {
    .name = "igb",
    .ids = igb_ids,
    .bars = 1u << 0,
    .queues_max = US_QUEUES_MAX,
    .ring_min = INTEL_RING_MIN,
    .ring_max = INTEL_RING_MAX,
    .ring_multiple = INTEL_RING_MULTIPLE,
    .frame_max = FRAME_MAX,
    .pool_size = intel_ring_pool_size,
    .open = igb_open,
    .start = igb_start,
    .stop = igb_stop,
    .close = intel_close,
    .rx_burst = intel_rx_burst,
    .rx_complete = intel_rx_complete,
    .tx_burst = intel_tx_burst,
    .tx_progress = igb_tx_progress,
    .tx_look = intel_tx_look,
    .arm = igb_irq_arm,
    .disarm = igb_irq_disarm,
    .other = igb_irq_other,
    .read = igb_read_state,
};
