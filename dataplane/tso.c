/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tso.c - see tso.h.  Length fields of the sender's IP header are not looked
 * at: some stacks leave them zero in a segmentation request, and the frame's
 * real length is known.
 */
#include "tso.h"

#include <string.h>

#include "base/csum.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8
#define TAGS_MAX 2

#define IPV4_HDR_MIN 20
#define IPV4_FRAGMENT 0x3fff    /* more-fragments bit and offset */
#define IPV6_HDR_LEN 40
#define IPV6_EXTENSIONS_MAX 8
#define IP_LEN_MAX 65535

#define PROTO_HOPOPTS 0
#define PROTO_TCP 6
#define PROTO_ROUTING 43
#define PROTO_DSTOPTS 60

#define TCP_HDR_MIN 20
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80
#define TCP_CSUM_OFFSET 16

static uint16_t load16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void store16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint32_t load32(const uint8_t *at)
{
    return (uint32_t)load16(at) << 16 | load16(at + 2);
}

static void store32(uint8_t *at, uint32_t value)
{
    store16(at, value >> 16);
    store16(at + 2, value);
}

/* A 16-bit value as it stands in a header: what csum_add() would see of it. */
static uint16_t wire16(uint32_t value)
{
    uint8_t bytes[2];
    uint16_t word;

    store16(bytes, value);
    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* Offset of the IP header, past tags inside the canonical frame; 0 if it is not IP or too short. */
static uint32_t find_l3(const uint8_t *hdr, uint32_t n, uint16_t *ethertype)
{
    uint32_t l3 = ETH_HDR_LEN;

    for (unsigned tags = 0; tags <= TAGS_MAX && l3 <= n; tags++, l3 += VLAN_TAG_LEN) {
        *ethertype = load16(hdr + l3 - 2);
        if (*ethertype != ETHERTYPE_VLAN && *ethertype != ETHERTYPE_QINQ)
            return l3;
    }
    return 0;
}

static enum drop_reason parse_ipv4(const uint8_t *hdr, uint32_t n, struct tso *t)
{
    const uint8_t *ip = hdr + t->l3;
    uint32_t claimed_len;

    if (n < t->l3 + IPV4_HDR_MIN || ip[0] >> 4 != 4)
        return DROP_offload;
    claimed_len = (ip[0] & 0xfu) * 4;
    if (claimed_len < IPV4_HDR_MIN || claimed_len > n - t->l3)
        return DROP_offload;
    if (ip[9] != PROTO_TCP || (load16(ip + 6) & IPV4_FRAGMENT))
        return DROP_offload;
    t->l4 = t->l3 + claimed_len;
    t->pseudo = csum_add(wire16(PROTO_TCP), ip + 12, 8);
    return DROP_none;
}

/*
 * Extension headers are copied into every segment; a fragment header cannot
 * be, and with a route still to go the pseudo header holds an address that
 * is not the destination field (RFC 8200, 8.1).
 */
static enum drop_reason parse_ipv6(const uint8_t *hdr, uint32_t n, struct tso *t)
{
    const uint8_t *ip = hdr + t->l3;
    uint32_t at = t->l3 + IPV6_HDR_LEN;
    uint8_t next;

    if (n < at || ip[0] >> 4 != 6)
        return DROP_offload;
    next = ip[6];
    for (unsigned i = 0; i < IPV6_EXTENSIONS_MAX && next != PROTO_TCP; i++) {
        if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_DSTOPTS)
            return DROP_offload;
        if (n - at < 8 || (next == PROTO_ROUTING && hdr[at + 3] != 0))
            return DROP_offload;
        next = hdr[at];
        at += (hdr[at + 1] + 1u) * 8;
        if (at > n)
            return DROP_offload;
    }
    if (next != PROTO_TCP)
        return DROP_offload;
    t->l4 = at;
    t->pseudo = csum_add(wire16(PROTO_TCP), ip + 8, 32);
    return DROP_none;
}

/* The longest segment must have a length that its IP header can hold. */
static bool segment_fits_ip(const struct tso *t, uint32_t frame_len, const struct vnet *v)
{
    const uint32_t payload = frame_len - t->len;
    const uint32_t largest = payload < v->gso_size ? payload : v->gso_size;
    const uint32_t counted_from = t->ipv6 ? t->l3 + IPV6_HDR_LEN : t->l3;

    return t->len - counted_from + largest <= IP_LEN_MAX;
}

enum drop_reason tso_parse(const uint8_t *hdr, uint32_t n, uint32_t frame_len, const struct vnet *v,
                           struct tso *out)
{
    const uint8_t kind = v->gso_type & (uint8_t)~VNET_GSO_ECN;
    uint16_t ethertype = 0;
    enum drop_reason why;
    uint32_t claimed_len;

    memset(out, 0, sizeof(*out));
    out->l3 = find_l3(hdr, n, &ethertype);
    out->ipv6 = ethertype == ETHERTYPE_IPV6;
    if (out->l3 == 0 || (kind == VNET_GSO_TCPV6) != out->ipv6)
        return DROP_offload;
    if (!out->ipv6 && ethertype != ETHERTYPE_IPV4)
        return DROP_offload;
    why = out->ipv6 ? parse_ipv6(hdr, n, out) : parse_ipv4(hdr, n, out);
    if (why != DROP_none)
        return why;
    if (out->l4 != v->csum_start || v->csum_offset != TCP_CSUM_OFFSET || n - out->l4 < TCP_HDR_MIN)
        return DROP_offload;
    claimed_len = (hdr[out->l4 + 12] >> 4) * 4u;
    if (claimed_len < TCP_HDR_MIN || claimed_len > n - out->l4)
        return DROP_offload;
    out->len = out->l4 + claimed_len;
    if (v->gso_size == 0 || !segment_fits_ip(out, frame_len, v))
        return DROP_offload;
    return DROP_none;
}

static void write_ipv4(const struct tso *t, const struct tso_segment *s, uint8_t *ip)
{
    const uint32_t hdr_len = t->l4 - t->l3;
    uint16_t csum;

    store16(ip + 2, t->len - t->l3 + s->payload);
    store16(ip + 4, load16(ip + 4) + s->index);
    store16(ip + 10, 0);
    csum = (uint16_t)~csum_fold(csum_add(0, ip, hdr_len));
    memcpy(ip + 10, &csum, sizeof(csum));
}

static void write_tcp(const struct tso *t, const struct tso_segment *s, uint8_t *tcp)
{
    const uint32_t len = t->len - t->l4 + s->payload;
    const uint16_t csum = csum_fold(t->pseudo + wire16(len));

    store32(tcp + 4, load32(tcp + 4) + s->offset);
    if (!s->last)
        tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    if (s->index != 0)          /* RFC 3168: the window was reduced once */
        tcp[13] &= (uint8_t)~TCP_CWR;
    memcpy(tcp + TCP_CSUM_OFFSET, &csum, sizeof(csum));
}

void tso_write(const struct tso *t, const uint8_t *model, const struct tso_segment *s, uint8_t *hdr)
{
    memcpy(hdr, model, t->len);
    if (t->ipv6)
        store16(hdr + t->l3 + 4, t->len - t->l3 - IPV6_HDR_LEN + s->payload);
    else
        write_ipv4(t, s, hdr + t->l3);
    write_tcp(t, s, hdr + t->l4);
}
