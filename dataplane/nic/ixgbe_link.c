/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_link.c - see ixgbe.h.
 *
 * What the EEPROM says of the medium is kept, apart from one thing: an SFP+
 * port whose link mode is none of the 10 Gbit/s ones is put into it.  Analogue
 * settings for a certain module, and the choice of 1 Gbit/s on a module that
 * can do both, are not made here.  X540 and X550 have their PHY run by
 * firmware, so that there is nothing to set up at all.
 */
#include "nic/ixgbe.h"

/* AUTOC.LMS, 8.2.3.22.19: 10 Gbit/s without negotiation, parallel and serial. */
#define LMS_10G_PARALLEL 1
#define LMS_10G_SERIAL 3

static bool is_82599(const struct nic *n)
{
    return n->variant == IXGBE_82599_SFP || n->variant == IXGBE_82599_BACKPLANE;
}

/*
 * Kernel drivers switch the laser off (SDP3 high) when they let go.  The link mode is written under the lock that
 * firmware which minds the link takes as well.
 */
static void start_sfp(const struct nic *n)
{
    const uint32_t lms = IXGBE_AUTOC_LMS(ixgbe_read(n, IXGBE_AUTOC));

    ixgbe_update(n, IXGBE_ESDP, IXGBE_ESDP_SDP3, 0);
    if (lms == LMS_10G_SERIAL || lms == LMS_10G_PARALLEL)
        return;
    ixgbe_update(n, IXGBE_AUTOC2, IXGBE_AUTOC2_PMA_MASK, IXGBE_AUTOC2_PMA_SFI);
    ixgbe_update(n, IXGBE_AUTOC, IXGBE_AUTOC_LMS_MASK, IXGBE_AUTOC_LMS_10G_SFI);
}

void ixgbe_link_start(struct nic *n)
{
    if (!is_82599(n))
        return;
    ixgbe_lock(n, IXGBE_SW_FW_MAC_CSR);
    if (n->variant == IXGBE_82599_SFP)
        start_sfp(n);
    ixgbe_update(n, IXGBE_AUTOC, 0, IXGBE_AUTOC_RESTART_AN);
    ixgbe_unlock(n, IXGBE_SW_FW_MAC_CSR);
}

/* 8.2.3.22.20; the X550 tells two more speeds apart. */
static uint32_t speed_of(const struct nic *n, uint32_t links)
{
    const bool odd = n->variant == IXGBE_X550 && (links & IXGBE_LINKS_NON_STD);

    switch (IXGBE_LINKS_SPEED(links)) {
    case IXGBE_LINKS_SPEED_10G:
        return odd ? 2500 : 10000;
    case IXGBE_LINKS_SPEED_1G:
        return 1000;
    case IXGBE_LINKS_SPEED_100M:
        return odd ? 5000 : 100;
    default:
        return 0;
    }
}

void ixgbe_link_read(struct nic *n, struct us_nic_state *out)
{
    const uint32_t links = ixgbe_read(n, IXGBE_LINKS);
    const bool up = !nic_is_gone(links) && (links & IXGBE_LINKS_UP);

    out->link_up = up;
    out->speed_mbps = up ? speed_of(n, links) : 0;
    out->full_duplex = up;      /* the only mode there is */
}
