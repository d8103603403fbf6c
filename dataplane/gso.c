/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * gso.c - see gso.h.  Length fields of the sender's IP and UDP headers are not
 * looked at: some stacks leave them zero in a segmentation request, and the
 * frame's real length is known.
 */
#include "gso.h"

#include <string.h>

#include "base/csum.h"

#define ETHERTYPE_QINQ 0x88a8
#define TAGS_MAX 2

#define IPV4_HDR_MIN 20
#define IPV4_FRAGMENT 0x3fff    /* more-fragments bit and offset */
#define IPV6_HDR_LEN 40
#define IPV6_EXTENSIONS_MAX 8
#define IP_LEN_MAX 65535

#define PROTO_HOPOPTS 0
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ROUTING 43
#define PROTO_DSTOPTS 60

#define TCP_HDR_MIN 20
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80
#define TCP_CSUM_OFFSET 16

#define UDP_HDR_LEN 8
#define UDP_CSUM_OFFSET 6

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

uint16_t gso_ethertype(const uint8_t *hdr, uint32_t n, uint32_t *l3)
{
    uint32_t at = ETH_HDR_LEN;

    for (unsigned tags = 0; tags <= TAGS_MAX && at <= n; tags++, at += VLAN_TAG_LEN) {
        const uint16_t ethertype = load16(hdr + at - 2);

        if (ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ) {
            *l3 = at;
            return ethertype;
        }
    }
    return 0;
}

static uint8_t proto_of(const struct gso *g)
{
    return g->udp ? PROTO_UDP : PROTO_TCP;
}

static enum drop_reason parse_ipv4(const uint8_t *hdr, uint32_t n, struct gso *g)
{
    const uint8_t *ip = hdr + g->l3;
    uint32_t claimed_len;

    if (n < g->l3 + IPV4_HDR_MIN || ip[0] >> 4 != 4)
        return DROP_offload;
    claimed_len = (ip[0] & 0xfu) * 4;
    if (claimed_len < IPV4_HDR_MIN || claimed_len > n - g->l3)
        return DROP_offload;
    if (ip[9] != proto_of(g) || (load16(ip + 6) & IPV4_FRAGMENT))
        return DROP_offload;
    g->l4 = g->l3 + claimed_len;
    g->pseudo = csum_add(wire16(proto_of(g)), ip + 12, 8);
    return DROP_none;
}

/*
 * Extension headers are copied into every segment; a fragment header cannot
 * be, and with a route still to go the pseudo header holds an address that
 * is not the destination field (RFC 8200, 8.1).
 */
static enum drop_reason parse_ipv6(const uint8_t *hdr, uint32_t n, struct gso *g)
{
    const uint8_t *ip = hdr + g->l3;
    uint32_t at = g->l3 + IPV6_HDR_LEN;
    uint8_t next;

    if (n < at || ip[0] >> 4 != 6)
        return DROP_offload;
    next = ip[6];
    for (unsigned i = 0; i < IPV6_EXTENSIONS_MAX && next != proto_of(g); i++) {
        if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_DSTOPTS)
            return DROP_offload;
        if (n - at < 8 || (next == PROTO_ROUTING && hdr[at + 3] != 0))
            return DROP_offload;
        next = hdr[at];
        at += (hdr[at + 1] + 1u) * 8;
        if (at > n)
            return DROP_offload;
    }
    if (next != proto_of(g))
        return DROP_offload;
    g->l4 = at;
    g->pseudo = csum_add(wire16(proto_of(g)), ip + 8, 32);
    return DROP_none;
}

/* The longest segment must have a length that its IP header can hold. */
static bool segment_fits_ip(const struct gso *g, uint32_t frame_len, const struct vnet *v)
{
    const uint32_t payload = frame_len - g->len;
    const uint32_t largest = payload < v->gso_size ? payload : v->gso_size;
    const uint32_t counted_from = g->ipv6 ? g->l3 + IPV6_HDR_LEN : g->l3;

    return g->len - counted_from + largest <= IP_LEN_MAX;
}

/* Does the frame hold what the request says? GSO_UDP_L4 says nothing about the version of IP (5.1.6). */
static bool agrees_with_request(uint16_t ethertype, uint8_t kind)
{
    if (ethertype == ETHERTYPE_IPV4)
        return kind != VNET_GSO_TCPV6;
    return ethertype == ETHERTYPE_IPV6 && kind != VNET_GSO_TCPV4;
}

