/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split_tx.h - what the two halves of the way into a receive ring share:
 * the burst's state, and the front of each frame.  Fast path and burst are in
 * virtq_split_tx.c, frames that need more than one descriptor in
 * virtq_split_merge.c.  Included by these two only.
 */
#ifndef USWITCH_VIRTQ_SPLIT_TX_H
#define USWITCH_VIRTQ_SPLIT_TX_H

#include "vhost/virtq_split.h"
#include "vnet.h"

#define NUM_BUFFERS_OFFSET 10
/* Room for header, addresses and tag: 28 bytes at most. */
#define FRONT_SIZE 32

/**
 * struct slot - a chain that is next in turn, looked at in advance (worker's stack)
 * @dst: where its first descriptor's buffer starts
 * @room: bytes that follow @dst contiguously; 0: only split_put_chains() can tell
 * @head: its head
 * @d: its first descriptor, copied once
 */
struct slot {
    uint8_t *dst;
    uint32_t room;
    uint16_t head;
    struct split_desc d;
};

/**
 * struct put - the burst being delivered (worker's stack)
 * @vq: ring
 * @map: its map, for the whole burst
 * @hint: region that was hit last
 * @avail: chains known to be available from last_avail on
 * @used: chains consumed
 * @first: position (from last_avail) of slot[0]
 * @slots: slots filled
 * @walked: steps along chains so far
 * @known: a frame that needs more bytes than this cannot be placed before a chain is consumed; see @why
 * @why: what to count for it
 * @slot: chains from @first on
 */
struct put {
    struct virtq *vq;
    const struct virtq_map *map;
    const struct guest_region *hint;
    unsigned avail;
    unsigned used;
    unsigned first;
    unsigned slots;
    uint32_t walked;
    uint32_t known;
    enum drop_reason why;
    struct slot slot[BURST_MAX];
};

/**
 * split_more_avail() - all known chains are used up: look at the guest's index again
 * @t: burst
 *
 * Return: true if @t->avail grew.
 */
static inline bool split_more_avail(struct put *t)
{
    const unsigned n = split_avail(t->vq, t->map, UINT16_MAX + 1u);

    if (n <= t->avail)
        return false; /* none, or the index broke the port */
    t->avail = n;
    return true;
}

/* The virtio-net header (5.1.6.1), addresses and egress tag into @out; returns their length. */
static inline uint32_t split_write_front(const struct virtq *vq, const struct frame *f, uint8_t out[FRONT_SIZE])
{
    const uint32_t hdr_len = vq->hdr_len;
    uint8_t *p = out + hdr_len;

    memset(out, 0, VNET_WIRE_LEN_MRG);
    if (__builtin_expect((f->vnet.flags | f->vnet.gso_type) != 0, 0)) {
        struct vnet v = f->vnet;

        if (!(vq->offloads & OFFLOAD_CSUM))
            v.flags = 0; /* DATA_VALID would be news to this guest; NEEDS_CSUM does not get here */
        vnet_format(&v, f->out_vid == US_VID_UNTAGGED ? 0 : VLAN_TAG_LEN, out);
    }
    if (hdr_len == VNET_WIRE_LEN_MRG)
        out[NUM_BUFFERS_OFFSET] = 1;
    memcpy(p, f->hdr, 2 * ETH_ALEN);
    p += 2 * ETH_ALEN;
    if (f->out_vid != US_VID_UNTAGGED) {
        const uint16_t tci = f->pcp | f->out_vid;

        p[0] = ETHERTYPE_VLAN >> 8;
        p[1] = ETHERTYPE_VLAN & 0xff;
        p[2] = (uint8_t)(tci >> 8);
        p[3] = (uint8_t)tci;
        p += VLAN_TAG_LEN;
    }
    return (uint32_t)(p - out);
}

/**
 * split_put_chains() - the general path: a frame into as many chains of any shape as it takes
 * @t: burst
 * @f: frame
 * @need: its bytes with virtio-net header and tag
 *
 * Return: DROP_none, or why not; malformed chains are consumed then, good ones are not.
 */
enum drop_reason split_put_chains(struct put *t, const struct frame *f, uint32_t need);

#endif /* USWITCH_VIRTQ_SPLIT_TX_H */
