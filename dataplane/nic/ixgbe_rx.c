/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_rx.c - see ixgbe.h.  The receive side, in the order of 4.6.7: what
 * concerns all queues, each queue, and receiving switched on last of all.
 *
 * Every queue drops what it has no buffer for (DROP_EN): one whose worker is
 * slow must not fill the packet buffer that all share.  Tags stay in the
 * frame; the segment tables decide about them.
 */
#include "nic/ixgbe.h"

#include <errno.h>
#include <sys/random.h>

#include "nic/intel_ring.h"

#define MTA_WORDS 128
#define RETA_WORDS 32
#define ERETA_WORDS 96
#define RSSRK_WORDS 10
#define FCS_LEN 4

/* 4.6.7.2.1: only with a header size, although nothing is split off. */
#define RSC_HEADER 128

static void start_filters(const struct nic *n)
{
    uint32_t fctrl = IXGBE_FCTRL_BAM;

    if (n->cfg.promiscuous)
        fctrl |= IXGBE_FCTRL_UPE | IXGBE_FCTRL_MPE;
    ixgbe_update(n, IXGBE_FCTRL, IXGBE_FCTRL_UPE | IXGBE_FCTRL_MPE, fctrl);
    ixgbe_update(n, IXGBE_VLNCTRL, IXGBE_VLNCTRL_VFE, 0);
    for (uint32_t i = 0; i < MTA_WORDS; i++)    /* 4.6.7: not touched by a reset */
        ixgbe_write(n, IXGBE_MTA(i), 0);
}

static void start_sizes(const struct nic *n)
{
    const uint32_t kb = n->variant == IXGBE_X540 || n->variant == IXGBE_X550 ? 384 : 512;
    const bool jumbo = n->cfg.max_frame > ETH_HDR_LEN + 1500;

    ixgbe_update(n, IXGBE_HLREG0, IXGBE_HLREG0_JUMBOEN | IXGBE_HLREG0_LPBK,
                 IXGBE_HLREG0_TXCRCEN | IXGBE_HLREG0_RXCRCSTRP | IXGBE_HLREG0_TXPADEN |
                 (jumbo ? IXGBE_HLREG0_JUMBOEN : 0));
    ixgbe_update(n, IXGBE_MAXFRS, 0xffff0000, (n->cfg.max_frame + FCS_LEN) << 16);
    ixgbe_update(n, IXGBE_RDRXCTL, IXGBE_RDRXCTL_RSCFRSTSIZE,
                 IXGBE_RDRXCTL_CRCSTRIP | IXGBE_RDRXCTL_RSCACKC | IXGBE_RDRXCTL_FCOE_WRFIX);
    ixgbe_write(n, IXGBE_RXPBSIZE(0), IXGBE_RXPBSIZE_KB(kb));
    for (uint32_t i = 1; i < 8; i++)            /* one traffic class, one buffer: 4.6.11.3.4 */
        ixgbe_write(n, IXGBE_RXPBSIZE(i), 0);
}

static uint32_t reta_word(const struct nic *n, uint32_t i)
{
    uint32_t word = 0;

    for (uint32_t k = 0; k < 4; k++)
        word |= (4 * i + k) % n->cfg.n_queues << (8 * k);
    return word;
}

/* RSS, 7.1.2.8.  The key is secret, so that nobody can aim all his flows at one queue. */
static int start_rss(const struct nic *n)
{
    uint32_t key[RSSRK_WORDS];

    if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        return -EIO;
    for (uint32_t i = 0; i < RSSRK_WORDS; i++)
        ixgbe_write(n, IXGBE_RSSRK(i), key[i]);
    for (uint32_t i = 0; i < RETA_WORDS; i++)
        ixgbe_write(n, IXGBE_RETA(i), reta_word(n, i));
    for (uint32_t i = 0; n->variant == IXGBE_X550 && i < ERETA_WORDS; i++)
        ixgbe_write(n, IXGBE_ERETA(i), reta_word(n, RETA_WORDS + i));
    ixgbe_update(n, IXGBE_MRQC, IXGBE_MRQC_FIELDS, IXGBE_MRQC_RSS | IXGBE_MRQC_TCP4 | IXGBE_MRQC_IP4 | IXGBE_MRQC_IP6 |
                 IXGBE_MRQC_TCP6 | IXGBE_MRQC_UDP4 | IXGBE_MRQC_UDP6);
    return 0;
}

