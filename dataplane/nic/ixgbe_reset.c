/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_reset.c - see ixgbe.h.
 *
 * Every wait is bounded.  A device that is gone reads as all ones (nic.h) and
 * ends a wait at once; writes to it go nowhere and are not worth a check.
 */
#include "nic/ixgbe.h"

#include <errno.h>

/* 4.6.3.2: at least 10 ms from a reset to the first initialisation; what the field waits, for firmware's sake. */
#define RESET_SETTLE_US 50000
/* 5.2.5.3.2: requests on their way take 80 ms at most where completions time out as they should. */
#define MASTER_STEP_US 100
#define MASTER_STEPS 800
/* Queues that are switched off before a reset: more than are ever used here. */
#define QUEUES_ALL 16

/* ---- firmware semaphore, 10.5.4 ---- */

static bool has_regsmp(const struct nic *n)
{
    return n->variant == IXGBE_X540 || n->variant == IXGBE_X550;
}

/*
 * The lock around SW_FW_SYNC: SMBI among drivers (reading sets it: whoever reads 0 has it), then SWESMBI, or REGSMP
 * on the X540 and X550, against firmware.  An owner that died is run over, as the data sheet says.
 */
static void sync_begin(const struct nic *n)
{
    (void)intel_wait(n, IXGBE_SWSM, IXGBE_SWSM_SMBI, 0, 50, 2000);
    if (has_regsmp(n)) {
        (void)intel_wait(n, IXGBE_SW_FW_SYNC, IXGBE_SW_FW_REGSMP, 0, 50, 2000);
        return;
    }
    for (unsigned i = 0; i < 2000; i++) {
        ixgbe_update(n, IXGBE_SWSM, 0, IXGBE_SWSM_SWESMBI);
        if (ixgbe_read(n, IXGBE_SWSM) & IXGBE_SWSM_SWESMBI)
            return;
        intel_sleep_us(50);
    }
}

static void sync_end(const struct nic *n)
{
    if (has_regsmp(n))
        ixgbe_update(n, IXGBE_SW_FW_SYNC, IXGBE_SW_FW_REGSMP, 0);
    ixgbe_update(n, IXGBE_SWSM, IXGBE_SWSM_SMBI | IXGBE_SWSM_SWESMBI, 0);
}

void ixgbe_lock(const struct nic *n, uint32_t resources)
{
    const uint32_t by_firmware = resources << IXGBE_SW_FW_TO_FW;

    for (unsigned i = 0; i < 200; i++) {
        uint32_t sync;

        sync_begin(n);
        sync = ixgbe_read(n, IXGBE_SW_FW_SYNC);
        if (nic_is_gone(sync))
            return;
        if (!(sync & (resources | by_firmware)) || i == 199) {
            ixgbe_write(n, IXGBE_SW_FW_SYNC, sync | resources);
            sync_end(n);
            return;
        }
        sync_end(n);
        intel_sleep_us(5000);
    }
}

void ixgbe_unlock(const struct nic *n, uint32_t resources)
{
    sync_begin(n);
    ixgbe_update(n, IXGBE_SW_FW_SYNC, resources, 0);
    sync_end(n);
}

/* ---- quiet ---- */

static void mask_interrupts(const struct nic *n)
{
    ixgbe_write(n, IXGBE_EIMC, ~0u);
    (void)ixgbe_read(n, IXGBE_EICR);    /* clears what is pending, and flushes the write */
}

/* 4.6.8.1.2: let what is queued go out, for a while; then off, and wait until it is. */
static void stop_tx_queue(const struct nic *n, uint32_t q)
{
    uint32_t head = 0;
    uint32_t tail = 1;

    if (!(ixgbe_read(n, IXGBE_TXDCTL(q)) & IXGBE_TXDCTL_ENABLE))
        return;
    for (unsigned i = 0; i < 100 && head != tail; i++) {
        head = ixgbe_read(n, IXGBE_TDH(q));
        tail = ixgbe_read(n, IXGBE_TDT(q));
        if (head != tail)
            intel_sleep_us(100);
    }
    ixgbe_update(n, IXGBE_TXDCTL(q), IXGBE_TXDCTL_ENABLE, 0);
    (void)intel_wait(n, IXGBE_TXDCTL(q), IXGBE_TXDCTL_ENABLE, 0, 100, 100);
}

