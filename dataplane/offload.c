/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * offload.c - see offload.h.
 *
 * Theory of operation.  A checksum in software means that the bytes summed
 * must be the bytes delivered (design law 3), so they are copied into the
 * scratch first: a completed frame lies there whole.  A segment for a
 * receiver that completes checksums itself needs no look at the payload: it
 * is private headers plus slices of the source's memory, and the one copy is
 * the delivery (law 2).
 *
 * Headers are parsed in a private copy of the frame's first bytes, taken from
 * the snapshot and, where that is shorter, from the source, once; what lies
 * in that copy is delivered from it, never from the source again.
 */
#include "offload.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/csum.h"
#include "base/guest.h"
#include "gso.h"

/* Slices of one segment; a source more finely chopped is copied instead. */
#define SEG_IOV_MAX 20

/*
 * Datagrams of a UDP request that goes on uncut: Linux as receiver refuses more than UDP_MAX_SEGMENTS, 64 in
 * older releases and 128 since, and a sender need not be Linux.
 */
#define USO_SEGS_WHOLE 64
#define UDP_HDR_LEN 8

#define LINE 64
#define LINES(n) (((n) + LINE - 1) / LINE * LINE)
/* A batch holds at most one frame's payload, and room and headers for each segment. */
#define BYTES_MAX (LINES(US_FRAME_MAX) + BURST_MAX * LINES(HDR_ROOM + GSO_HDR_MAX + LINE))

/**
 * struct cursor - a read position in a frame that is not contiguous
 * @at: the piece being read
 * @left: bytes left of it
 * @next: the piece after it, before @iov
 * @next_left: its bytes, 0 if there is none
 * @iov: the pieces after that
 * @n: their number
 */
struct cursor {
    const uint8_t *at;
    uint32_t left;
    const uint8_t *next;
    uint32_t next_left;
    const struct iovec *iov;
    uint32_t n;
};

/**
 * struct offload_scratch - the frame being replaced, and the ones that replace it
 * @f: the frame (borrowed from offload_begin() on)
 * @partial: the receiver completes checksums itself
 * @started: something was put out; a frame without payload is one segment, too
 * @rest: what was not put out yet; behind the headers when segmenting
 * @todo: bytes of @rest
 * @seg: next segment
 * @gso: headers of the request
 * @head: private copy of the frame's first bytes
 * @frame: results
 * @iov: their slices
 * @bytes: their room, headers, and payload where it had to be copied
 */
struct offload_scratch {
    const struct frame *f;
    bool partial;
    bool started;
    struct cursor rest;
    uint32_t todo;
    struct gso_segment seg;
    struct gso gso;
    uint8_t head[GSO_HDR_MAX];
    struct frame frame[BURST_MAX];
    struct iovec iov[BURST_MAX][SEG_IOV_MAX];
    uint8_t bytes[BYTES_MAX] __attribute__((aligned(LINE)));
};

struct offload_scratch *offload_scratch_create(void)
{
    return aligned_alloc(LINE, LINES(sizeof(struct offload_scratch)));
}

void offload_scratch_destroy(struct offload_scratch *s)
{
    free(s);
}

/* The next contiguous bytes, at most @want; 0 at the end. */
static uint32_t cursor_take(struct cursor *c, uint32_t want, const uint8_t **piece)
{
    uint32_t got;

    while (c->left == 0) {
        if (c->next_left) {
            c->at = c->next;
            c->left = c->next_left;
            c->next_left = 0;
        } else if (c->n) {
            c->at = c->iov->iov_base;
            c->left = (uint32_t)c->iov->iov_len;
            c->iov++;
            c->n--;
        } else {
            return 0;
        }
    }
    got = want < c->left ? want : c->left;
    *piece = c->at;
    c->at += got;
    c->left -= got;
    return got;
}

/* Copies the next @len bytes. The frame's length is the sum of its pieces, so they are there. */
static void cursor_copy(struct cursor *c, uint8_t *to, uint32_t len)
{
    while (len) {
        const uint8_t *piece;
        const uint32_t got = cursor_take(c, len, &piece);

        if (got == 0) {         /* never stale scratch bytes to a guest, whatever the caller did */
            memset(to, 0, len);
            return;
        }
        guest_copy(to, piece, got);
        to += got;
        len -= got;
    }
}

/* Slices instead of copies; false if they are too many, then the position is unchanged. */
static bool cursor_slice(struct cursor *c, uint32_t len, struct iovec *iov, uint32_t *n_iov)
{
    struct cursor ahead = *c;
    uint32_t n = 0;

    while (len) {
        const uint8_t *piece;
        const uint32_t got = cursor_take(&ahead, len, &piece);

        if (got == 0 || n == SEG_IOV_MAX)
            return false;
        iov[n++] = (struct iovec){ .iov_base = (void *)(uintptr_t)piece, .iov_len = got };
        len -= got;
    }
    *c = ahead;
    *n_iov = n;
    return true;
}

/*
 * The field already holds the sum of the pseudo header (virtio 1.2, 5.1.6.2),
 * so that it counts like the rest.  Zero is written as its other form, which
 * is right for TCP and what UDP needs (RFC 768: zero means "none").
 */
