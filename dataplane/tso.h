/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tso.h - the headers of a TCP segmentation request: found once, in a private
 * copy, then written anew for each segment.  Used by offload.c alone; pure
 * functions on private memory, worker thread.
 */
#ifndef USWITCH_TSO_H
#define USWITCH_TSO_H

#include <stdbool.h>
#include <stdint.h>

#include "drop.h"
#include "frame.h"

/* Ethernet, two tags, IPv4 with options or IPv6 with some extension headers, TCP with options. */
#define TSO_HDR_MAX 256

/**
 * struct tso - where the headers are
 * @l3: offset of the IP header
 * @l4: offset of the TCP header, equal to the frame's csum_start
 * @len: bytes of all headers, at most TSO_HDR_MAX
 * @ipv6: IPv6, not IPv4
 * @pseudo: sum over the pseudo header without its length field, unfolded
 */
struct tso {
    uint32_t l3;
    uint32_t l4;
    uint32_t len;
    bool ipv6;
    uint64_t pseudo;
};

/**
 * struct tso_segment - one segment's place in the whole
 * @index: 0 for the first
 * @offset: payload bytes before it
 * @payload: its own payload bytes
 * @last: nothing follows
 */
struct tso_segment {
    uint32_t index;
    uint32_t offset;
    uint32_t payload;
    bool last;
};

/**
 * tso_parse() - find the headers and see that they agree with the request
 * @hdr: private copy of the frame's first bytes
 * @n: bytes there, min(frame_len, TSO_HDR_MAX)
 * @frame_len: bytes of the whole frame, at most US_FRAME_MAX
 * @v: the request, a TCP segmentation
 * @out: filled on success
 *
 * Return: DROP_none or DROP_offload.
 */
enum drop_reason tso_parse(const uint8_t *hdr, uint32_t n, uint32_t frame_len, const struct vnet *v,
                           struct tso *out);

/**
 * tso_write() - make the headers of one segment
 * @t: from tso_parse()
 * @model: the bytes tso_parse() saw
 * @s: which segment
 * @hdr: @t->len bytes to fill; the TCP checksum field gets the folded pseudo header sum (virtio 1.2, 5.1.6.2)
 */
void tso_write(const struct tso *t, const uint8_t *model, const struct tso_segment *s, uint8_t *hdr);

#endif /* USWITCH_TSO_H */
