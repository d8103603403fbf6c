/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * rig_flow.c - see rig_flow.h.
 */
#include "nic/rig_flow.h"

#include <string.h>

#include "frame.h"
#include "nic/nic_math.h"

static uint32_t put_ip(uint8_t *out, const struct rig_flow *flow, uint32_t l4_len)
{
    const uint8_t protocol = flow->udp ? 17 : 6;

    if (flow->ip6) {
        memset(out, 0, 40);
        out[0] = 0x60;
        nic_put16(out + 4, l4_len);
        out[6] = protocol;
        out[7] = 64;
        out[8] = out[24] = 0xfd;
        nic_put32(out + 20, flow->from);
        nic_put32(out + 36, flow->to);
        return 40;
    }
    memset(out, 0, 20);
    out[0] = 0x45;
    nic_put16(out + 2, 20 + l4_len);
    nic_put16(out + 4, flow->id);
    out[8] = 64;
    out[9] = protocol;
    nic_put32(out + 12, flow->from);
    nic_put32(out + 16, flow->to);
    return 20;
}

static void put_tcp(uint8_t *tcp, const struct rig_flow *flow)
{
    nic_put32(tcp + 4, flow->seq);
    nic_put32(tcp + 8, 77);
    tcp[12] = (flow->bare ? 5 : 8) << 4;
    tcp[13] = flow->flags;
    nic_put16(tcp + 14, 500);
    if (!flow->bare)    /* 12 bytes: a time stamp */
        memcpy(tcp + 20, "\x01\x01\x08\x0a\x00\x00\x00\x07\x00\x00\x00\x08", 12);
}

uint32_t rig_packet(uint8_t *out, const struct rig_flow *flow, uint32_t payload)
{
    const uint32_t l4_hdr = flow->udp ? 8 : flow->bare ? 20 : 32, l3 = flow->tagged ? 18 : 14;
    struct nic_packet p;
    uint32_t l4;

    memcpy(out, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
    if (flow->tagged)
        memcpy(out + 12, "\x81\x00\x60\x64", 4);
    nic_put16(out + l3 - 2, flow->ip6 ? 0x86dd : 0x0800);
    l4 = l3 + put_ip(out + l3, flow, l4_hdr + payload);
    memset(out + l4, 0, l4_hdr);
    nic_put16(out + l4, flow->sport);
    nic_put16(out + l4 + 2, flow->dport);
    if (flow->udp)
        nic_put16(out + l4 + 4, 8 + payload);
    else
        put_tcp(out + l4, flow);
    for (uint32_t i = 0; i < payload; i++) {
        const uint32_t x = flow->seq + i;

        out[l4 + l4_hdr + i] = (uint8_t)(x * 7 + (x >> 8) * 3);
    }
    nic_packet_parse(out, l4 + l4_hdr + payload, &p);
    nic_csum_fill(out, &p);
    return l4 + l4_hdr + payload;
}

struct vnet rig_request(uint8_t *packet, uint32_t len, uint32_t gso_size)
{
    struct vnet v = { .flags = VNET_NEEDS_CSUM, .gso_size = (uint16_t)gso_size };
    struct nic_packet p;

    nic_packet_parse(packet, len, &p);
    v.csum_start = (uint16_t)p.l4;
    v.csum_offset = p.udp ? 6 : 16;
    v.hdr_len = (uint16_t)p.payload;
    if (gso_size)
        v.gso_type = p.ip6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
    nic_put16(packet + p.l4 + v.csum_offset, nic_pseudo_sum(packet, &p, len - p.l4));
    return v;
}

void rig_pattern(uint8_t *out, uint32_t len, uint32_t seed)
{
    static const uint8_t front[ETH_HDR_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };

    for (uint32_t i = 0; i < len; i++)
        out[i] = i < sizeof(front) ? front[i] : (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}