static void complete_csum(uint8_t *frame, uint32_t len, uint32_t start, uint32_t offset)
{
    uint16_t csum = (uint16_t)~csum_fold(csum_add(0, frame + start, len - start));

    if (csum == 0)
        csum = 0xffff;
    memcpy(frame + start + offset, &csum, sizeof(csum));
}

static enum drop_reason begin_gso(struct offload_scratch *s, const struct frame *f)
{
    const uint32_t n = f->len < GSO_HDR_MAX ? f->len : GSO_HDR_MAX;
    struct cursor *rest = &s->rest;
    enum drop_reason why;

    cursor_copy(rest, s->head, n);
    why = gso_parse(s->head, n, f->len, &f->vnet, &s->gso);
    if (why != DROP_none)
        return why;
    rest->next = rest->at;
    rest->next_left = rest->left;
    rest->at = s->head + s->gso.len;
    rest->left = n - s->gso.len;
    s->todo = f->len - s->gso.len;
    return DROP_none;
}

/* OFFLOAD_USO* that the frame takes, by its version of IP, which no request tells; both if its headers do not. */
static uint32_t uso_need(const struct frame *f)
{
    uint32_t l3;

    switch (gso_ethertype(f->hdr, f->hdr_len, &l3)) {
    case ETHERTYPE_IPV4:
        return OFFLOAD_USO4;
    case ETHERTYPE_IPV6:
        return OFFLOAD_USO6;
    default:
        return OFFLOAD_USO4 | OFFLOAD_USO6;
    }
}

bool offload_uso_fits(const struct frame *f, uint32_t offloads)
{
    if (f->len > f->vnet.csum_start + (uint32_t)f->vnet.gso_size * USO_SEGS_WHOLE + UDP_HDR_LEN)
        return false;
    return (uso_need(f) & ~offloads) == 0;
}

enum drop_reason offload_begin(struct offload_scratch *s, const struct frame *f, uint32_t offloads)
{
    const struct vnet *v = &f->vnet;

    s->f = f;
    s->partial = offloads & OFFLOAD_CSUM;
    s->started = false;
    s->rest = (struct cursor){ .at = f->hdr, .left = f->hdr_len, .iov = f->iov, .n = f->n_iov };
    s->todo = f->len;
    s->seg = (struct gso_segment){ 0 };
    if (f->len > US_FRAME_MAX)
        return DROP_offload;
    if (v->gso_type != VNET_GSO_NONE)
        return begin_gso(s, f);
    if ((uint32_t)v->csum_start + v->csum_offset + 2 > f->len)
        return DROP_offload;
    return DROP_none;
}

/* A result that lies whole at @bytes, without slices and requests so far. */
static void result_init(const struct offload_scratch *s, struct frame *out, uint8_t *hdr, uint32_t len)
{
    *out = *s->f;
    out->hdr = hdr;
    out->hdr_len = len;
    out->len = len;
    out->iov = NULL;
    out->n_iov = 0;
    out->drop = DROP_none;
    out->vnet = (struct vnet){ 0 };
}

static void complete_frame(struct offload_scratch *s, struct frame *out)
{
    const struct vnet *v = &s->f->vnet;
    uint8_t *hdr = s->bytes + HDR_ROOM;

    result_init(s, out, hdr, s->f->len);
    cursor_copy(&s->rest, hdr, s->f->len);
    if (v->flags & VNET_NEEDS_CSUM)
        complete_csum(hdr, s->f->len, v->csum_start, v->csum_offset);
    s->todo = 0;
}

/* Cuts the next segment; its headers, and its payload if need be, go to @hdr. Returns bytes used there. */
static uint32_t cut_segment(struct offload_scratch *s, struct frame *out, struct iovec *iov, uint8_t *hdr)
{
    const struct vnet *v = &s->f->vnet;
    const uint32_t hdr_len = s->gso.len;
    struct gso_segment *seg = &s->seg;

    seg->payload = s->todo < v->gso_size ? s->todo : v->gso_size;
    seg->last = seg->payload == s->todo;
    gso_write(&s->gso, s->head, seg, hdr);
    result_init(s, out, hdr, hdr_len + seg->payload);
    if (s->partial) {
        out->vnet.flags = VNET_NEEDS_CSUM;
        out->vnet.csum_start = v->csum_start;
        out->vnet.csum_offset = v->csum_offset;
    }
    if (s->partial && cursor_slice(&s->rest, seg->payload, iov, &out->n_iov)) {
        out->iov = iov;
        out->hdr_len = hdr_len;
    } else {
        cursor_copy(&s->rest, hdr + hdr_len, seg->payload);
        if (!s->partial)
            complete_csum(hdr, out->len, v->csum_start, v->csum_offset);
    }
    s->todo -= seg->payload;
    seg->offset += seg->payload;
    seg->index++;
    return out->hdr_len;
}

unsigned offload_next(struct offload_scratch *s, struct frame **out, unsigned max)
{
    uint32_t used = 0;
    unsigned n = 0;

    while (n < max && n < BURST_MAX && (s->todo || !s->started)) {
        struct frame *result = &s->frame[n];

        if (s->f->vnet.gso_type == VNET_GSO_NONE)
            complete_frame(s, result);
        else
            used += LINES(HDR_ROOM + cut_segment(s, result, s->iov[n], s->bytes + used + HDR_ROOM));
        s->started = true;
        out[n++] = result;
    }
    return n;
}
