/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_queue.c - see igb.h.  The order of 4.5.9 and 4.5.10: what concerns all
 * queues, each queue, and the units switched on last of all.
 *
 * Every queue drops what it has no buffer for (DROP_EN): one whose worker is
 * slow must not fill the packet buffer that all share.  Tags stay in the
 * frame; the segment tables decide about them.
 */
#include "nic/igb.h"

#include <errno.h>
#include <sys/random.h>

#include "nic/intel_ring.h"

#define MTA_WORDS 128
#define RETA_WORDS 32
#define RSSRK_WORDS 10
#define FCS_LEN 4

#define WAIT_STEP_US 100
#define WAIT_STEPS 100

/* Descriptors fetched in advance; each is written back when it is done, so that nobody waits for a neighbour. */
#define RX_THRESH IGB_DCTL_THRESH(8u, 8u, 1u)
#define TX_THRESH IGB_DCTL_THRESH(8u, 1u, 1u)
#define THRESH_MASK IGB_DCTL_THRESH(0x1fu, 0x1fu, 0x1fu)

/* FIN and PSH in the last segment alone, CWR in the first alone (RFC 3168). */
#define TCP_FLAGS_FIRST 0xff6u
#define TCP_FLAGS_MIDDLE 0xf76u
#define TCP_FLAGS_LAST 0xf7fu

/* 7.1.5.2: where the 82576 differs from the 82599. */
static const struct intel_kind igb_kind = {
    .rx_l4_checked = INTEL_RX_L4CS | INTEL_RX_UDPCS,
    .rx_l4_wrong = 1u << 29,            /* L4E */
    .rx_ip_wrong = 1u << 30,            /* IPE */
    .rx_damaged = 1u << 31,             /* RXE; only ever set where bad frames are stored */
};

/* RSS, 7.1.1.7.  The key is secret, so that nobody can aim all his flows at one queue. */
static int start_rss(const struct nic *n)
{
    uint32_t key[RSSRK_WORDS];

    if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        return -EIO;
    for (uint32_t i = 0; i < RSSRK_WORDS; i++)
        igb_write(n, IGB_RSSRK(i), key[i]);
    for (uint32_t i = 0; i < RETA_WORDS; i++) {
        uint32_t word = 0;

        for (uint32_t k = 0; k < 4; k++)
            word |= (4 * i + k) % n->cfg.n_queues << (8 * k);
        igb_write(n, IGB_RETA(i), word);
    }
    igb_write(n, IGB_VT_CTL, 0);
    igb_write(n, IGB_MRQC, IGB_MRQC_RSS | IGB_MRQC_FIELDS);
    return 0;
}

static void start_offloads(const struct nic *n)
{
    igb_update(n, IGB_RXCSUM, 0, IGB_RXCSUM_IPOFLD | IGB_RXCSUM_TUOFLD | IGB_RXCSUM_PCSD);
    igb_write(n, IGB_DTXTCPFLGL, TCP_FLAGS_MIDDLE << 16 | TCP_FLAGS_FIRST);
    igb_write(n, IGB_DTXTCPFLGH, TCP_FLAGS_LAST);
}

/* Some queues are on after a reset. */
static void set_up_rx(const struct nic *n, uint32_t q)
{
    const struct intel_rx *const r = n->queue[q].rx;

    igb_stop_queue(n, IGB_RXDCTL(q));
    igb_write(n, IGB_RDBAL(q), (uint32_t)r->iova);
    igb_write(n, IGB_RDBAH(q), (uint32_t)(r->iova >> 32));
    igb_write(n, IGB_RDLEN(q), r->size * (uint32_t)sizeof(struct intel_desc));
    igb_write(n, IGB_SRRCTL(q), IGB_SRRCTL_BSIZEPACKET(DMA_BUF_SIZE) | IGB_SRRCTL_ADV_ONE_BUFFER |
              IGB_SRRCTL_DROP_EN);
    igb_write(n, IGB_RDH(q), 0);
    igb_write(n, IGB_RDT(q), 0);
    igb_update(n, IGB_RXDCTL(q), THRESH_MASK, RX_THRESH | IGB_DCTL_ENABLE);
}

static void set_up_tx(const struct nic *n, uint32_t q)
{
    const struct intel_tx *const t = n->queue[q].tx;

    igb_stop_queue(n, IGB_TXDCTL(q));
    igb_write(n, IGB_TDBAL(q), (uint32_t)t->iova);
    igb_write(n, IGB_TDBAH(q), (uint32_t)(t->iova >> 32));
    igb_write(n, IGB_TDLEN(q), t->size * (uint32_t)sizeof(struct intel_desc));
    igb_write(n, IGB_TDWBAL(q), 0);
    igb_write(n, IGB_TDH(q), 0);
    igb_write(n, IGB_TDT(q), 0);
    igb_update(n, IGB_TXDCTL(q), THRESH_MASK, TX_THRESH | IGB_DCTL_ENABLE);
}

static int wait_enabled(const struct nic *n, uint32_t dctl)
{
    return intel_wait(n, dctl, IGB_DCTL_ENABLE, IGB_DCTL_ENABLE, WAIT_STEP_US, WAIT_STEPS);
}

/* 4.5.10: the unit first, then its queues. */
static int start_tx(struct nic *n)
{
    int rc = 0;

    igb_update(n, IGB_TCTL, IGB_TCTL_CT_MASK, IGB_TCTL_EN | IGB_TCTL_PSP | IGB_TCTL_RTLC | IGB_TCTL_CT(15u));
    for (uint32_t q = 0; q < n->cfg.n_queues && rc == 0; q++) {
        set_up_tx(n, q);
        rc = wait_enabled(n, IGB_TXDCTL(q));
    }
    return rc;
}

/* 4.5.9: buffers are given to a queue once it is enabled. */
static int start_rx(struct nic *n)
{
    const uint32_t promiscuous = n->cfg.promiscuous ? IGB_RCTL_UPE | IGB_RCTL_MPE : 0;
    int rc = 0;

    for (uint32_t i = 0; i < MTA_WORDS; i++)
        igb_write(n, IGB_MTA(i), 0);
    igb_write(n, IGB_RLPML, n->cfg.max_frame + VLAN_TAG_LEN + FCS_LEN);
    for (uint32_t q = 0; q < n->cfg.n_queues && rc == 0; q++) {
        set_up_rx(n, q);
        rc = wait_enabled(n, IGB_RXDCTL(q));
        if (rc == 0)
            intel_rx_offer(&n->queue[q]);
    }
    if (rc == 0)
        igb_write(n, IGB_RCTL, IGB_RCTL_EN | promiscuous | IGB_RCTL_LPE | IGB_RCTL_BAM | IGB_RCTL_SECRC);
    return rc;
}

int igb_queues_start(struct nic *n)
{
    int rc = 0;

    for (uint32_t q = 0; q < n->cfg.n_queues && rc == 0; q++)
        rc = intel_ring_create(&n->queue[q], &igb_kind, IGB_RDT(q), IGB_TDT(q));
    if (rc == 0)
        rc = start_rss(n);
    if (rc < 0)
        return rc;
    start_offloads(n);
    rc = start_tx(n);
    return rc < 0 ? rc : start_rx(n);
}

void igb_tx_progress(const struct nic_queue *q, struct nic_tx_progress *out)
{
    intel_tx_progress(q, IGB_TDH(q->index), out);
}

void igb_queues_free(struct nic *n)
{
    for (uint32_t q = 0; q < US_QUEUES_MAX; q++)
        intel_ring_destroy(&n->queue[q]);
}
