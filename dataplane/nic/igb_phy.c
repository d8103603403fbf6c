/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_phy.c - see igb.h.
 *
 * The PHY negotiates by itself, and the MAC takes over what comes out; it has
 * to be told to begin, since it may have been left powered down, or (as QEMU's
 * is) not begun after a reset.
 */
#include "nic/igb.h"

#include <errno.h>

#define SEMAPHORE_STEP_US 50
#define SEMAPHORE_STEPS 2000
#define PHY_LOCK_STEP_US 5000
#define PHY_LOCK_STEPS 200
/* 8.2.4: 64 us a frame of MDIO. */
#define MDIC_STEP_US 50
#define MDIC_STEPS 200

/*
 * The lock around SW_FW_SYNC (4.7.1): SMBI among drivers (whoever reads 0 has it), then SWESMBI against firmware.  An
 * owner that died is run over, as the data sheet says.
 */
static void sync_begin(const struct nic *n)
{
    (void)intel_wait(n, IGB_SWSM, IGB_SWSM_SMBI, 0, SEMAPHORE_STEP_US, SEMAPHORE_STEPS);
    for (unsigned i = 0; i < SEMAPHORE_STEPS; i++) {
        igb_update(n, IGB_SWSM, 0, IGB_SWSM_SWESMBI);
        if (igb_read(n, IGB_SWSM) & IGB_SWSM_SWESMBI)
            return;
        intel_sleep_us(SEMAPHORE_STEP_US);
    }
}

static void sync_end(const struct nic *n)
{
    igb_update(n, IGB_SWSM, IGB_SWSM_SMBI | IGB_SWSM_SWESMBI, 0);
}

static uint32_t phy_bit(const struct nic *n)
{
    return IGB_SW_FW_PHY(IGB_STATUS_LAN_ID(igb_read(n, IGB_STATUS)));
}

static void lock_phy(const struct nic *n, uint32_t bit)
{
    for (unsigned i = 0; i < PHY_LOCK_STEPS; i++) {
        uint32_t sync;

        sync_begin(n);
        sync = igb_read(n, IGB_SW_FW_SYNC);
        if (nic_is_gone(sync))
            return;
        if (!(sync & (bit | bit << IGB_SW_FW_TO_FW)) || i + 1 == PHY_LOCK_STEPS) {
            igb_write(n, IGB_SW_FW_SYNC, sync | bit);
            sync_end(n);
            return;
        }
        sync_end(n);
        intel_sleep_us(PHY_LOCK_STEP_US);
    }
}

static void unlock_phy(const struct nic *n, uint32_t bit)
{
    sync_begin(n);
    igb_update(n, IGB_SW_FW_SYNC, bit, 0);
    sync_end(n);
}

/* One transaction with the PHY. @out: what MDIC says afterwards. */
static int mdic(const struct nic *n, uint32_t command, uint32_t *out)
{
    igb_write(n, IGB_MDIC, command);
    if (intel_wait(n, IGB_MDIC, IGB_MDIC_READY, IGB_MDIC_READY, MDIC_STEP_US, MDIC_STEPS) < 0)
        return -EIO;
    *out = igb_read(n, IGB_MDIC);
    return *out & IGB_MDIC_ERROR ? -EIO : 0;
}

static int restart_autoneg(const struct nic *n)
{
    const uint32_t at = IGB_MDIC_PHY1 | IGB_MDIC_REG(IGB_PHY_CONTROL);
    uint32_t value;
    int rc = mdic(n, at | IGB_MDIC_READ, &value);

    if (rc < 0)
        return rc;
    value = (value & 0xffff & ~(IGB_PHY_CONTROL_POWER_DOWN | IGB_PHY_CONTROL_ISOLATE)) | IGB_PHY_CONTROL_AUTONEG |
            IGB_PHY_CONTROL_RESTART;
    return mdic(n, at | IGB_MDIC_WRITE | value, &value);
}

/* No flow control: a peer that pauses us, or we it, for one slow guest would hold up everybody. */
int igb_link_start(const struct nic *n)
{
    const uint32_t bit = phy_bit(n);
    int rc;

    igb_write(n, IGB_FCTTV, 0);
    igb_write(n, IGB_FCRTL, 0);
    igb_write(n, IGB_FCRTH, 0);
    igb_update(n, IGB_CTRL, IGB_CTRL_FRCSPD | IGB_CTRL_FRCDPX | IGB_CTRL_RFCE | IGB_CTRL_TFCE | IGB_CTRL_VME,
               IGB_CTRL_SLU);
    if (igb_read(n, IGB_CTRL_EXT) & IGB_CTRL_EXT_LINK_MODE)
        return 0;               /* no PHY of its own: SerDes links come up by SLU */
    lock_phy(n, bit);
    rc = restart_autoneg(n);
    unlock_phy(n, bit);
    return rc;
}

void igb_link_read(const struct nic *n, struct us_nic_state *out)
{
    const uint32_t status = igb_read(n, IGB_STATUS);
    const bool up = !nic_is_gone(status) && (status & IGB_STATUS_LU);
    static const uint32_t mbps[4] = { 10, 100, 1000, 1000 };

    out->link_up = up;
    out->speed_mbps = up ? mbps[IGB_STATUS_SPEED(status)] : 0;
    out->full_duplex = up && (status & IGB_STATUS_FD);
}
