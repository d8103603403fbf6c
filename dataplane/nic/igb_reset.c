/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_reset.c - see igb.h.
 *
 * Every wait is bounded.  A device that is gone reads as all ones (nic.h) and
 * ends a wait at once; writes to it go nowhere and are not worth a check.
 */
#include "nic/igb.h"

#include <errno.h>

#define WAIT_STEP_US 100
#define QUEUE_STEPS 100
/* 5.2.3.3: requests on their way take 80 ms at most. */
#define MASTER_STEPS 800
#define RESET_SETTLE_US 5000
#define RESET_STEP_US 1000
#define RESET_STEPS 100
#define EEPROM_STEPS 20

uint32_t igb_queues(const struct nic *n)
{
    switch (n->variant) {
    case IGB_82576:
        return 16;
    case IGB_I350:
        return 8;
    case IGB_I210:
        return 4;
    default:
        return 2;
    }
}

static void mask_interrupts(const struct nic *n)
{
    igb_write(n, IGB_EIMC, ~0u);
    igb_write(n, IGB_IMC, ~0u);
    (void)igb_read(n, IGB_ICR);     /* clears what is pending, and flushes the writes */
}

/* A queue that does not stop is stopped by the bus, or by the reset that follows. */
void igb_stop_queue(const struct nic *n, uint32_t dctl)
{
    if (!(igb_read(n, dctl) & IGB_DCTL_ENABLE))
        return;
    igb_update(n, dctl, IGB_DCTL_ENABLE, 0);
    (void)intel_wait(n, dctl, IGB_DCTL_ENABLE, 0, WAIT_STEP_US, QUEUE_STEPS);
}

/* Interrupts, queues and DMA, whoever left them on. */
static void quiesce(const struct nic *n)
{
    mask_interrupts(n);
    igb_update(n, IGB_RCTL, IGB_RCTL_EN, 0);
    igb_update(n, IGB_TCTL, IGB_TCTL_EN, 0);
    for (uint32_t q = 0; q < igb_queues(n); q++) {
        igb_stop_queue(n, IGB_TXDCTL(q));
        igb_stop_queue(n, IGB_RXDCTL(q));
    }
    igb_update(n, IGB_CTRL, 0, IGB_CTRL_GIO_DIS);
    (void)intel_wait(n, IGB_STATUS, IGB_STATUS_GIO, 0, WAIT_STEP_US, MASTER_STEPS);
}

int igb_reset(struct nic *n)
{
    uint32_t port;

    if (intel_is_gone(n))
        return -EIO;
    quiesce(n);
    igb_update(n, IGB_CTRL, 0, IGB_CTRL_RST);
    intel_sleep_us(RESET_SETTLE_US);
    if (intel_wait(n, IGB_CTRL, IGB_CTRL_RST, 0, RESET_STEP_US, RESET_STEPS) < 0)
        return -EIO;
    /* Without an EEPROM, and in QEMU, it never says so: then the address that is read tells. */
    if (intel_wait(n, IGB_EECD, IGB_EECD_ARD, IGB_EECD_ARD, RESET_STEP_US, EEPROM_STEPS) == -EIO)
        return -EIO;
    mask_interrupts(n);
    /* Firmware that manages nothing may never say so, either. */
    port = IGB_STATUS_LAN_ID(igb_read(n, IGB_STATUS));
    (void)intel_wait(n, IGB_EEMNGCTL, IGB_EEMNGCTL_CFG_DONE(port), IGB_EEMNGCTL_CFG_DONE(port), RESET_STEP_US,
                   RESET_STEPS);
    igb_update(n, IGB_CTRL, IGB_CTRL_GIO_DIS, 0);
    return 0;
}
