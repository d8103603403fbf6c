/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_rx.c - the receive side of ixgbe_model.h: filters, RSS,
 * checksums, descriptors (7.1), and the rules of 4.6.7.
 */
#include <string.h>

#include "nic/ixgbe_model_priv.h"

enum { RDBAL = 0x0, RDLEN = 0x8, RDT = 0x18, RXDCTL = 0x28, RSCCTL = 0x2c };

static uint32_t ring_size(const struct ixgbe_model *m, uint32_t q)
{
    return ixm_rx_reg(m, q, RDLEN) / 16;
}

static uint32_t srrctl(const struct ixgbe_model *m, uint32_t q)
{
    return ixm_reg(m, 0x2100 + 4 * q);
}

uint32_t ixm_rx_buffer_size(const struct ixgbe_model *m, uint32_t q)
{
    return (srrctl(m, q) & 0x1f) * 1024;
}

/* Descriptors that software has given and that are not used yet: up to, not with, the tail. */
uint32_t ixm_rx_available(const struct ixgbe_model *m, uint32_t q)
{
    const uint32_t n = ring_size(m, q);

    return n ? (ixm_rx_reg(m, q, RDT) + n - m->rx[q].head) % n : 0;
}

static uint8_t *descriptor(struct ixgbe_model *m, uint32_t q, uint32_t index)
{
    const uint64_t ring = ixm_rx_reg(m, q, RDBAL) | (uint64_t)ixm_rx_reg(m, q, RDBAL + 4) << 32;

    return ixm_memory(m, ring + 16 * index, 16, "a descriptor");
}

/* The buffer of a descriptor as software wrote it (7.1.6.1). */
uint8_t *ixm_rx_buffer(struct ixgbe_model *m, uint32_t q, uint32_t index)
{
    const uint8_t *d = descriptor(m, q, index);
    uint64_t word[2];

    if (!d)
        return NULL;
    memcpy(word, d, sizeof(word));
    if (le64toh(word[1]) & 1)
        ixm_breach(m, "7.1.6.1", "descriptor %u of queue %u given with IXM_DD set", index, q);
    return ixm_memory(m, le64toh(word[0]), ixm_rx_buffer_size(m, q), "a receive buffer");
}

uint32_t ixm_rx_take(struct ixgbe_model *m, uint32_t q)
{
    const uint32_t index = m->rx[q].head;

    m->rx[q].head = (index + 1) % ring_size(m, q);
    m->rx[q].held--;
    return index;
}

void ixm_rx_write_back(struct ixgbe_model *m, uint32_t q, uint32_t index, uint32_t info, uint32_t hash,
                       uint32_t status, uint32_t len)
{
    uint64_t word[2] = { info | (uint64_t)hash << 32, status | (uint64_t)len << 32 };
    uint8_t *d = descriptor(m, q, index);

    if (!d)
        return;
    if (m->mangle)
        m->mangle(m->mangle_ctx, q, index, word);
    word[0] = htole64(word[0]);
    word[1] = htole64(word[1]);
    memcpy(d, word, sizeof(word[0]));
    /* IXM_DD last, as the bus orders it. */
    memcpy(d + 8, &word[1], sizeof(word[1]));
}

/* ---- filters, 7.1.1 ---- */

static bool passes(const struct ixgbe_model *m, const uint8_t *data)
{
    static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    const uint32_t fctrl = ixm_reg(m, 0x5080);
    uint8_t own[8];
    const uint32_t ral = htole32(ixm_reg(m, 0x5400)), rah = htole32(ixm_reg(m, 0x5404));

    memcpy(own, &ral, 4);
    memcpy(own + 4, &rah, 4);
    if (!memcmp(data, all, 6))
        return fctrl & 1u << 10;
    if (data[0] & 1)
        return fctrl & 1u << 8;
    return (fctrl & 1u << 9) || ((ixm_reg(m, 0x5404) & 1u << 31) && !memcmp(data, own, 6));
}

static bool fits(struct ixgbe_model *m, const uint8_t *data, uint32_t len)
{
    const bool jumbo = ixm_reg(m, 0x4240) & 4;
    const uint32_t limit = jumbo ? ixm_reg(m, 0x4268) >> 16 : 1518;
    const uint32_t tag = data[12] == 0x81 && data[13] == 0 ? 4 : 0;

    if (len + 4 < 64)
        ixm_count(m, 0x40a4, 1);
    else if (len + 4 > limit + tag)
        ixm_count(m, 0x40ac, 1);
    else
        return true;
    return false;
}

