/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * packets.c - see packets.h.
 */
#include "policy/packets.h"

#include <string.h>

#define MAC_OWN 2, 0, 0, 0, 0, 0x0a
#define IP_OWN 10, 0, 0, 5
#define LINK_LOCAL 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5
#define GLOBAL 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9
#define ALL_NODES 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
#define NOBODY 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

const uint8_t own_mac[6] = { MAC_OWN };
const struct us_guard_pair own_pairs[OWN_PAIRS] = {
    { .mac = { MAC_OWN }, .family = US_GUARD_IPV4, .prefix_len = 32, .ip = { IP_OWN } },
    { .mac = { MAC_OWN }, .family = US_GUARD_IPV4, .prefix_len = 16, .ip = { 10, 1 } },
    { .mac = { MAC_OWN }, .family = US_GUARD_IPV6, .prefix_len = 128, .ip = { LINK_LOCAL } },
    { .mac = { MAC_OWN }, .family = US_GUARD_IPV6, .prefix_len = 64, .ip = { 0x20, 0x01, 0x0d, 0xb8, 0, 1 } },
    { .mac = { 2, 0, 0, 0, 0, 0x0b }, .family = US_GUARD_IPV4, .prefix_len = 32, .ip = { 10, 0, 0, 6 } },
    { .mac = { 2, 0, 0, 0, 0, 0x0c }, .family = US_GUARD_MAC },
};

static void put(struct packet *p, const void *bytes, uint32_t n)
{
    memcpy(p->data + p->len, bytes, n);
    p->len += n;
}

#define PUT(p, ...)                                   \
    do {                                              \
        const uint8_t bytes_[] = { __VA_ARGS__ };     \
        put(p, bytes_, sizeof(bytes_));               \
    } while (0)

/* Bytes of a pattern that is no header. */
static void fill(struct packet *p, uint32_t n)
{
    memset(p->data + p->len, 0xa5, n);
    p->len += n;
}

static void ethernet(struct packet *p, uint16_t type)
{
    p->len = 0;
    PUT(p, 2, 0, 0, 0, 0, 0x77, MAC_OWN, (uint8_t)(type >> 8), (uint8_t)type);
}

static void arp(struct packet *p, uint16_t type, uint8_t operation, const uint8_t spa[4])
{
    ethernet(p, type);
    PUT(p, 0, 1, 8, 0, 6, 4, 0, operation, MAC_OWN);
    put(p, spa, 4);
    PUT(p, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1);
    p->judged = p->len;
    p->cut = DROP_guard_arp;
    fill(p, 18);
}

/* Header and upper layer; the total length is right. */
static void ipv4(struct packet *p, uint8_t protocol, const uint8_t source[4], uint32_t options, uint16_t fragment,
                 uint32_t judged, uint32_t payload)
{
    const uint32_t hdr = 20 + options, total = hdr + payload;

    ethernet(p, 0x0800);
    PUT(p, (uint8_t)(0x40 | hdr / 4), 0, (uint8_t)(total >> 8), (uint8_t)total, 0x12, 0x34, (uint8_t)(fragment >> 8),
        (uint8_t)fragment, 64, protocol, 0, 0);
    put(p, source, 4);
    PUT(p, 10, 9, 9, 9);
    memset(p->data + p->len, 1, options);      /* no operation */
    p->len += options;
    p->judged = p->len + judged;
    p->cut = DROP_guard_ip;
    fill(p, payload);
}

static void udp_ports(struct packet *p, uint32_t at, uint16_t from, uint16_t to)
{
    p->data[at] = (uint8_t)(from >> 8);
    p->data[at + 1] = (uint8_t)from;
    p->data[at + 2] = (uint8_t)(to >> 8);
    p->data[at + 3] = (uint8_t)to;
}

static void ipv6(struct packet *p, uint8_t next, uint8_t hops, const uint8_t source[16])
{
    ethernet(p, 0x86dd);
    PUT(p, 0x60, 0, 0, 0, 0, 0, next, hops);
    put(p, source, 16);
    PUT(p, ALL_NODES);
    p->judged = p->len;
    p->cut = DROP_guard_ip;
}

/* The payload length, now that the packet is whole; @judged bytes of the frame decide. */
static void ipv6_end(struct packet *p, uint32_t judged, enum drop_reason cut)
{
    const uint32_t payload = p->len - AT_IPV6_UP;

    p->data[AT_IPV6_PAYLOAD] = (uint8_t)(payload >> 8);
    p->data[AT_IPV6_PAYLOAD + 1] = (uint8_t)payload;
    p->judged = judged;
    p->cut = cut;
    p->cut_from = p->data[AT_IPV6_NEXT] == 0 ? AT_IPV6_UP + 8 : AT_IPV6_UP;
}

static const uint8_t ip_own[] = { IP_OWN }, ip_none[4], link_local[] = { LINK_LOCAL }, global[] = { GLOBAL },
                     nobody[] = { NOBODY };

