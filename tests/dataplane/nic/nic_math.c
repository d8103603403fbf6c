/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_math.c - see nic_math.h.
 */
#include "nic/nic_math.h"

#include <string.h>

static void parse_l4(const uint8_t *frame, uint8_t protocol, uint32_t l4, struct nic_packet *out)
{
    if (protocol == 6 && l4 + 20 <= out->end) {
        out->l4 = l4;
        out->payload = l4 + (frame[l4 + 12] >> 4) * 4u;
        if (out->payload < l4 + 20 || out->payload > out->end)
            out->l4 = 0;
    } else if (protocol == 17 && l4 + 8 <= out->end) {
        out->l4 = l4;
        out->udp = true;
        out->payload = l4 + 8;
    }
}

void nic_packet_parse(const uint8_t *frame, uint32_t len, struct nic_packet *out)
{
    uint32_t l3 = 14;
    uint16_t type = len >= 14 ? nic_get16(frame + 12) : 0;

    memset(out, 0, sizeof(*out));
    if (type == 0x8100 && len >= 18) {
        type = nic_get16(frame + 16);
        l3 = 18;
    }
    if (type == 0x0800 && l3 + 20 <= len && frame[l3] >> 4 == 4) {
        const uint32_t ihl = (frame[l3] & 15) * 4u;

        out->end = l3 + nic_get16(frame + l3 + 2);
        if (ihl < 20 || l3 + ihl > out->end || out->end > len)
            return;
        out->l3 = l3;
        if ((nic_get16(frame + l3 + 6) & 0x3fff) == 0)
            parse_l4(frame, frame[l3 + 9], l3 + ihl, out);
    } else if (type == 0x86dd && l3 + 40 <= len && frame[l3] >> 4 == 6) {
        out->end = l3 + 40 + nic_get16(frame + l3 + 4);
        if (out->end > len)
            return;
        out->l3 = l3;
        out->ip6 = true;
        parse_l4(frame, frame[l3 + 6], l3 + 40, out);
    }
}

uint16_t nic_sum(const uint8_t *data, uint32_t len, uint32_t start)
{
    uint64_t sum = start;

    for (uint32_t i = 0; i + 1 < len; i += 2)
        sum += nic_get16(data + i);
    if (len & 1)
        sum += (uint32_t)data[len - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

uint16_t nic_pseudo_sum(const uint8_t *frame, const struct nic_packet *p, uint32_t l4_len)
{
    const uint32_t addresses = p->ip6 ? nic_sum(frame + p->l3 + 8, 32, 0) : nic_sum(frame + p->l3 + 12, 8, 0);
    uint8_t rest[6] = { 0, p->udp ? 17 : 6 };

    nic_put32(rest + 2, l4_len);
    return nic_sum(rest, sizeof(rest), addresses);
}

bool nic_ip_csum_is_right(const uint8_t *frame, const struct nic_packet *p)
{
    return p->ip6 || nic_sum(frame + p->l3, (frame[p->l3] & 15) * 4u, 0) == 0xffff;
}

bool nic_l4_csum_is_right(const uint8_t *frame, const struct nic_packet *p)
{
    const uint32_t len = p->end - p->l4;

    if (p->udp && nic_get16(frame + p->l4 + 6) == 0)
        return !p->ip6;
    return nic_sum(frame + p->l4, len, nic_pseudo_sum(frame, p, len)) == 0xffff;
}

void nic_csum_fill(uint8_t *frame, const struct nic_packet *p)
{
    const uint32_t at = p->l4 + (p->udp ? 6 : 16);
    const uint32_t len = p->end - p->l4;
    uint16_t sum;

    if (!p->ip6) {
        nic_put16(frame + p->l3 + 10, 0);
        nic_put16(frame + p->l3 + 10, (uint16_t)~nic_sum(frame + p->l3, (frame[p->l3] & 15) * 4u, 0));
    }
    if (!p->l4)
        return;
    nic_put16(frame + at, 0);
    sum = (uint16_t)~nic_sum(frame + p->l4, len, nic_pseudo_sum(frame, p, len));
    nic_put16(frame + at, sum == 0 && p->udp ? 0xffff : sum);
}

uint32_t nic_toeplitz(const uint8_t *key, const uint8_t *input, uint32_t len)
{
    uint32_t hash = 0;

    for (uint32_t bit = 0; bit < len * 8; bit++) {
        uint32_t window = 0;

        if (!(input[bit / 8] & (0x80 >> (bit % 8))))
            continue;
        for (uint32_t i = bit; i < bit + 32; i++)
            window = window << 1 | (key[i / 8] >> (7 - i % 8) & 1);
        hash ^= window;
    }
    return hash;
}

uint32_t nic_rss_hash(const uint8_t *key, const uint8_t *frame, const struct nic_packet *p)
{
    const uint32_t n = p->ip6 ? 32 : 8;
    uint8_t input[36];

    if (!p->l3)
        return 0;
    memcpy(input, frame + p->l3 + (p->ip6 ? 8 : 12), n);
    if (!p->l4)
        return nic_toeplitz(key, input, n);
    memcpy(input + n, frame + p->l4, 4);
    return nic_toeplitz(key, input, n + 4);
}
