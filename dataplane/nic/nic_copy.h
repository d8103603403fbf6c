/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_copy.h - frames into and out of DMA buffers: the part of a driver's
 * fast path that is the same for every adapter.  The driver calls these from
 * rx_burst and tx_burst; it is the driver that writes the egress tag, here,
 * while it copies.  Worker thread.
 *
 * The device can write to its buffers while we look (design laws 3 and 4):
 * what is decided upon is copied once, into the burst.
 */
#ifndef USWITCH_NIC_NIC_COPY_H
#define USWITCH_NIC_NIC_COPY_H

#include "base/guest.h"
#include "nic/dma.h"
#include "port.h"

_Static_assert(SNAP_SHORT == 64 && SNAP_SIZE == 128, "guest_copy64()");

/* ---- to the wire ---- */

/* Bytes of the frame on the wire, FCS not counted: with the egress tag. */
static inline uint32_t nic_wire_len(const struct frame *f)
{
    return f->len + (f->out_vid != US_VID_UNTAGGED ? VLAN_TAG_LEN : 0);
}

/* The egress tag of a frame that gets one. */
static inline void nic_format_tag(uint8_t to[VLAN_TAG_LEN], const struct frame *f)
{
    const uint32_t tci = f->pcp | f->out_vid;

    to[0] = ETHERTYPE_VLAN >> 8;
    to[1] = ETHERTYPE_VLAN & 0xff;
    to[2] = (uint8_t)(tci >> 8);
    to[3] = (uint8_t)tci;
}

/**
 * nic_copy_head() - the snapshot and the egress tag to one place
 * @to: room for f->hdr_len + VLAN_TAG_LEN bytes
 * @f: frame
 *
 * Return: bytes written.
 */
static inline uint32_t nic_copy_head(uint8_t *to, const struct frame *f)
{
    if (f->out_vid == US_VID_UNTAGGED) {
        guest_copy(to, f->hdr, f->hdr_len);
        return f->hdr_len;
    }
    /* 802.1Q: the tag stands between the addresses and the type. */
    guest_copy_const(to, f->hdr, 2 * ETH_ALEN);
    nic_format_tag(to + 2 * ETH_ALEN, f);
    guest_copy(to + 2 * ETH_ALEN + VLAN_TAG_LEN, f->hdr + 2 * ETH_ALEN, f->hdr_len - 2 * ETH_ALEN);
    return f->hdr_len + VLAN_TAG_LEN;
}

/**
 * nic_copy_flat() - a whole frame, egress tag included, to one place
 * @to: room for nic_wire_len(f) bytes
 * @f: frame
 */
static inline void nic_copy_flat(uint8_t *to, const struct frame *f)
{
    to += nic_copy_head(to, f);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        guest_copy(to, f->iov[i].iov_base, f->iov[i].iov_len);
        to += f->iov[i].iov_len;
    }
}

/**
 * struct nic_sink - buffers that are being filled
 * @buf: buffers of @size bytes each
 * @size: bytes of a buffer
 * @at: bytes in the one being filled
 * @used: buffers begun, that one included
 */
struct nic_sink {
    uint8_t *const *buf;
    uint32_t size;
    uint32_t at;
    uint32_t used;
};

static inline void nic_sink_put(struct nic_sink *s, const uint8_t *from, size_t len)
{
    while (len) {
        size_t part = s->size - s->at;

        if (part == 0) {
            s->used++;
            s->at = 0;
            continue;
        }
        part = len < part ? len : part;
        guest_copy(s->buf[s->used - 1] + s->at, from, part);
        s->at += (uint32_t)part;
        from += part;
        len -= part;
    }
}

/**
 * nic_copy_frame() - a whole frame, egress tag included, into DMA buffers
 * @f: frame
 * @buf: buffers, at least (nic_wire_len(f) + size - 1) / size; all but the last are filled up
 * @size: bytes of each
 *
 * Return: buffers used.
 */