static void make_ipv6(struct packet *p, enum packet_kind kind)
{
    switch (kind) {
    case PACKET_TCP6:
        ipv6(p, 6, 64, global);
        fill(p, 40);
        ipv6_end(p, AT_IPV6_UP, DROP_guard_ip);
        break;
    case PACKET_UDP6:
        ipv6(p, 17, 64, global);
        fill(p, 40);
        ipv6_end(p, AT_IPV6_UP + 8, DROP_guard_ip);
        break;
    case PACKET_PING6:
        ipv6(p, 58, 64, global);
        PUT(p, 128, 0, 0, 0);
        fill(p, 60);
        ipv6_end(p, AT_IPV6_UP + 4, DROP_guard_nd);
        break;
    case PACKET_EXTENSIONS:     /* hop by hop, destination, routing, destination, UDP */
        ipv6(p, 0, 64, global);
        PUT(p, 60, 0, 1, 4, 0, 0, 0, 0);
        PUT(p, 43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        PUT(p, 60, 0, 4, 0, 0, 0, 0, 0);
        PUT(p, 17, 0, 1, 4, 0, 0, 0, 0);
        fill(p, 24);
        ipv6_end(p, AT_IPV6_UP + 40 + 8, DROP_guard_ip);
        break;
    case PACKET_FIRST_FRAGMENT6:
        ipv6(p, 44, 64, global);
        PUT(p, 17, 0, 0, 1, 1, 2, 3, 4);
        fill(p, 48);
        ipv6_end(p, AT_IPV6_UP + 16, DROP_guard_ip);
        break;
    case PACKET_LATER_FRAGMENT6:
        ipv6(p, 44, 64, global);
        PUT(p, 17, 0, 1024 >> 8, 1, 1, 2, 3, 4);
        fill(p, 48);
        ipv6_end(p, AT_IPV6_UP + 8, DROP_guard_ip);
        break;
    case PACKET_AH:             /* and UDP behind it */
        ipv6(p, 51, 64, global);
        PUT(p, 17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9);
        fill(p, 32);
        ipv6_end(p, AT_IPV6_UP + 24 + 8, DROP_guard_ip);
        break;
    default:                    /* PACKET_ESP */
        ipv6(p, 50, 64, global);
        fill(p, 60);
        ipv6_end(p, AT_IPV6_UP, DROP_guard_ip);
    }
}

static void make_nd(struct packet *p, enum packet_kind kind)
{
    switch (kind) {
    case PACKET_NS:
        ipv6(p, 58, 255, link_local);
        PUT(p, 135, 0, 0, 0, 0, 0, 0, 0, GLOBAL, 1, 1, MAC_OWN);
        break;
    case PACKET_NA:             /* an option nobody knows, then the target's address */
        ipv6(p, 58, 255, link_local);
        PUT(p, 136, 0, 0, 0, 0x60, 0, 0, 0, GLOBAL, 14, 1, 0, 0, 0, 0, 0, 0, 2, 1, MAC_OWN);
        break;
    case PACKET_RS:
        ipv6(p, 58, 255, link_local);
        PUT(p, 133, 0, 0, 0, 0, 0, 0, 0, 1, 1, MAC_OWN);
        break;
    case PACKET_DAD:
        ipv6(p, 58, 255, nobody);
        PUT(p, 135, 0, 0, 0, 0, 0, 0, 0, GLOBAL);
        break;
    default:                    /* PACKET_MLD2, PACKET_MLD2_UNSPECIFIED: router alert before it */
        ipv6(p, 0, 1, kind == PACKET_MLD2 ? link_local : nobody);
        PUT(p, 58, 0, 5, 2, 0, 0, 1, 0);
        PUT(p, 143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 9);
        ipv6_end(p, AT_IPV6_UP + 8 + 4, DROP_guard_nd);
        return;
    }
    ipv6_end(p, p->len, DROP_guard_nd);
}

void packet_make(struct packet *p, enum packet_kind kind)
{
    memset(p, 0, sizeof(*p));
    switch (kind) {
    case PACKET_ARP_REQUEST: arp(p, 0x0806, 1, ip_own); break;
    case PACKET_ARP_REPLY: arp(p, 0x0806, 2, ip_own); break;
    case PACKET_ARP_PROBE: arp(p, 0x0806, 1, ip_none); break;
    case PACKET_RARP: arp(p, 0x8035, 3, ip_none); break;
    case PACKET_TCP: ipv4(p, 6, ip_own, 0, 0x4000, 0, 40); break;
    case PACKET_UDP: ipv4(p, 17, ip_own, 0, 0, 4, 40); break;
    case PACKET_PING: ipv4(p, 1, ip_own, 0, 0, 0, 40); break;
    case PACKET_IP_OPTIONS: ipv4(p, 17, ip_own, 40, 0, 4, 40); break;
    case PACKET_LATER_FRAGMENT: ipv4(p, 17, ip_own, 0, 0x2001, 0, 40); break;
    case PACKET_DISCOVER:
        ipv4(p, 17, ip_none, 0, 0, 4, 120);
        udp_ports(p, AT_IPV4_UP, 68, 67);
        break;
    case PACKET_NS:
    case PACKET_NA:
    case PACKET_RS:
    case PACKET_DAD:
    case PACKET_MLD2:
    case PACKET_MLD2_UNSPECIFIED: make_nd(p, kind); break;
    default: make_ipv6(p, kind); break;
    }
}

const char *packet_name(enum packet_kind kind)
{
    static const char *const name[PACKET_KINDS] = {
        "ARP request", "ARP reply", "ARP probe", "RARP", "TCP", "UDP", "ping", "IPv4 options", "later fragment",
        "DHCP discover", "TCP over IPv6", "UDP over IPv6", "ping over IPv6", "extension headers",
        "first fragment, IPv6", "later fragment, IPv6", "AH", "ESP", "neighbor solicitation",
        "neighbor advertisement", "router solicitation", "duplicate address detection", "MLD report",
        "MLD report from nobody",
    };

    return name[kind];
}
