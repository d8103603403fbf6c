/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_model_wire.c - see igb_model.h: interrupts (7.3), the PHY, and frames that
 * come and go (7.1.1, 7.1.10, 7.2).
 */
#include "nic/igb_model.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "nic/nic_math.h"

#define FCS_LEN 4
#define WIRE_MIN 60

/* ---- interrupts ---- */

static void fire(struct igb_model *m)
{
    const uint32_t pending = igm_reg(m, IGM_EICR) & igm_reg(m, IGM_EIMS);

    if (!(igm_reg(m, IGM_GPIE) & 1u << 4))
        return;
    for (unsigned v = 0; v < IGM_VECTORS; v++) {
        if (!(pending >> v & 1))
            continue;
        m->fired[v]++;
        m->reg[IGM_EICR / 4] &= ~(igm_reg(m, IGM_EIAC) & 1u << v);
        if (igm_reg(m, IGM_GPIE) & 1u << 30)
            m->reg[IGM_EIMS / 4] &= ~(igm_reg(m, IGM_EIAM) & 1u << v);
    }
}

/* A cause that was not both pending and enabled before, and is now. */
static void changed(struct igb_model *m, uint32_t before)
{
    const uint32_t entry = igm_reg(m, IGM_IVAR_MISC) >> 8 & 0xff;

    if ((igm_reg(m, IGM_ICR) & igm_reg(m, IGM_IMS) & ~before) && (entry & 0x80))
        m->reg[IGM_EICR / 4] |= 1u << (entry & 0x1f);
    fire(m);
}

void igm_cause(struct igb_model *m, uint32_t icr)
{
    const uint32_t before = igm_reg(m, IGM_ICR) & igm_reg(m, IGM_IMS);

    m->reg[IGM_ICR / 4] |= icr;
    changed(m, before);
}

void igm_enable(struct igb_model *m, uint32_t ims, uint32_t eims)
{
    const uint32_t before = igm_reg(m, IGM_ICR) & igm_reg(m, IGM_IMS);

    m->reg[IGM_IMS / 4] |= ims;
    m->reg[IGM_EIMS / 4] |= eims;
    changed(m, before);
}

/* 8.8: the entries of queue n are in IVAR[n & 7], receive before transmit. */
void igm_queue_cause(struct igb_model *m, uint32_t queue, bool tx)
{
    const uint32_t ivar = igm_reg(m, IGM_IVAR + 4 * (queue & 7)) >> ((queue & 8) * 2 + (tx ? 8 : 0));

    if (ivar & 0x80)
        m->reg[IGM_EICR / 4] |= 1u << (ivar & 0x1f);
    fire(m);
}

/* ---- PHY, 8.2.4 ---- */

void igm_mdic(struct igb_model *m, uint32_t value)
{
    const uint32_t reg = value >> 16 & 0x1f, op = value >> 26 & 3;

    if (!(igm_reg(m, IGM_SW_FW_SYNC) & 2))
        engine_breach(&m->e, "4.7: MDIC without the semaphore of the PHY");
    if ((value >> 21 & 0x1f) != 1 || (op != 1 && op != 2))
        engine_breach(&m->e, "8.2.4: MDIC 0x%x", value);
    if (op == 1) {
        m->phy[reg] = (uint16_t)(value & ~0x8200u);
        if (reg == 0 && (value & 0x1200) == 0x1200 && !(value & 0x0c00) && !m->negotiated) {
            m->negotiated = true;
            if (m->cable)
                igm_cause(m, 1u << 2);
        }
    } else {
        value = (value & ~0xffffu) | m->phy[reg];
    }
    m->reg[IGM_MDIC / 4] = value | (m->no_phy ? 0 : 1u << 28) | (m->phy_error ? 1u << 30 : 0);
}

void igm_link(struct igb_model *m, bool cable)
{
    m->cable = cable;
    if (m->negotiated)
        igm_cause(m, 1u << 2);
}

/* ---- to the wire ---- */

void igm_sent(void *ctx, const uint8_t *frame, uint32_t len)
{
    struct igb_model *const m = ctx;
    struct igm_frame *const f = &m->sent[m->n_sent];

    igm_count(m, IGM_GPTC);
    m->bytes[1] += (len < WIRE_MIN ? WIRE_MIN : len) + FCS_LEN;
    if (frame[0] == 0xff)
        igm_count(m, IGM_BPTC);
    else if (frame[0] & 1)
        igm_count(m, IGM_MPTC);
    if (m->discard || m->n_sent == IGM_SENT)
        return;
    f->data = malloc(len);
    if (!f->data)
        return;
    memcpy(f->data, frame, len);
    f->len = len;
    m->n_sent++;
}

