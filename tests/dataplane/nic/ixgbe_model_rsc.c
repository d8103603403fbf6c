/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_rsc.c - receive side coalescing of ixgbe_model.h (7.11).
 */
#include <string.h>

#include "nic/ixgbe_model_priv.h"

enum { RSCCTL = 0x2c };

uint32_t ixm_rsc_max_desc(const struct ixgbe_model *m, uint32_t q)
{
    static const uint32_t sizes[4] = { 1, 4, 8, 16 };

    return sizes[ixm_rx_reg(m, q, RSCCTL) >> 2 & 3];
}

static uint32_t rsc_info(const struct ixm_rsc *r)
{
    /* One more than the packets that begin in the descriptor; 15 is the most there is room for. */
    return r->ptype | (r->packets >= 14 ? 15 : r->packets + 1) << 17;
}

static void rsc_close(struct ixgbe_model *m, struct ixm_rsc *r)
{
    if (!r->used)
        return;
    r->used = false;
    /* A lone packet is no coalesced one. */
    ixm_rx_write_back(m, r->queue, r->current, r->n_desc == 1 && r->packets == 1 ? r->ptype : rsc_info(r), r->hash,
               IXM_DD | IXM_EOP | IXM_IPCS | IXM_L4CS, r->fill);
    ixm_queue_cause(m, r->queue, false);
}

void ixm_expire(struct ixgbe_model *m, uint32_t queue)
{
    for (unsigned i = 0; i < IXM_RSC_CONTEXTS; i++)
        if (m->rsc[i].queue == queue)
            rsc_close(m, &m->rsc[i]);
}

/* 7.11.1: TCP over IPv4 without options or fragments, data, no flags but ACK and PSH, sums right. */
static bool rsc_qualifies(const struct ixgbe_model *m, uint32_t q, const uint8_t *data, const struct nic_packet *p,
                          uint32_t status)
{
    if (!(ixm_rx_reg(m, q, RSCCTL) & 1) || (ixm_reg(m, 0x5008) & 1u << 5))
        return false;
    if (!p->l4 || p->udp || p->ip6 || (status & (IXM_IPE | IXM_TCPE)) || data[p->l3] != 0x45)
        return false;
    return p->payload < p->end && (data[p->l4 + 13] & ~0x18) == 0 && (data[p->l4 + 13] & 0x10);
}

static struct ixm_rsc *rsc_find(struct ixgbe_model *m, uint32_t q, const uint8_t *data, const struct nic_packet *p)
{
    for (unsigned i = 0; i < IXM_RSC_CONTEXTS; i++) {
        struct ixm_rsc *r = &m->rsc[i];

        if (r->used && r->queue == q && p->l4 && !p->ip6 && !p->udp && !memcmp(r->id, data + p->l3 + 12, 8) &&
            !memcmp(r->id + 8, data + p->l4, 4))
            return r;
    }
    return NULL;
}

/* Puts bytes into the current buffer and, where it is full, into the next descriptors. False: none left. */
static bool rsc_put(struct ixgbe_model *m, struct ixm_rsc *r, const uint8_t *data, uint32_t len)
{
    const uint32_t room = ixm_rx_buffer_size(m, r->queue);

    while (len) {
        const uint32_t now = len < room - r->fill ? len : room - r->fill;
        uint8_t *to = ixm_rx_buffer(m, r->queue, r->current);

        if (!to)
            return false;
        memcpy(to + r->fill, data, now);
        r->fill += now;
        data += now;
        len -= now;
        if (len) {
            const uint32_t next = ixm_rx_take(m, r->queue);

            ixm_rx_write_back(m, r->queue, r->current, rsc_info(r), r->hash, IXM_DD | next << 4, r->fill);
            r->current = next;
            r->n_desc++;
            r->packets = 0;
            r->fill = 0;
        }
    }
    return true;
}

/* How many descriptors more bytes would take. */
static uint32_t rsc_need(const struct ixgbe_model *m, const struct ixm_rsc *r, uint32_t len)
{
    const uint32_t room = ixm_rx_buffer_size(m, r->queue);

    return (r->fill + len + room - 1) / room - 1;
}

/* The header of the whole, in the first buffer: length, acknowledgement, PSH (7.11.3). */
static void rsc_update_header(struct ixm_rsc *r, const uint8_t *data, const struct nic_packet *p)
{
    nic_put16(r->head + r->at.l3 + 2, r->bytes - r->at.l3);
    memcpy(r->head + r->at.l4 + 8, data + p->l4 + 8, 4);
    r->head[r->at.l4 + 13] |= data[p->l4 + 13] & 8;
}

static bool rsc_append(struct ixgbe_model *m, struct ixm_rsc *r, const uint8_t *data, const struct nic_packet *p)
{
    const uint32_t len = p->end - p->payload;
    const uint32_t need = rsc_need(m, r, len);

    if (nic_get32(data + p->l4 + 4) != r->next_seq || p->payload - p->l4 != r->at.payload - r->at.l4 ||
        r->n_desc + need > ixm_rsc_max_desc(m, r->queue) || need > ixm_rx_available(m, r->queue) || r->packets >= 14 ||
        r->bytes + len - r->at.l3 > 65535)
        return false;
    r->packets++;
    r->bytes += len;
    r->next_seq += len;
    rsc_update_header(r, data, p);
    return rsc_put(m, r, data + p->payload, len);
}

bool ixm_rsc_receive(struct ixgbe_model *m, uint32_t q, const uint8_t *data, const struct nic_packet *p,
                        uint32_t hash, uint32_t status)
{
    struct ixm_rsc *r = rsc_find(m, q, data, p);
    const bool push = p->l4 && (data[p->l4 + 13] & 8);

    if (r && rsc_qualifies(m, q, data, p, status) && rsc_append(m, r, data, p)) {
        if (push)
            rsc_close(m, r);
        return true;
    }
    if (r)
        rsc_close(m, r);
    if (!rsc_qualifies(m, q, data, p, status) || push || ixm_rx_available(m, q) < 2 + p->end / ixm_rx_buffer_size(m, q))
        return false;
    for (r = m->rsc; r < m->rsc + IXM_RSC_CONTEXTS && r->used; r++)
        ;
    if (r == m->rsc + IXM_RSC_CONTEXTS)
        return false;
    *r = (struct ixm_rsc){ .used = true, .queue = q, .n_desc = 1, .packets = 1, .bytes = p->end, .hash = hash,
                           .ptype = ixm_rx_packet_type(p), .at = *p };
    r->next_seq = nic_get32(data + p->l4 + 4) + p->end - p->payload;
    memcpy(r->id, data + p->l3 + 12, 8);
    memcpy(r->id + 8, data + p->l4, 4);
    r->first = r->current = ixm_rx_take(m, q);
    r->head = ixm_rx_buffer(m, q, r->first);
    return r->head && rsc_put(m, r, data, p->end);
}