static void start_offloads(struct nic *n)
{
    ixgbe_update(n, IXGBE_RXCSUM, IXGBE_RXCSUM_IPPCSE, IXGBE_RXCSUM_PCSD);
    ixgbe_update(n, IXGBE_RFCTL, IXGBE_RFCTL_RSC_DIS, IXGBE_RFCTL_NFSW_DIS | IXGBE_RFCTL_NFSR_DIS |
                 (ixgbe_of(n)->rsc ? 0 : IXGBE_RFCTL_RSC_DIS));
    ixgbe_update(n, IXGBE_RSCDBU, 0, IXGBE_RSCDBU_RSCACKDIS);
}

/* Steps 3 to 7 of 4.6.7.1, the queue being off. */
static void set_up_queue(struct nic *n, uint32_t q)
{
    const struct intel_rx *r = n->queue[q].rx;
    const bool rsc = ixgbe_of(n)->rsc;

    ixgbe_write(n, IXGBE_RDBAL(q), (uint32_t)r->iova);
    ixgbe_write(n, IXGBE_RDBAH(q), (uint32_t)(r->iova >> 32));
    ixgbe_write(n, IXGBE_RDLEN(q), r->size * (uint32_t)sizeof(struct intel_desc));
    ixgbe_write(n, IXGBE_RDH(q), 0);
    ixgbe_write(n, IXGBE_RDT(q), 0);
    ixgbe_write(n, IXGBE_SRRCTL(q), IXGBE_SRRCTL_BSIZEPACKET(DMA_BUF_SIZE) | IXGBE_SRRCTL_ADV_ONE_BUFFER |
                IXGBE_SRRCTL_DROP_EN | (rsc ? IXGBE_SRRCTL_BSIZEHEADER(RSC_HEADER) : 0));
    ixgbe_update(n, IXGBE_PSRTYPE(q), IXGBE_PSRTYPE_TCPHDR, rsc ? IXGBE_PSRTYPE_TCPHDR : 0);
    ixgbe_update(n, IXGBE_RSCCTL(q), IXGBE_RSCCTL_RSCEN | IXGBE_RSCCTL_MAXDESC_16,
                 rsc ? IXGBE_RSCCTL_RSCEN | IXGBE_RSCCTL_MAXDESC_16 : 0);
    ixgbe_update(n, IXGBE_DCA_RXCTRL(q), IXGBE_DCA_RXCTRL_BIT12, 0);
    ixgbe_update(n, IXGBE_RXDCTL(q), IXGBE_RXDCTL_VME, IXGBE_RXDCTL_ENABLE);
}

/* Step 11: the path through the security engine is halted and empty while receiving is switched on. */
static int enable(struct nic *n)
{
    int rc;

    ixgbe_update(n, IXGBE_CTRL_EXT, 0, IXGBE_CTRL_EXT_NS_DIS);
    ixgbe_update(n, IXGBE_SECRXCTRL, 0, IXGBE_SECRXCTRL_RX_DIS);
    rc = intel_wait(n, IXGBE_SECRXSTAT, IXGBE_SECRXSTAT_RDY, IXGBE_SECRXSTAT_RDY, 10, 4000);
    if (rc == 0)
        ixgbe_update(n, IXGBE_RXCTRL, 0, IXGBE_RXCTRL_RXEN);
    ixgbe_update(n, IXGBE_SECRXCTRL, IXGBE_SECRXCTRL_RX_DIS, 0);
    return rc;
}

int ixgbe_rx_start(struct nic *n)
{
    int rc;

    ixgbe_update(n, IXGBE_RXCTRL, IXGBE_RXCTRL_RXEN, 0);
    start_filters(n);
    start_sizes(n);
    start_offloads(n);
    rc = start_rss(n);
    for (uint32_t q = 0; q < n->cfg.n_queues && rc == 0; q++) {
        set_up_queue(n, q);
        rc = intel_wait(n, IXGBE_RXDCTL(q), IXGBE_RXDCTL_ENABLE, IXGBE_RXDCTL_ENABLE, 100, 100);
        if (rc == 0)
            intel_rx_offer(&n->queue[q]);
    }
    return rc < 0 ? rc : enable(n);
}
