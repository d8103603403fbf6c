/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * frame.h - a frame on its way through the switch, and a burst of them.
 *
 * A frame is a view, not a buffer: its first bytes are a private snapshot
 * (hdr, hdr_len) that no guest can reach, the rest (iov) still lies where the
 * source keeps it.  What is decided upon is the snapshot, and the snapshot is
 * what is delivered (design law 3); the rest is copied once, straight to the
 * destination (law 2), and never looked at, except by the software offloads,
 * which work on a copy of their own.
 *
 * Canonical form: between rx_burst and tx_burst a frame carries no 802.1Q tag
 * of ours.  switch.c cuts the tag out of the snapshot (HDR_ROOM bytes of head
 * room let the addresses move up) and the driver of the receiving port writes
 * the egress tag beside the addresses.  Offsets in vnet count from the start
 * of the canonical frame.
 *
 * Everything here belongs to one worker thread.
 */
#ifndef USWITCH_FRAME_H
#define USWITCH_FRAME_H

#include <stdint.h>
#include <sys/uio.h>

#include "hold.h"
#include "include/uswitch.h"

#define BURST_MAX 64            /* frames taken from one queue in one turn */
#define BURST_BYTES 262144      /* and bytes, at least one frame */
#define SNAP_SIZE 128           /* bytes of snapshot a frame, at most */
#define SNAP_SHORT 64           /* bytes that suffice for the forwarding decision */
/* Scatter entries of a burst: the longest legal chain always fits. */
#define BURST_IOV (US_RING_SIZE_MAX + 2048)

#define ETH_ALEN 6
#define ETH_HDR_LEN 14
#define VLAN_TAG_LEN 4
#define ETHERTYPE_VLAN 0x8100

/* struct vnet.flags, struct vnet.gso_type: the values of virtio 1.2, 5.1.6. */
#define VNET_NEEDS_CSUM 1
#define VNET_DATA_VALID 2
#define VNET_GSO_NONE 0
#define VNET_GSO_TCPV4 1
#define VNET_GSO_TCPV6 4
#define VNET_GSO_UDP_L4 5       /* USO; IPv4 and IPv6 */
#define VNET_GSO_ECN 0x80

/* What a receiving port takes without help (struct port.offloads). */
#define OFFLOAD_CSUM 1
#define OFFLOAD_TSO4 2
#define OFFLOAD_TSO6 4
#define OFFLOAD_ECN 8
#define OFFLOAD_USO4 16
#define OFFLOAD_USO6 32

/**
 * struct vnet - parsed and validated offload request of a frame
 * @flags: VNET_NEEDS_CSUM, VNET_DATA_VALID or 0
 * @gso_type: VNET_GSO_*
 * @hdr_len: bytes of all headers, 0 if unknown; a hint, never trusted
 * @gso_size: payload bytes of a segment, > 0 if gso_type is not NONE
 * @csum_start: where checksumming starts, < frame length
 * @csum_offset: where from there the sum goes; csum_start + csum_offset + 2 <= frame length
 *
 * Host byte order; all zero means "an ordinary frame".
 */
struct vnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
};

/**
 * struct frame - one frame of a burst
 * @hdr: snapshot; at least HDR_ROOM writable bytes lie before it
 * @hdr_len: bytes in the snapshot, >= min(len, 18); may be the whole frame
 * @len: bytes of the whole frame, hdr_len + the sum of iov; >= ETH_HDR_LEN
 * @iov: the rest, in the source's memory; entries are never empty, and belong to the burst
 * @n_iov: number of entries, 0 if the snapshot is the whole frame
 * @segment: broadcast domain, set by the switch; US_SEGMENT_NONE before
 * @pcp: priority and DEI bits of the ingress tag (tag control information with VID 0), 0 if untagged
 * @out_vid: set by the switch before tx_burst: US_VID_UNTAGGED or the tag to write
 * @flooded: 1 if this delivery is a flood copy
 * @drop: enum drop_reason, 0 while alive
 * @vnet: offload request
 * @hold: what @iov names stays as it is when the burst is over, for who is named there; NULL: it does not
 */
struct frame {
    uint8_t *hdr;
    struct iovec *iov;
    uint32_t hdr_len;
    uint32_t len;
    uint32_t n_iov;
    uint16_t segment;
    uint16_t pcp;
    uint16_t out_vid;
    uint8_t flooded;
    uint8_t drop;
    struct vnet vnet;
    struct hold *hold;
};

#define HDR_ROOM 16

/**
 * frame_lengthen() - move bytes of the rest into the snapshot
 * @f: frame; its snapshot has room for @want bytes, its entries of @iov are changed
 * @want: how long the snapshot is to become; less if the frame is shorter
 *
 * Each byte is fetched once, as all of the snapshot is.
 */
void frame_lengthen(struct frame *f, uint32_t want);

/**
 * struct burst - the frames of one rx_burst, with the memory they need
 * @n: frames filled
 * @n_iov: entries of @iov in use
 * @held_back: take so many fewer than BURST_MAX, 0 .. BURST_MAX - 1; set by the worker
 * @hold: who reads its frames longer than it lasts; belongs to the source, which points its frames there or does not
 * @frame: the frames
 * @snap: HDR_ROOM bytes of room and a snapshot for each frame
 * @iov: pool from which the frames' scatter lists are cut
 *
 * A worker owns one, allocated once.
 */
struct burst {
    uint32_t n;
    uint32_t n_iov;
    uint32_t held_back;
    struct hold hold;
    struct frame frame[BURST_MAX];
    uint8_t snap[BURST_MAX][HDR_ROOM + SNAP_SIZE] __attribute__((aligned(64)));
    struct iovec iov[BURST_IOV];
};

#endif /* USWITCH_FRAME_H */