static inline uint32_t nic_copy_frame(const struct frame *f, uint8_t *const *buf, uint32_t size)
{
    struct nic_sink s = { .buf = buf, .size = size, .used = 1 };
    uint32_t done = 0;

    if (__builtin_expect(nic_wire_len(f) <= size, 1)) {
        nic_copy_flat(buf[0], f);
        return 1;
    }
    if (f->out_vid != US_VID_UNTAGGED) {
        uint8_t tag[VLAN_TAG_LEN];

        nic_format_tag(tag, f);
        done = 2 * ETH_ALEN;
        nic_sink_put(&s, f->hdr, done);
        nic_sink_put(&s, tag, sizeof(tag));
    }
    nic_sink_put(&s, f->hdr + done, f->hdr_len - done);
    for (uint32_t i = 0; i < f->n_iov; i++)
        nic_sink_put(&s, f->iov[i].iov_base, f->iov[i].iov_len);
    return s.used;
}

/* ---- from the wire ---- */

static inline bool nic_has_tag(const struct frame *f)
{
    return f->hdr[2 * ETH_ALEN] == ETHERTYPE_VLAN >> 8 && f->hdr[2 * ETH_ALEN + 1] == (ETHERTYPE_VLAN & 0xff);
}

/**
 * nic_take_frame() - a received frame into the burst: snapshot, lengths, the rest as it lies
 * @p: the receiving port
 * @b: burst; b->iov[b->n_iov ...] holds the frame's pieces, written there by the driver, none empty; each of them can
 *     be read for SNAP_SIZE bytes, whatever its length
 * @n: number of pieces, >= 1
 * @vnet: what the device found out about checksum and segments, validated; all zero: nothing
 *
 * An entry of the burst is used up only if the frame is taken, so a dropped one leaves no trace.
 *
 * Return: DROP_none, or why the frame cannot be taken (not counted yet).
 */
static inline enum drop_reason nic_take_frame(const struct port *p, struct burst *b, uint32_t n,
                                              const struct vnet *vnet)
{
    const uint32_t want = vnet->flags || vnet->gso_type ? SNAP_SIZE : SNAP_SHORT;
    struct frame *const f = &b->frame[b->n];
    struct iovec *const iov = &b->iov[b->n_iov];
    uint64_t len = 0;

    for (uint32_t i = 0; i < n; i++)
        len += iov[i].iov_len;
    if (len < ETH_HDR_LEN)
        return DROP_frame_short;
    if (len > US_FRAME_MAX)
        return DROP_frame_long;
    *f = (struct frame){ .hdr = b->snap[b->n] + HDR_ROOM, .len = (uint32_t)len, .vnet = *vnet };
    if (__builtin_expect(n > 1 && iov[0].iov_len < want, 0)) {
        f->iov = iov;
        f->n_iov = n;
        frame_lengthen(f, want);
    } else {
        const uint32_t part = iov[0].iov_len < want ? (uint32_t)iov[0].iov_len : want;

        guest_copy64(f->hdr, iov[0].iov_base);
        if (want > SNAP_SHORT)
            guest_copy64(f->hdr + SNAP_SHORT, (const uint8_t *)iov[0].iov_base + SNAP_SHORT);
        f->hdr_len = part;
        iov[0].iov_base = (uint8_t *)iov[0].iov_base + part;
        iov[0].iov_len -= part;
        f->iov = iov[0].iov_len ? iov : iov + 1;
        f->n_iov = iov[0].iov_len ? n : n - 1;
    }
    if (vnet->gso_type == VNET_GSO_NONE &&
        len > atomic_load_explicit(&p->max_frame, memory_order_relaxed) + (nic_has_tag(f) ? VLAN_TAG_LEN : 0u))
        return DROP_frame_long;
    b->n_iov += n;
    b->n++;
    return DROP_none;
}

#endif /* USWITCH_NIC_NIC_COPY_H */
