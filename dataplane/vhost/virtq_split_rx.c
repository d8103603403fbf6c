/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_split_rx.c - takes frames out of a guest's transmit ring (split) and
 * gives the buffers back.  Worker thread, the queue's own.
 *
 * A burst goes in three passes, so that the cache misses of all its frames
 * overlap: heads (prefetch descriptors), descriptors (translate, prefetch
 * buffers), frames (copy virtio-net header and snapshot).  A frame in one
 * direct descriptor inside one region stays on that path; everything else,
 * malformed chains included, goes through take_chain().
 */
#include "vhost/virtq_chain.h"
#include "vnet.h"

/**
 * struct take - the burst being taken (worker's stack)
 * @vq: ring
 * @map: its map, for the whole burst
 * @b: burst to fill
 * @hint: region that was hit last
 * @max_frame: longest frame without segmentation request, tag not counted
 * @bytes: of the frames so far
 * @walked: steps along chains so far
 */
struct take {
    struct virtq *vq;
    const struct virtq_map *map;
    struct burst *b;
    const struct guest_region *hint;
    uint32_t max_frame;
    uint64_t bytes;
    uint32_t walked;
};

/* The single direct descriptors of a burst, translated. src NULL: take_chain() must look at it. */
struct single {
    const uint8_t *src;
    uint32_t len;
};

static inline bool has_tag(const struct frame *f)
{
    return f->hdr_len >= 14 && f->hdr[12] == (ETHERTYPE_VLAN >> 8) && f->hdr[13] == (ETHERTYPE_VLAN & 0xff);
}

/* Frame limits that need the header: only a segmentation request may exceed the port's maximum. */
static enum drop_reason check_len(const struct take *t, const struct frame *f)
{
    const uint32_t extra = has_tag(f) ? VLAN_TAG_LEN : 0;

    if (f->vnet.gso_type == VNET_GSO_NONE && f->len > t->max_frame + extra)
        return DROP_frame_long;
    return DROP_none;
}

/*
 * A frame with offload request in one contiguous buffer: its header is validated, and its snapshot made
 * longer, so that the software offloads find all headers in it.
 */