/* ---- checksums and type, 7.1.11, 7.1.6.2 ---- */

uint32_t ixm_rx_packet_type(const struct nic_packet *p)
{
    uint32_t type = 0;

    if (p->l3)
        type |= p->ip6 ? 1u << 6 : 1u << 4;
    if (p->l4)
        type |= p->udp ? 1u << 9 : 1u << 8;
    return type;
}

static uint32_t checksum_status(struct ixgbe_model *m, const uint8_t *data, const struct nic_packet *p)
{
    uint32_t status = 0;

    if (p->l3 && !p->ip6) {
        status |= IXM_IPCS;
        if (!nic_ip_csum_is_right(data, p))
            status |= IXM_IPE;
    }
    if (p->l4 && !(p->udp && nic_get16(data + p->l4 + 6) == 0)) {
        status |= IXM_L4CS | (p->udp ? IXM_UDPCS : 0);
        if (!nic_l4_csum_is_right(data, p))
            status |= IXM_TCPE;
    }
    if (status & (IXM_IPE | IXM_TCPE))
        ixm_count(m, 0x4120, 1);
    return status;
}

/* ---- RSS, 7.1.2.8 ---- */

static uint32_t pick_queue(const struct ixgbe_model *m, const uint8_t *data, const struct nic_packet *p,
                           uint32_t *hash)
{
    uint8_t key[40];
    uint32_t entry;

    *hash = 0;
    if ((ixm_reg(m, 0x5818) & 0xf) != 1 || !p->l3)
        return 0;
    for (unsigned i = 0; i < 10; i++) {
        const uint32_t word = htole32(ixm_reg(m, 0x5c80 + 4 * i));

        memcpy(key + 4 * i, &word, 4);
    }
    *hash = nic_rss_hash(key, data, p);
    entry = *hash & (m->device == IXM_X550 ? 511 : 127);
    if (entry < 128)
        return ixm_reg(m, 0x5c00 + 4 * (entry / 4)) >> (8 * (entry % 4)) & 0xf;
    return ixm_reg(m, 0xee80 + 4 * (entry / 4 - 32)) >> (8 * (entry % 4)) & 0x3f;
}

/* ---- a frame ---- */

static void deliver(struct ixgbe_model *m, uint32_t q, const uint8_t *data, uint32_t len, uint32_t info, uint32_t hash,
                    uint32_t status)
{
    const uint32_t room = ixm_rx_buffer_size(m, q);

    while (len) {
        const uint32_t now = len < room ? len : room;
        uint8_t *to = ixm_rx_buffer(m, q, m->rx[q].head);
        const uint32_t index = ixm_rx_take(m, q);
        const uint32_t next = m->rx[q].head;

        if (to)
            memcpy(to, data, now);
        data += now;
        len -= now;
        ixm_rx_write_back(m, q, index, info, hash, len ? IXM_DD | next << 4 : IXM_DD | IXM_EOP | status, now);
    }
    ixm_queue_cause(m, q, false);
}

static void count_good(struct ixgbe_model *m, const uint8_t *data, uint32_t len)
{
    ixm_count(m, 0x4074, 1);
    m->counter_bytes_rx += len + 4;
    if (m->counter_bytes_rx > IXM_BYTES_MAX)
        m->counter_bytes_rx = IXM_BYTES_MAX;
    if (data[0] == 0xff)
        ixm_count(m, 0x4078, 1);
    else if (data[0] & 1)
        ixm_count(m, 0x407c, 1);
}

int ixm_receive(struct ixgbe_model *m, const uint8_t *data, uint32_t len)
{
    struct nic_packet p;
    uint32_t hash, status, q;

    if (m->gone || !m->link_up || !(ixm_reg(m, 0x3000) & 1) || (ixm_reg(m, 0x0) & 4))
        return -1;
    if (!fits(m, data, len) || !passes(m, data))
        return -1;
    count_good(m, data, len);
    nic_packet_parse(data, len, &p);
    q = pick_queue(m, data, &p, &hash);
    if (q >= IXM_QUEUES || !m->rx[q].on)
        return -1;
    status = checksum_status(m, data, &p);
    if (!(srrctl(m, q) & 1u << 25) || ixm_rx_buffer_size(m, q) == 0) {
        ixm_breach(m, "8.2.3.8.7", "SRRCTL[%u] 0x%x: not the advanced format with one buffer", q, srrctl(m, q));
        return -1;
    }
    if (ixm_rsc_receive(m, q, data, &p, hash, status))
        return (int)q;
    if (ixm_rx_available(m, q) < (len + ixm_rx_buffer_size(m, q) - 1) / ixm_rx_buffer_size(m, q)) {
        ixm_count(m, srrctl(m, q) & 1u << 28 ? 0x1430 : 0x3fa0, 1);
        return -1;
    }
    deliver(m, q, data, len, ixm_rx_packet_type(&p), hash, status);
    return (int)q;
}

