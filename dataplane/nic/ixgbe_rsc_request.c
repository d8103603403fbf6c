/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_rsc_request.c - see ixgbe_rsc.h.
 *
 * The device updates lengths, acknowledgement and PSH of the first header
 * (7.11.3), but not the sum of TCP, which must be the pseudo header's in a
 * request anyway.  Whatever it did, the header that is delivered is made
 * consistent here, in the snapshot.
 */
#include <string.h>

#include "base/csum.h"
#include "nic/ixgbe_rsc.h"
#include "vnet.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define IPV4_HDR 20
#define IPV6_HDR 40
#define TCP_HDR 20
#define PROTO_TCP 6

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* Sum of the pseudo header: addresses, protocol, length of the TCP packet (RFC 9293, 3.1; RFC 8200, 8.1). */
static uint16_t pseudo_sum(const uint8_t *addresses, uint32_t n, uint32_t tcp_len)
{
    const uint8_t rest[8] = { 0, 0, 0, PROTO_TCP, (uint8_t)(tcp_len >> 24), (uint8_t)(tcp_len >> 16),
                              (uint8_t)(tcp_len >> 8), (uint8_t)tcp_len };

    return csum_fold(csum_add(csum_add(0, addresses, n), rest, sizeof(rest)));
}

/* What the frame carries, behind one tag at most: more are not joined. */
static uint32_t ethertype(const uint8_t *hdr, uint32_t n, uint32_t *l3)
{
    *l3 = ETH_HDR_LEN;
    if (n >= ETH_HDR_LEN + VLAN_TAG_LEN && get16(hdr + 2 * ETH_ALEN) == ETHERTYPE_VLAN)
        *l3 += VLAN_TAG_LEN;
    return *l3 <= n ? get16(hdr + *l3 - 2) : 0;
}

/* The IP header of the whole; where TCP begins, or 0: it is none that the device joins. */
static uint32_t fix_ipv4(uint8_t *hdr, uint32_t n, uint32_t l3, uint32_t len)
{
    uint8_t *ip = hdr + l3;
    uint32_t ihl;
    uint16_t sum;

    if (l3 + IPV4_HDR > n)
        return 0;
    ihl = (ip[0] & 0xfu) * 4;
    if (ip[0] >> 4 != 4 || ihl < IPV4_HDR || l3 + ihl > n || ip[9] != PROTO_TCP || (get16(ip + 6) & 0x3fff))
        return 0;
    if (len - l3 > UINT16_MAX)
        return 0;
    put16(ip + 2, len - l3);
    put16(ip + 10, 0);
    sum = (uint16_t)~csum_fold(csum_add(0, ip, ihl));
    memcpy(ip + 10, &sum, sizeof(sum));
    return l3 + ihl;
}

static uint32_t fix_ipv6(uint8_t *hdr, uint32_t n, uint32_t l3, uint32_t len)
{
    uint8_t *ip = hdr + l3;

    if (l3 + IPV6_HDR > n || ip[0] >> 4 != 6 || ip[6] != PROTO_TCP || len - l3 - IPV6_HDR > UINT16_MAX)
        return 0;
    put16(ip + 4, len - l3 - IPV6_HDR);
    return l3 + IPV6_HDR;
}

/*
 * What a segment carried.  The device counts packets, not their sizes: the average is right for all but the last, and
 * never above what any of them had.  A count that makes no sense gives what a frame of the link can hold.
 */
static uint32_t segment_size(uint32_t payload, uint32_t packets, uint32_t most)
{
    uint32_t size = packets ? (payload + packets - 1) / packets : most;

    if (size > most)
        size = most;
    return size < VNET_GSO_SIZE_MIN ? VNET_GSO_SIZE_MIN : size;
}

enum drop_reason ixgbe_rsc_request(struct frame *f, uint32_t packets, uint32_t max_frame)
{
    uint32_t l3, l4, end, size;
    const uint32_t type = ethertype(f->hdr, f->hdr_len, &l3);
    const bool ipv6 = type == ETHERTYPE_IPV6;
    uint16_t sum;

    if (type != ETHERTYPE_IPV4 && !ipv6)
        return DROP_nic_rx;
    l4 = ipv6 ? fix_ipv6(f->hdr, f->hdr_len, l3, f->len) : fix_ipv4(f->hdr, f->hdr_len, l3, f->len);
    if (l4 == 0 || l4 + TCP_HDR > f->hdr_len)
        return DROP_nic_rx;
    end = l4 + (f->hdr[l4 + 12] >> 4) * 4u;
    if (end < l4 + TCP_HDR || end >= f->len || end >= max_frame)
        return DROP_nic_rx;
    sum = ipv6 ? pseudo_sum(f->hdr + l3 + 8, 32, f->len - l4) : pseudo_sum(f->hdr + l3 + 12, 8, f->len - l4);
    memcpy(f->hdr + l4 + 16, &sum, sizeof(sum));
    f->vnet = (struct vnet){ .flags = VNET_NEEDS_CSUM, .hdr_len = (uint16_t)end, .csum_start = (uint16_t)l4,
                             .csum_offset = 16 };
    /* The limit is without the tag, which lies before l3. */
    size = segment_size(f->len - end, packets, max_frame + l3 - ETH_HDR_LEN - end);
    if (f->len - end > size) {
        f->vnet.gso_type = ipv6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
        f->vnet.gso_size = (uint16_t)size;
    }
    return DROP_none;
}