/* The transport header behind @g->l4; 0 if it is malformed or not whole. */
static uint32_t l4_hdr_len(const struct gso *g, const uint8_t *hdr, uint32_t n, uint32_t csum_offset)
{
    const uint32_t room = n - g->l4;
    uint32_t claimed_len;

    if (g->udp)
        return room < UDP_HDR_LEN || csum_offset != UDP_CSUM_OFFSET ? 0 : UDP_HDR_LEN;
    if (room < TCP_HDR_MIN || csum_offset != TCP_CSUM_OFFSET)
        return 0;
    claimed_len = (hdr[g->l4 + 12] >> 4) * 4u;
    return claimed_len < TCP_HDR_MIN || claimed_len > room ? 0 : claimed_len;
}

enum drop_reason gso_parse(const uint8_t *hdr, uint32_t n, uint32_t frame_len, const struct vnet *v,
                           struct gso *out)
{
    const uint8_t kind = v->gso_type & (uint8_t)~VNET_GSO_ECN;
    enum drop_reason why;
    uint16_t ethertype;
    uint32_t l4_len;

    memset(out, 0, sizeof(*out));
    ethertype = gso_ethertype(hdr, n, &out->l3);
    out->ipv6 = ethertype == ETHERTYPE_IPV6;
    out->udp = kind == VNET_GSO_UDP_L4;
    if (!agrees_with_request(ethertype, kind))
        return DROP_offload;
    why = out->ipv6 ? parse_ipv6(hdr, n, out) : parse_ipv4(hdr, n, out);
    if (why != DROP_none)
        return why;
    l4_len = l4_hdr_len(out, hdr, n, v->csum_offset);
    if (out->l4 != v->csum_start || l4_len == 0)
        return DROP_offload;
    out->len = out->l4 + l4_len;
    if (v->gso_size == 0 || !segment_fits_ip(out, frame_len, v))
        return DROP_offload;
    return DROP_none;
}

static void write_ipv4(const struct gso *g, const struct gso_segment *s, uint8_t *ip)
{
    const uint32_t hdr_len = g->l4 - g->l3;
    uint16_t csum;

    store16(ip + 2, g->len - g->l3 + s->payload);
    store16(ip + 4, load16(ip + 4) + s->index);
    store16(ip + 10, 0);
    csum = (uint16_t)~csum_fold(csum_add(0, ip, hdr_len));
    memcpy(ip + 10, &csum, sizeof(csum));
}

/* What a sender of one frame leaves in the field (5.1.6.2). @len: bytes from the transport header on. */
static void write_pseudo(const struct gso *g, uint32_t len, uint8_t *field)
{
    const uint16_t n = wire16(len);
    const uint16_t csum = csum_fold(csum_add(g->pseudo, &n, sizeof(n)));

    memcpy(field, &csum, sizeof(csum));
}

static void write_tcp(const struct gso *g, const struct gso_segment *s, uint8_t *tcp)
{
    store32(tcp + 4, load32(tcp + 4) + s->offset);
    if (!s->last)
        tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    if (s->index != 0)          /* RFC 3168: the window was reduced once */
        tcp[13] &= (uint8_t)~TCP_CWR;
    write_pseudo(g, g->len - g->l4 + s->payload, tcp + TCP_CSUM_OFFSET);
}

static void write_udp(const struct gso *g, const struct gso_segment *s, uint8_t *udp)
{
    const uint32_t len = UDP_HDR_LEN + s->payload;

    store16(udp + 4, len);
    write_pseudo(g, len, udp + UDP_CSUM_OFFSET);
}

void gso_write(const struct gso *g, const uint8_t *model, const struct gso_segment *s, uint8_t *hdr)
{
    memcpy(hdr, model, g->len);
    if (g->ipv6)
        store16(hdr + g->l3 + 4, g->len - g->l3 - IPV6_HDR_LEN + s->payload);
    else
        write_ipv4(g, s, hdr + g->l3);
    if (g->udp)
        write_udp(g, s, hdr + g->l4);
    else
        write_tcp(g, s, hdr + g->l4);
}