static void stop_rx_queue(const struct nic *n, uint32_t q)
{
    if (!(ixgbe_read(n, IXGBE_RXDCTL(q)) & IXGBE_RXDCTL_ENABLE))
        return;
    ixgbe_update(n, IXGBE_RXDCTL(q), IXGBE_RXDCTL_ENABLE, 0);
    (void)intel_wait(n, IXGBE_RXDCTL(q), IXGBE_RXDCTL_ENABLE, 0, 100, 100);
}

/*
 * No new requests to the bus, and those on their way done.  If that takes too long the data path is flushed:
 * loopback keeps what is left from going out meanwhile.  (82599 specification update, "Master Disable Flow".)
 */
static void disable_master(struct nic *n)
{
    ixgbe_update(n, IXGBE_CTRL, 0, IXGBE_CTRL_GIO_DIS);
    if (intel_wait(n, IXGBE_STATUS, IXGBE_STATUS_GIO, 0, MASTER_STEP_US, MASTER_STEPS) != -ETIMEDOUT)
        return;
    ixgbe_of(n)->double_reset = true;
    ixgbe_update(n, IXGBE_HLREG0, 0, IXGBE_HLREG0_LPBK);
    (void)ixgbe_read(n, IXGBE_STATUS);
    intel_sleep_us(3000);
    ixgbe_update(n, IXGBE_GCR_EXT, 0, IXGBE_GCR_EXT_BUFFERS_CLEAR);
    (void)ixgbe_read(n, IXGBE_STATUS);
    intel_sleep_us(20);
    ixgbe_update(n, IXGBE_GCR_EXT, IXGBE_GCR_EXT_BUFFERS_CLEAR, 0);
    ixgbe_update(n, IXGBE_HLREG0, IXGBE_HLREG0_LPBK, 0);
}

/* Interrupts, queues and DMA, in the order of 4.6.7.1.2, 4.6.8.1.2 and 5.2.5.3.2, whoever left them on. */
static void quiesce(struct nic *n)
{
    mask_interrupts(n);
    ixgbe_update(n, IXGBE_RXCTRL, IXGBE_RXCTRL_RXEN, 0);
    for (uint32_t q = 0; q < QUEUES_ALL; q++) {
        stop_tx_queue(n, q);
        stop_rx_queue(n, q);
    }
    intel_sleep_us(100);        /* 4.6.7.1.2: before the memory of a ring is used for something else */
    disable_master(n);
}

/* ---- reset ---- */

/*
 * The 82599 resets MAC and link together; X540 and X550 leave the link, whose PHY is firmware's, alone, and firmware
 * must not be at it meanwhile.
 */
static int reset_once(const struct nic *n)
{
    const bool copper = has_regsmp(n);
    const uint32_t bits = IXGBE_CTRL_RST | (copper ? 0 : IXGBE_CTRL_LRST);
    const uint32_t phy = IXGBE_SW_FW_PHY(IXGBE_STATUS_LAN_ID(ixgbe_read(n, IXGBE_STATUS)) & 1);
    int rc;

    if (copper)
        ixgbe_lock(n, phy);
    ixgbe_update(n, IXGBE_CTRL, 0, bits);
    if (copper)
        ixgbe_unlock(n, phy);
    rc = intel_wait(n, IXGBE_CTRL, bits, 0, 1000, 100);
    intel_sleep_us(RESET_SETTLE_US);
    return rc;
}

int ixgbe_reset(struct nic *n)
{
    struct ixgbe *x = ixgbe_of(n);
    uint32_t port;
    int rc;

    if (intel_is_gone(n))
        return -EIO;
    quiesce(n);
    rc = reset_once(n);
    if (rc == 0 && x->double_reset)
        rc = reset_once(n);
    x->double_reset = false;
    if (rc < 0)
        return -EIO;
    mask_interrupts(n);
    port = IXGBE_STATUS_LAN_ID(ixgbe_read(n, IXGBE_STATUS)) & 1;
    if (intel_wait(n, IXGBE_EEC, IXGBE_EEC_ARD, IXGBE_EEC_ARD, 1000, 100) < 0)
        return -EIO;
    /* Firmware that manages nothing may never say so; then there is nothing to wait for. */
    (void)intel_wait(n, IXGBE_EEMNGCTL, IXGBE_EEMNGCTL_CFG_DONE(port), IXGBE_EEMNGCTL_CFG_DONE(port), 1000, 100);
    if (intel_wait(n, IXGBE_RDRXCTL, IXGBE_RDRXCTL_DMAIDONE, IXGBE_RDRXCTL_DMAIDONE, 1000, 100) < 0)
        return -EIO;
    return 0;
}
