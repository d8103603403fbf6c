/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_take.c - frames out of a transmit ring the general way: chains of
 * several descriptors, indirect tables, buffers over a region border, offload
 * requests, and everything that is malformed.  Worker thread.
 */
#include "vhost/virtq_take.h"

#include "vhost/virtq_chain.h"

/* Buffers of an ordinary chain, at most: 64 KiB in pages, header, and room for others' habits. */
#define PLAIN_MAX 32

static inline bool has_tag(const struct frame *f)
{
    return f->hdr_len >= 14 && f->hdr[12] == (ETHERTYPE_VLAN >> 8) && f->hdr[13] == (ETHERTYPE_VLAN & 0xff);
}

enum drop_reason take_check_len(const struct take *t, const struct frame *f)
{
    const uint32_t extra = has_tag(f) ? VLAN_TAG_LEN : 0;

    if (f->vnet.gso_type == VNET_GSO_NONE && f->len > t->max_frame + extra)
        return DROP_frame_long;
    return DROP_none;
}

enum drop_reason take_vnet(const struct virtq *vq, struct frame *f, struct iovec *rest, const uint8_t *src,
                           const uint8_t wire[VNET_WIRE_LEN])
{
    const enum drop_reason why = vnet_parse(wire, f->len, vq->offloads, &f->vnet);

    if (!why && f->n_iov) {
        const uint32_t room = SNAP_SIZE - SNAP_SHORT, more = rest->iov_len < room ? (uint32_t)rest->iov_len : room;

        guest_copy(f->hdr + SNAP_SHORT, src + SNAP_SHORT, more);
        f->hdr_len += more;
        rest->iov_base = (uint8_t *)rest->iov_base + more;
        rest->iov_len -= more;
        f->n_iov = rest->iov_len != 0;
    }
    return why;
}

/* Collect the buffers of a chain as scatter entries; *total becomes the bytes in them. */
static enum drop_reason gather(struct take *t, const struct desc *d, uint16_t pos, struct chain *c, uint64_t *total)
{
    const uint64_t most = (uint64_t)t->vq->hdr_len + US_FRAME_MAX;
    struct burst *const b = t->b;
    enum drop_reason why = chain_first(c, t->vq, t->map->mem, &t->hint, d, pos);

    for (*total = 0; !why; why = chain_next(c, t->map, &t->hint, &t->walked)) {
        uint64_t addr = c->d.addr, left = c->d.len, span;

        *total += left;
        if (*total > most)
            return DROP_frame_long; /* before 4 GiB are looked at (G8) */
        for (; left; addr += span, left -= span) {
            uint8_t *const p = guest_mem_span(t->map->mem, &t->hint, addr, left, &span);

            if (!p)
                return DROP_chain_addr;
            /* The longest ring's longest chain fits; what is left is for the other frames of the burst. */
            if (b->n_iov >= BURST_IOV - BURST_MAX)
                return DROP_chain_loop;
            guest_prefetch(p);
            guest_prefetch(p + 64);
            b->iov[b->n_iov++] = (struct iovec){ p, span };
        }
        if (!chain_has_next(c))
            return DROP_none;
    }
    return why;
}

/*
 * The same for a chain of the ordinary kind: split ring, not indirect, each buffer inside the region hit last.  What
 * it keeps is in registers.  False if the chain is of another kind, or malformed: nothing was taken, and gather()
 * begins anew.
 */
static bool gather_plain(struct take *t, const struct desc *d, uint64_t *total)
{
    const struct vring_desc *const table = t->map->desc;
    const struct guest_region *const r = t->hint;
    const uint32_t size = t->vq->mask + 1u;
    const unsigned most = size < PLAIN_MAX ? size : PLAIN_MAX;
    struct burst *const b = t->b;
    struct iovec *const iov = &b->iov[b->n_iov];
    struct desc now = *d;
    uint64_t sum = 0;
    unsigned n = 0;

    if (b->n_iov + PLAIN_MAX > BURST_IOV - BURST_MAX)
        return false;
    for (;;) {
        const uint64_t off = now.addr - r->gpa;

        if ((now.flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) || off >= r->size || now.len == 0 ||
            now.len > r->size - off)
            return false;
        iov[n] = (struct iovec){ r->host + guest_index_nospec(off, r->size), now.len };
        guest_prefetch(iov[n].iov_base);
        guest_prefetch((const uint8_t *)iov[n].iov_base + 64);
        n++;
        sum += now.len;
        if (!(now.flags & VRING_DESC_F_NEXT))
            break;
        if (now.next >= size || n == most)
            return false;
        now = split_desc_load(&table[guest_index_nospec(now.next, size)]);
    }
    if (sum > (uint64_t)t->vq->hdr_len + US_FRAME_MAX)
        return false;
    t->walked += n - 1;
    b->n_iov += n;
    *total = sum;
    return true;
}

/* Move len bytes from the front of a scatter list into private memory. */
static void pull(struct iovec **iov, uint8_t *dst, uint32_t len)
{
    while (len) {
        struct iovec *const v = *iov;
        const uint32_t part = v->iov_len < len ? (uint32_t)v->iov_len : len;

        guest_copy(dst, v->iov_base, part);
        dst += part;
        len -= part;
        v->iov_base = (uint8_t *)v->iov_base + part;
        v->iov_len -= part;
        if (v->iov_len == 0)
            ++*iov;
    }
}

enum drop_reason take_chain(struct take *t, const struct desc *d, uint16_t pos, struct chain *c)
{
    struct burst *const b = t->b;
    const uint32_t first = b->n_iov, hdr_len = t->vq->hdr_len;
    struct frame *const f = &b->frame[b->n];
    struct iovec *iov = &b->iov[first];
    uint8_t wire[VNET_WIRE_LEN_MRG] = { 0 };
    uint64_t total;
    enum drop_reason why = DROP_none;

    if (t->vq->packed || !gather_plain(t, d, &total))
        why = gather(t, d, pos, c, &total);
    *f = (struct frame){ .hdr = b->snap[b->n] + HDR_ROOM };
    if (!why && total < hdr_len)
        why = DROP_hdr_short;
    else if (!why && total < hdr_len + US_FRAME_MIN)
        why = DROP_frame_short;
    if (!why) {
        uint32_t snap = SNAP_SHORT;

        pull(&iov, wire, hdr_len);
        f->len = (uint32_t)total - hdr_len;
        for (unsigned i = 0; i < VNET_WIRE_LEN; i++) {
            if (wire[i]) {
                snap = SNAP_SIZE;
                why = vnet_parse(wire, f->len, t->vq->offloads, &f->vnet);
                break;
            }
        }
        f->hdr_len = f->len < snap ? f->len : snap;
        pull(&iov, f->hdr, f->hdr_len);
        f->iov = iov;
        f->n_iov = (uint32_t)(&b->iov[b->n_iov] - iov);
    }
    if (!why)
        why = take_check_len(t, f);
    if (why)
        b->n_iov = first;
    return why;
}