/* ---- the rules of 4.6.7, when RXEN is set ---- */

static void check_rsc(struct ixgbe_model *m, uint32_t q)
{
    const uint32_t rdrxctl = ixm_reg(m, 0x2f00), rfctl = ixm_reg(m, 0x5008), gpie = ixm_reg(m, 0x898);
    const uint32_t ivar = ixm_reg(m, 0x900 + 4 * (q / 2)) >> (16 * (q & 1));
    const uint32_t interval = (ixm_reg(m, 0x820 + 4 * (ivar & 0xf)) >> 3 & 0x1ff) * 2;

    if (rfctl & 1u << 5 || (rfctl & 0xc0) != 0xc0)
        ixm_breach(m, "4.6.7.2.1", "coalescing with RFCTL 0x%x: RSC_DIS clear, NFSW_DIS, NFSR_DIS set", rfctl);
    if (!(rdrxctl & 2) || (rdrxctl & 0x1fu << 17) || (rdrxctl & 3u << 25) != 3u << 25 || !(ixm_reg(m, 0x4240) & 2))
        ixm_breach(m, "4.6.7.2.1", "coalescing with RDRXCTL 0x%x, HLREG0 0x%x", rdrxctl, ixm_reg(m, 0x4240));
    if ((srrctl(m, q) >> 8 & 0x3f) < 2)
        ixm_breach(m, "4.6.7.2.2", "coalescing in queue %u without a header size", q);
    if (!(ixm_reg(m, 0x5480 + 4 * q) & 1u << 4))
        ixm_breach(m, "4.6.7.2.2", "coalescing in queue %u, PSRTYPE splits no TCP header", q);
    if (ixm_rsc_max_desc(m, q) * ixm_rx_buffer_size(m, q) > 65535)
        ixm_breach(m, "8.2.3.8.13", "coalescing in queue %u may pass 64 KiB", q);
    if (!(ivar & 0x80) || interval <= ((gpie >> 11 & 7) + 1) * 4)
        ixm_breach(m, "7.3.2.1.1", "coalescing in queue %u, whose interrupt timer ends it too early or never", q);
}

static void check_sizes(struct ixgbe_model *m)
{
    const uint32_t most = m->device == IXM_X540 || m->device == IXM_X550 ? 384 : 512;
    uint32_t sum = 0;

    for (unsigned i = 0; i < 8; i++)
        sum += ixm_reg(m, 0x3c00 + 4 * i) >> 10;
    if (sum == 0 || sum > most)
        ixm_breach(m, "4.6.11.3.4", "packet buffers of %u KiB, there are %u", sum, most);
    if (!(ixm_reg(m, 0x4240) & 2) != !(ixm_reg(m, 0x2f00) & 2))
        ixm_breach(m, "4.6.7", "HLREG0.RXCRCSTRP and RDRXCTL.CRCSTRIP differ");
}

void ixm_rx_check(struct ixgbe_model *m)
{
    unsigned on = 0;

    if (!(ixm_reg(m, 0x18) & 1u << 16))
        ixm_breach(m, "4.6.7.1", "RXEN with CTRL_EXT.NS_DIS clear");
    check_sizes(m);
    for (uint32_t q = 0; q < IXM_QUEUES; q++) {
        if (!m->rx[q].on)
            continue;
        on++;
        if (ixm_reg(m, 0x2200 + 4 * q) & 1u << 12)
            ixm_breach(m, "4.6.7.1", "RXEN with bit 12 of DCA_RXCTRL[%u] set", q);
        if (ixm_rx_reg(m, q, RSCCTL) & 1)
            check_rsc(m, q);
    }
    if (!on)
        ixm_breach(m, "4.6.7.1", "RXEN before any queue is enabled");
}
