/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * gso.h - the headers of a segmentation request (TCP: TSO, UDP: USO): found once, in
 * a private copy, then written anew for each segment.  Used by offload.c alone; pure
 * functions on private memory, worker thread.
 */
#ifndef USWITCH_GSO_H
#define USWITCH_GSO_H

#include <stdbool.h>
#include <stdint.h>

#include "drop.h"
#include "frame.h"

/* Ethernet, two tags, IPv4 with options or IPv6 with some extension headers, TCP with options or UDP. */
#define GSO_HDR_MAX 256

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd

/**
 * struct gso - where the headers are
 * @l3: offset of the IP header
 * @l4: offset of the TCP or UDP header, equal to the frame's csum_start
 * @len: bytes of all headers, at most GSO_HDR_MAX
 * @ipv6: IPv6, not IPv4
 * @udp: UDP, not TCP
 * @pseudo: sum over the pseudo header without its length field, unfolded
 */
struct gso {
    uint32_t l3;
    uint32_t l4;
    uint32_t len;
    bool ipv6;
    bool udp;
    uint64_t pseudo;
};

/**
 * struct gso_segment - one segment's place in the whole
 * @index: 0 for the first
 * @offset: payload bytes before it
 * @payload: its own payload bytes
 * @last: nothing follows
 */
struct gso_segment {
    uint32_t index;
    uint32_t offset;
    uint32_t payload;
    bool last;
};

/**
 * gso_ethertype() - what a frame carries, past the tags inside it
 * @hdr: private copy of its first bytes
 * @n: bytes there
 * @l3: where that begins, if it is found
 *
 * Return: an EtherType, 0 if the bytes end before it or there are more tags than anybody stacks.
 */
uint16_t gso_ethertype(const uint8_t *hdr, uint32_t n, uint32_t *l3);

/**
 * gso_parse() - find the headers and see that they agree with the request
 * @hdr: private copy of the frame's first bytes
 * @n: bytes there, min(frame_len, GSO_HDR_MAX)
 * @frame_len: bytes of the whole frame, at most US_FRAME_MAX
 * @v: the request, a segmentation
 * @out: filled on success
 *
 * Return: DROP_none or DROP_offload.
 */
enum drop_reason gso_parse(const uint8_t *hdr, uint32_t n, uint32_t frame_len, const struct vnet *v,
                           struct gso *out);

/**
 * gso_write() - make the headers of one segment
 * @g: from gso_parse()
 * @model: the bytes gso_parse() saw
 * @s: which segment
 * @hdr: @g->len bytes to fill; the checksum field gets the folded pseudo header sum (virtio 1.2, 5.1.6.2)
 */
void gso_write(const struct gso *g, const uint8_t *model, const struct gso_segment *s, uint8_t *hdr);

#endif /* USWITCH_GSO_H */