void igm_transmit(struct igb_model *m, uint32_t queue)
{
    if (!m->tx[queue].on || !(igm_reg(m, IGM_TCTL) & 2) || (igm_reg(m, IGM_CTRL) & 4))
        return;
    m->e.flags_first = igm_reg(m, IGM_DTXTCPFLGL) & 0xfff;
    m->e.flags_middle = igm_reg(m, IGM_DTXTCPFLGL) >> 16 & 0xfff;
    m->e.flags_last = igm_reg(m, IGM_DTXTCPFLGH) & 0xfff;
    if (engine_transmit(&m->e, &m->tx[queue]))
        igm_queue_cause(m, queue, true);
}

void igm_send(struct igb_model *m)
{
    for (uint32_t q = 0; q < IGM_QUEUES; q++)
        igm_transmit(m, q);
}

/* ---- from the wire ---- */

static bool passes(struct igb_model *m, const uint8_t *frame, uint32_t len)
{
    const uint32_t rctl = igm_reg(m, IGM_RCTL);
    const uint32_t longest = rctl & 1u << 5 ? igm_reg(m, IGM_RLPML) & 0x3fff
                                            : nic_get16(frame + 12) == 0x8100 ? 1522u : 1518u;

    if (len + FCS_LEN > longest) {
        igm_count(m, IGM_ROC);
        return false;
    }
    if (frame[0] == 0xff)
        return rctl & (1u << 15 | 1u << 4);
    if (frame[0] & 1)
        return rctl & 1u << 4;
    return (rctl & 1u << 3) || memcmp(frame, m->mac, sizeof(m->mac)) == 0;
}

/* 7.1.1.7: seven bits of the hash choose an entry. */
static uint32_t pick_queue(const struct igb_model *m, const uint8_t *frame, const struct nic_packet *p, uint32_t *hash)
{
    uint8_t key[40], entry[128];

    *hash = 0;
    if ((igm_reg(m, IGM_MRQC) & 7) != 2 || !(igm_reg(m, IGM_RXCSUM) & 1u << 13) || !p->l3)
        return 0;
    for (unsigned i = 0; i < 10; i++) {
        const uint32_t word = htole32(m->reg[IGM_RSSRK / 4 + i]);

        memcpy(key + 4 * i, &word, 4);
    }
    for (unsigned i = 0; i < 32; i++) {
        const uint32_t word = htole32(m->reg[IGM_RETA / 4 + i]);

        memcpy(entry + 4 * i, &word, 4);
    }
    *hash = nic_rss_hash(key, frame, p);
    return entry[*hash & 0x7f] & 0xf;
}

/* 7.1.10: status and errors. */
static uint32_t checksum_status(const struct igb_model *m, const uint8_t *frame, const struct nic_packet *p)
{
    uint32_t status = 0;

    if (p->l3 && !p->ip6 && (igm_reg(m, IGM_RXCSUM) & 1u << 8))
        status |= 1u << 6 | (nic_ip_csum_is_right(frame, p) ? 0 : 1u << 30);
    if (!p->l4 || !(igm_reg(m, IGM_RXCSUM) & 1u << 9))
        return status;
    if (p->udp && nic_get16(frame + p->l4 + 6) == 0)
        return status;
    return status | 1u << 5 | (p->udp ? 1u << 4 : 0) | (nic_l4_csum_is_right(frame, p) ? 0 : 1u << 29);
}

static void count_good(struct igb_model *m, const uint8_t *frame, uint32_t len)
{
    igm_count(m, IGM_GPRC);
    m->bytes[0] += len + FCS_LEN;
    if (frame[0] == 0xff)
        igm_count(m, IGM_BPRC);
    else if (frame[0] & 1)
        igm_count(m, IGM_MPRC);
}

int igm_receive_status(struct igb_model *m, const uint8_t *frame, uint32_t len, uint32_t status)
{
    struct nic_packet p;
    uint32_t hash, q;

    if (m->gone || !m->cable || !m->negotiated || !(igm_reg(m, IGM_RCTL) & 2) || (igm_reg(m, IGM_CTRL) & 4))
        return -1;
    if (!passes(m, frame, len))
        return -1;
    if (!(igm_reg(m, IGM_RCTL) & 1u << 26))
        engine_breach(&m->e, "8.10.1: the FCS is not stripped");
    nic_packet_parse(frame, len, &p);
    q = pick_queue(m, frame, &p, &hash);
    if (!m->rx[q].on || !m->rx[q].size)
        return -1;
    count_good(m, frame, len);
    if (!engine_receive(&m->e, &m->rx[q], frame, len, status | checksum_status(m, frame, &p), hash)) {
        igm_count(m, igm_reg(m, IGM_RX + 0x40 * q + 0xc) & 1u << 31 ? IGM_RX + 0x40 * q + 0x30 : IGM_MPC);
        return -1;
    }
    igm_queue_cause(m, q, false);
    return (int)q;
}

int igm_receive(struct igb_model *m, const uint8_t *frame, uint32_t len)
{
    return igm_receive_status(m, frame, len, 0);
}
