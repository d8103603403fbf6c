/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_offload.c - see intel_offload.h.
 *
 * The adapters put a checksum where the lengths of the headers and the kind
 * of the transport say, not where they are told to; so the headers are parsed,
 * and a request they do not agree with is completed in software, or dropped if
 * it is about segments.
 */
#include "nic/intel_offload.h"

#include <string.h>

#include "base/csum.h"
#include "base/guest.h"
#include "nic/dma.h"
#include "nic/intel_desc.h"

#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define TAGS_MAX 2

#define IPV4_HDR_MIN 20
#define IPV4_FRAGMENT 0x3fff    /* more-fragments bit and offset */
#define IPV6_HDR_LEN 40
#define IPV6_EXTENSIONS_MAX 4
#define PROTO_HOPOPTS 0
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_DSTOPTS 60

#define TCP_HDR_MIN 20
#define TCP_CSUM_OFFSET 16
#define UDP_CSUM_OFFSET 6

/**
 * struct headers - what was found in a snapshot
 * @hdr: snapshot
 * @n: bytes there that are looked at, at most SNAP_SIZE
 * @l3: offset of the IP header
 * @ipv6: its version
 * @proto: the transport
 */
struct headers {
    const uint8_t *hdr;
    uint32_t n;
    uint32_t l3;
    bool ipv6;
    uint8_t proto;
};

static uint32_t load16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

/* Past the tags inside the frame, to a version of IP. */
static bool find_ip(struct headers *h)
{
    uint32_t at = ETH_HDR_LEN;

    for (unsigned tags = 0; tags <= TAGS_MAX && at <= h->n; tags++, at += VLAN_TAG_LEN) {
        const uint32_t ethertype = load16(h->hdr + at - 2);

        if (ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ)
            continue;
        h->l3 = at;
        h->ipv6 = ethertype == ETHERTYPE_IPV6;
        return h->ipv6 || ethertype == ETHERTYPE_IPV4;
    }
    return false;
}

/* Offset of the transport header; 0 if there is none that the device could make a checksum for. */
static uint32_t find_l4_ipv4(struct headers *h)
{
    const uint8_t *const ip = h->hdr + h->l3;
    uint32_t claimed_len;

    if (h->n - h->l3 < IPV4_HDR_MIN || ip[0] >> 4 != 4)
        return 0;
    claimed_len = (ip[0] & 0xfu) * 4;
    if (claimed_len < IPV4_HDR_MIN || (load16(ip + 6) & IPV4_FRAGMENT))
        return 0;
    h->proto = ip[9];
    return h->l3 + claimed_len;
}

/* With a route still to go the destination is not the pseudo header's (RFC 8200, 8.1): left to software. */
static uint32_t find_l4_ipv6(struct headers *h)
{
    uint32_t at = h->l3 + IPV6_HDR_LEN;

    if (h->n < at || h->hdr[h->l3] >> 4 != 6)
        return 0;
    h->proto = h->hdr[h->l3 + 6];
    for (unsigned i = 0; i < IPV6_EXTENSIONS_MAX && (h->proto == PROTO_HOPOPTS || h->proto == PROTO_DSTOPTS); i++) {
        if (at + 8 > h->n)
            return 0;
        h->proto = h->hdr[at];
        at += (h->hdr[at + 1] + 1u) * 8;
    }
    return at;
}

/* Do the headers say what the request says?  Fills @h. */
static bool agree(struct headers *h, const struct vnet *v)
{
    uint32_t l4;

    if (!find_ip(h))
        return false;
    l4 = h->ipv6 ? find_l4_ipv6(h) : find_l4_ipv4(h);
    if (l4 == 0 || l4 != v->csum_start || l4 - h->l3 > INTEL_CTX_IPLEN_MAX)
        return false;
    if (h->proto == PROTO_TCP)
        return v->csum_offset == TCP_CSUM_OFFSET;
    return h->proto == PROTO_UDP && v->csum_offset == UDP_CSUM_OFFSET;
}

static uint16_t pseudo_sum(const struct headers *h)
{
    const uint8_t *const ip = h->hdr + h->l3;
    const uint8_t proto[2] = { 0, PROTO_TCP };
    const uint64_t sum = csum_add(0, h->ipv6 ? ip + 8 : ip + 12, h->ipv6 ? 32 : 8);

    return csum_fold(csum_add(sum, proto, sizeof(proto)));
}