static __attribute__((noinline)) enum drop_reason take_vnet(const struct virtq *vq, struct frame *f,
                                                            struct iovec *rest, const uint8_t *src,
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

/*
 * The fast path: frames in single descriptors, up to the first one that is not, or the end of the burst's
 * bytes.  Everything it counts with is in registers, since the barriers of the copies spoil what is not.
 * Returns chains consumed.
 */
static inline unsigned take_run(struct take *t, const struct single *s, unsigned n)
{
    struct burst *const b = t->b;
    const struct virtq *const vq = t->vq;
    const uint32_t hdr_len = vq->hdr_len, max_frame = t->max_frame;
    struct frame *f = &b->frame[b->n];
    uint8_t *snap = b->snap[b->n] + HDR_ROOM;
    struct iovec *iov = &b->iov[b->n_iov];
    uint64_t bytes = t->bytes;
    unsigned i;

    for (i = 0; i < n && s[i].src; i++) {
        const uint8_t *const src = s[i].src + hdr_len;
        const uint32_t len = s[i].len - hdr_len, snapped = len < SNAP_SHORT ? len : SNAP_SHORT;
        struct { uint64_t low; uint16_t high; } __attribute__((packed)) wire;
        enum drop_reason why = DROP_none;

        if (__builtin_expect(bytes + len > BURST_BYTES, 0))
            break;
        /* The header once (G3); its num_buffers means nothing in this direction. */
        guest_copy_const(&wire, s[i].src, VNET_WIRE_LEN);
        guest_copy64(snap, src);
        *f = (struct frame){ .hdr = snap, .iov = iov, .hdr_len = snapped, .len = len, .n_iov = len > SNAP_SHORT };
        /* Filled in any case, kept if it is not empty. */
        *iov = (struct iovec){ (void *)(uintptr_t)(src + SNAP_SHORT), len - snapped };
        if (__builtin_expect((wire.low | wire.high) != 0, 0))
            why = take_vnet(vq, f, iov, src, (const uint8_t *)&wire);
        if (__builtin_expect(!why && len > max_frame, 0))
            why = check_len(t, f);
        if (__builtin_expect(why != DROP_none, 0)) {
            count_drop_in(vq->port, vq->index / 2, why);
            continue;
        }
        iov += f->n_iov;
        bytes += len;
        snap += sizeof(b->snap[0]);
        f++;
    }
    b->n = (uint32_t)(f - b->frame);
    b->n_iov = (uint32_t)(iov - b->iov);
    t->bytes = bytes;
    return i;
}

/* Collect the buffers of a chain as scatter entries; *total becomes the bytes in them. */
static enum drop_reason gather(struct take *t, const struct split_desc *d, uint64_t *total)
{
    const uint64_t most = (uint64_t)t->vq->hdr_len + US_FRAME_MAX;
    struct burst *const b = t->b;
    struct chain c;
    enum drop_reason why = chain_first(&c, t->vq, t->map->mem, &t->hint, d);

    for (*total = 0; !why; why = chain_next(&c, t->map, &t->hint, &t->walked)) {
        uint64_t addr = c.d.addr, left = c.d.len, span;

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
            b->iov[b->n_iov++] = (struct iovec){ p, span };
        }
        if (!chain_has_next(&c))
            return DROP_none;
    }
    return why;
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

/* The general path: a chain of any shape. On a drop the scatter entries it used are given back. */
static __attribute__((noinline)) enum drop_reason take_chain(struct take *t, const struct split_desc *d)
{
    struct burst *const b = t->b;
    const uint32_t first = b->n_iov, hdr_len = t->vq->hdr_len;
    struct frame *const f = &b->frame[b->n];
    struct iovec *iov = &b->iov[first];
    uint8_t wire[VNET_WIRE_LEN_MRG] = { 0 };
    uint64_t total;
    enum drop_reason why = gather(t, d, &total);

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
        why = check_len(t, f);
    if (why)
        b->n_iov = first;
    return why;
}

/* First pass: which chains; breaks the port at a bad head. */
static inline bool take_heads(struct take *t, unsigned n)
{
    struct virtq *const vq = t->vq;
    const struct virtq_map *const map = t->map;
    const struct vring_desc *const desc = map->desc;
    const uint16_t start = vq->last_avail;

    for (unsigned i = 0; i < n; i++) {
        uint16_t head;

        if (!split_head(vq, map, (uint16_t)(start + i), &head))
            return false;
        vq->taken[i] = head;
        guest_prefetch(&desc[head]);
    }
    return true;
}

/* Second pass: each head descriptor is copied, once, and translated if it is a single one of ordinary length. */
static inline void take_descs(struct take *t, unsigned n, struct single *single, struct split_desc *other)
{
    const uint32_t least = t->vq->hdr_len + US_FRAME_MIN, readable = t->vq->hdr_len + SNAP_SHORT;
    const uint32_t span = t->max_frame + VLAN_TAG_LEN - US_FRAME_MIN;
    const struct vring_desc *const desc = t->map->desc;
    const struct guest_mem *const mem = t->map->mem;
    const uint16_t *const head = t->vq->taken;
    const struct guest_region *r = t->hint;

    for (unsigned i = 0; i < n; i++) {
        const struct split_desc d = split_desc_load(&desc[head[i]]);
        const uint32_t need = d.len > readable ? d.len : readable;
        const uint8_t *src = NULL;
        uint64_t off = d.addr - r->gpa;

        if (__builtin_expect((d.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) == 0 &&
                             d.len - least <= span, 1)) {
            if (__builtin_expect(off >= r->size, 0)) {
                const struct guest_region *const hit = guest_mem_find(mem, d.addr);

                r = hit ? hit : r;
                off = d.addr - r->gpa;
            }
            if (__builtin_expect(off < r->size && need <= r->size - off, 1)) {
                src = r->host + guest_index_nospec(off, r->size);
                guest_prefetch(src);
                guest_prefetch(src + 64);
            }
        }
        single[i].src = src;
        single[i].len = d.len;
        if (__builtin_expect(!src, 0))
            other[i] = d;
    }
    t->hint = r;
}

/* Third pass: frames, until the burst has its bytes or its steps. Returns chains consumed. */
static inline unsigned take_frames(struct take *t, unsigned n, const struct single *single,
                                   const struct split_desc *other)
{
    struct burst *const b = t->b;
    unsigned i = take_run(t, single, n);

    while (__builtin_expect(i < n, 0)) {
        enum drop_reason why;

        if (single[i].src || t->walked > CHAIN_BURST)
            break;
        /* The longest frame must still fit, since its length is known only after the walk. */
        if (t->bytes + US_FRAME_MAX > BURST_BYTES && b->n)
            break;
        why = take_chain(t, &other[i]);
        if (why == DROP_chain_loop && b->n_iov)
            break; /* perhaps only the pool was short: it is the first of the next burst */
        if (why) {
            count_drop_in(t->vq->port, t->vq->index / 2, why);
        } else {
            t->bytes += b->frame[b->n].len;
            b->n++;
        }
        i++;
        i += take_run(t, &single[i], n - i);
    }
    return i;
}

unsigned split_rx_burst(struct virtq *vq, struct burst *b)
{
    /* acquire: the map was filled before it was published */
    const struct virtq_map *const map = atomic_load_explicit(&vq->map, memory_order_acquire);
    struct take t = { .vq = vq, .map = map, .b = b };
    struct single single[BURST_MAX];
    struct split_desc other[BURST_MAX];
    unsigned n;

    b->n = 0;
    b->n_iov = 0;
    /* A stopped ring belongs to the control thread, its positions included. */
    if (!map || !atomic_load_explicit(&vq->enabled, memory_order_relaxed) || port_is_broken(vq->port))
        return 0;
    n = split_avail(vq, map, BURST_MAX / 2);
    if (n == 0)
        return 0;
    if (n > BURST_MAX)
        n = BURST_MAX;
    t.hint = split_region_hint(vq, map->mem);
    t.max_frame = atomic_load_explicit(&vq->port->max_frame, memory_order_relaxed);
    if (!take_heads(&t, n))
        return 0;
    take_descs(&t, n, single, other);
    n = take_frames(&t, n, single, other);
    vq->region = (uint16_t)(t.hint - map->mem->region);
    vq->taken_map = map;
    vq->n_taken = (uint16_t)n;
    vq->last_avail = (uint16_t)(vq->last_avail + n);
    return b->n;
}

void split_rx_complete(struct virtq *vq)
{
    const unsigned n = vq->n_taken;

    if (n == 0)
        return;
    for (unsigned i = 0; i < n; i++)
        split_put_used(vq, vq->taken_map, (uint16_t)(vq->used_idx + i), vq->taken[i], 0);
    vq->n_taken = 0;
    split_publish(vq, vq->taken_map, (uint16_t)n);
}
