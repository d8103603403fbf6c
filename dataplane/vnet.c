/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vnet.c - see vnet.h.  All arithmetic is on 32-bit copies of 16-bit fields,
 * so nothing can wrap.
 */
#include "vnet.h"

#include <stdbool.h>
#include <string.h>

#include "base/le.h"

/* struct virtio_net_hdr.flags: the bit that turns the checksum fields into coalescing counts (5.1.6.4). */
#define WIRE_RSC_INFO 4

#define TCP_HDR_MIN 20
#define TCP_CSUM_OFFSET 16
#define UDP_HDR_LEN 8
#define UDP_CSUM_OFFSET 6

/* Offsets must still fit 16 bits when the receiving port writes a tag. */
#define OFFSET_MAX (UINT16_MAX - VLAN_TAG_LEN)

/* struct virtio_net_hdr of virtio 1.2, 5.1.6, without num_buffers. */
struct wire_hdr {
    uint8_t flags;
    uint8_t gso_type;
    le16 hdr_len;
    le16 gso_size;
    le16 csum_start;
    le16 csum_offset;
};
_Static_assert(sizeof(struct wire_hdr) == VNET_WIRE_LEN, "virtio_net_hdr has 10 bytes");

static enum drop_reason parse_csum(const struct wire_hdr *h, uint32_t frame_len, uint32_t allowed, struct vnet *out)
{
    const uint32_t claimed_start = le16_to_cpu(h->csum_start);
    const uint32_t claimed_offset = le16_to_cpu(h->csum_offset);

    if (!(allowed & OFFLOAD_CSUM))
        return DROP_vnet_csum;
    if (claimed_start < ETH_HDR_LEN || claimed_start > OFFSET_MAX)
        return DROP_vnet_csum;
    if (claimed_start + claimed_offset + 2 > frame_len)
        return DROP_vnet_csum;
    out->flags = VNET_NEEDS_CSUM;
    out->csum_start = (uint16_t)claimed_start;
    out->csum_offset = (uint16_t)claimed_offset;
    return DROP_none;
}

/* Offloads a sender must have negotiated for a type; 0 for UFO and what is not defined yet: never offered. */
static uint32_t gso_need(uint8_t gso_type)
{
    switch (gso_type) {
    case VNET_GSO_TCPV4:
        return OFFLOAD_TSO4;
    case VNET_GSO_TCPV4 | VNET_GSO_ECN:
        return OFFLOAD_TSO4 | OFFLOAD_ECN;
    case VNET_GSO_TCPV6:
        return OFFLOAD_TSO6;
    case VNET_GSO_TCPV6 | VNET_GSO_ECN:
        return OFFLOAD_TSO6 | OFFLOAD_ECN;
    case VNET_GSO_UDP_L4:       /* HOST_USO is one bit for both versions of IP; ECN is a matter of TCP */
        return OFFLOAD_USO4 | OFFLOAD_USO6;
    default:
        return 0;
    }
}

/* Is the request's segment size one we work for? @payload: bytes to be cut. */
static bool gso_size_is_fair(uint8_t gso_type, uint32_t size, uint32_t payload)
{
    if (gso_type != VNET_GSO_UDP_L4)
        return size >= VNET_GSO_SIZE_MIN;
    return size > 0 && payload <= size * VNET_GSO_SEGS_MAX;
}

static uint32_t l4_hdr_min(uint8_t gso_type)
{
    return gso_type == VNET_GSO_UDP_L4 ? UDP_HDR_LEN : TCP_HDR_MIN;
}

/*
 * After parse_csum(): 5.1.6.2.1 wants NEEDS_CSUM with every segmentation
 * request, and where the checksum lies is where the TCP or UDP header lies.
 */
static enum drop_reason parse_gso(const struct wire_hdr *h, uint32_t frame_len, uint32_t allowed, struct vnet *out)
{
    const uint32_t claimed_size = le16_to_cpu(h->gso_size);
    const uint32_t need = gso_need(h->gso_type);
    const uint32_t l4_end = out->csum_start + l4_hdr_min(h->gso_type);
    const uint16_t csum_offset = h->gso_type == VNET_GSO_UDP_L4 ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET;

    if (need == 0 || (need & ~allowed))
        return DROP_vnet_gso;
    if (!(out->flags & VNET_NEEDS_CSUM) || out->csum_offset != csum_offset || l4_end > frame_len)
        return DROP_vnet_gso;
    if (!gso_size_is_fair(h->gso_type, claimed_size, frame_len - l4_end))
        return DROP_vnet_gso;
    out->gso_type = h->gso_type;
    out->gso_size = (uint16_t)claimed_size;
    return DROP_none;
}

/* A hint for the receiver (5.1.6.4.1: at least the length of the headers): kept inside the frame. */
static uint16_t bound_hdr_len(uint32_t claimed_len, uint32_t frame_len, const struct vnet *v)
{
    uint32_t len = claimed_len;

    if (v->gso_type != VNET_GSO_NONE && len < v->csum_start + l4_hdr_min(v->gso_type))
        len = v->csum_start + l4_hdr_min(v->gso_type);
    if (len > frame_len)
        len = frame_len;
    if (len > OFFSET_MAX)
        len = OFFSET_MAX;
    return (uint16_t)len;
}

enum drop_reason vnet_parse(const uint8_t wire[VNET_WIRE_LEN], uint32_t frame_len, uint32_t allowed,
                            struct vnet *out)
{
    enum drop_reason why;
    struct wire_hdr h;

    memset(out, 0, sizeof(*out));
    memcpy(&h, wire, sizeof(h));
    /* Flags we do not know are ignored (5.1.6.2.2), DATA_VALID is not a sender's to give. */
    if (h.flags & WIRE_RSC_INFO)
        return DROP_vnet_gso;
    if (h.flags & VNET_NEEDS_CSUM) {
        why = parse_csum(&h, frame_len, allowed, out);
        if (why != DROP_none)
            return why;
    }
    if (h.gso_type != VNET_GSO_NONE) {
        why = parse_gso(&h, frame_len, allowed, out);
        if (why != DROP_none)
            return why;
    }
    if (out->flags)
        out->hdr_len = bound_hdr_len(le16_to_cpu(h.hdr_len), frame_len, out);
    return DROP_none;
}

void vnet_format(const struct vnet *v, uint32_t shift, uint8_t wire[VNET_WIRE_LEN])
{
    struct wire_hdr h = { .flags = v->flags, .gso_type = v->gso_type };

    if (v->flags & VNET_NEEDS_CSUM) {
        h.csum_start = cpu_to_le16((uint16_t)(v->csum_start + shift));
        h.csum_offset = cpu_to_le16(v->csum_offset);
    }
    if (v->gso_type != VNET_GSO_NONE)
        h.gso_size = cpu_to_le16(v->gso_size);
    if (v->hdr_len)
        h.hdr_len = cpu_to_le16((uint16_t)(v->hdr_len + shift));
    memcpy(wire, &h, sizeof(h));
}