/* After agree(): the part of the request that is about segments. */
static enum drop_reason parse_tso(const struct headers *h, const struct frame *f, uint32_t max_frame, uint32_t shift,
                                  struct intel_request *out)
{
    const uint8_t kind = f->vnet.gso_type & (uint8_t)~VNET_GSO_ECN;
    const uint32_t l4 = f->vnet.csum_start;
    uint32_t claimed_len, hdr_len;

    if (h->proto != PROTO_TCP || kind != (h->ipv6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4) || l4 + TCP_HDR_MIN > h->n)
        return DROP_offload;
    claimed_len = (h->hdr[l4 + 12] >> 4) * 4u;
    hdr_len = l4 + claimed_len;
    /* Without payload there is nothing to segment, and the device waits for it. */
    if (claimed_len < TCP_HDR_MIN || hdr_len > h->n || hdr_len >= f->len || f->vnet.gso_size == 0)
        return DROP_offload;
    if (hdr_len + f->vnet.gso_size > max_frame && f->len > max_frame)
        return DROP_mtu;
    out->command = INTEL_TX_TSE;
    out->options = INTEL_TX_TXSM | (h->ipv6 ? 0 : INTEL_TX_IXSM);
    out->hdr_len = hdr_len + shift;
    out->l3 = h->l3 + shift;
    out->l4 = l4 + shift;
    out->ipv6 = h->ipv6;
    out->pseudo = pseudo_sum(h);
    out->context[1] |= INTEL_CTX_L4LEN(claimed_len) | INTEL_CTX_MSS(f->vnet.gso_size);
    return DROP_none;
}

enum drop_reason intel_offload_parse(const struct frame *f, uint32_t max_frame, struct intel_request *out)
{
    const uint32_t shift = f->out_vid == US_VID_UNTAGGED ? 0 : VLAN_TAG_LEN;
    struct headers h = { .hdr = f->hdr, .n = f->hdr_len < SNAP_SIZE ? f->hdr_len : SNAP_SIZE };
    const bool tso = f->vnet.gso_type != VNET_GSO_NONE;

    *out = (struct intel_request){ 0 };
    if (!agree(&h, &f->vnet)) {
        out->software = true;
        return tso ? DROP_offload : DROP_none;
    }
    out->options = INTEL_TX_TXSM;
    out->context[0] = INTEL_CTX_MACLEN(h.l3 + shift) | INTEL_CTX_IPLEN(f->vnet.csum_start - h.l3);
    out->context[1] = INTEL_TX_CONTEXT | INTEL_TX_DEXT | (h.ipv6 ? 0 : INTEL_CTX_IPV4) |
                      (h.proto == PROTO_TCP ? INTEL_CTX_TCP : INTEL_CTX_UDP);
    return tso ? parse_tso(&h, f, max_frame, shift, out) : DROP_none;
}

void intel_offload_edit(const struct intel_request *q, uint8_t *frame)
{
    uint8_t *const ip = frame + q->l3;

    if (q->ipv6) {
        memset(ip + 4, 0, 2);
    } else {
        memset(ip + 2, 0, 2);
        memset(ip + 10, 0, 2);
    }
    memcpy(frame + q->l4 + TCP_CSUM_OFFSET, &q->pseudo, sizeof(q->pseudo));
}

/*
 * The field already holds the sum of the pseudo header (virtio 1.2, 5.1.6.2),
 * so that it counts like the rest.  Zero is written as its other form: RFC 768.
 */
void intel_offload_complete(const struct vnet *v, uint32_t shift, uint32_t len, uint8_t *const *buf)
{
    const uint32_t start = v->csum_start + shift, field = start + v->csum_offset;
    uint64_t sum = 0;
    uint16_t csum;

    for (uint32_t at = start; at < len;) {
        const uint32_t room = DMA_BUF_SIZE - at % DMA_BUF_SIZE, part = len - at < room ? len - at : room;
        const uint16_t piece = csum_fold(csum_add(0, buf[at / DMA_BUF_SIZE] + at % DMA_BUF_SIZE, part));

        /* An odd beginning: its bytes count the other way round (RFC 1071, 2.B). */
        sum += (at - start) % 2 ? __builtin_bswap16(piece) : piece;
        at += part;
    }
    csum = (uint16_t)~csum_fold(sum);
    if (csum == 0)
        csum = 0xffff;
    for (uint32_t i = 0; i < sizeof(csum); i++)
        buf[(field + i) / DMA_BUF_SIZE][(field + i) % DMA_BUF_SIZE] = ((const uint8_t *)&csum)[i];
}
