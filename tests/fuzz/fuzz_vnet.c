/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_vnet.c - any virtio-net header before any frame, parsed, formatted
 * again, and replaced by software for receivers with any set of offloads.
 *
 * Claimed:
 *   - what vnet_parse() lets pass is inside the frame and was negotiated;
 *   - vnet_format() writes what vnet_parse() reads as the same request;
 *   - the frames that replace one ask for nothing the receiver lacks, are not
 *     longer than their segment size allows, carry the payload whole and in
 *     order, say their own length in their IP header, and have checksums that
 *     are right if the receiver does not complete them itself.
 *
 * BUG last_segment_keeps_its_length gso.c
 *   - store16(ip + 2, g->len - g->l3 + s->payload);
 *   + store16(ip + 2, g->len - g->l3 + (s->last ? 1448 : s->payload));
 *   ! not true
 */
#include <stdlib.h>
#include <string.h>

#include "base/csum.h"
#include "fuzz_guest.h"
#include "offload.h"
#include "vnet.h"

#define OFFLOADS_MASK (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN | OFFLOAD_USO4 | OFFLOAD_USO6)
#define FRAME_BYTES 8192u
#define PIECES_MAX 24u

static struct offload_scratch *scratch;
static uint8_t whole[FRAME_BYTES], snap[HDR_ROOM + SNAP_SIZE], joined[US_FRAME_MAX + 4096], piece[US_FRAME_MAX + 4096];
static struct iovec iov[PIECES_MAX];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    scratch = offload_scratch_create();
    MUST(scratch);
    return 0;
}

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static void check_parsed(const struct vnet *v, uint32_t len, uint32_t allowed)
{
    uint8_t wire[VNET_WIRE_LEN];
    struct vnet again;

    MUST((v->flags & ~VNET_NEEDS_CSUM) == 0);
    if (v->flags & VNET_NEEDS_CSUM) {
        MUST(allowed & OFFLOAD_CSUM);
        MUST(v->csum_start >= ETH_HDR_LEN && (uint32_t)v->csum_start + v->csum_offset + 2 <= len);
    }
    if (v->gso_type != VNET_GSO_NONE) {
        MUST(v->flags & VNET_NEEDS_CSUM);
        MUST(v->gso_size > 0);
    }
    MUST(v->hdr_len <= len);
    /* Whether UDP segments fit depends on the frame, too. */
    MUST(v->gso_type == VNET_GSO_UDP_L4 || offload_fits(&(struct frame){ .vnet = *v }, allowed));
    vnet_format(v, 0, wire);
    MUST(vnet_parse(wire, len, allowed, &again) == DROP_none);
    MUST(memcmp(&again, v, sizeof(again)) == 0);
}

/* A frame of the fuzzer's bytes, then of a pattern; headers made plausible if it wants. */
static uint32_t make_frame(struct input *in)
{
    const uint8_t kind = in8(in);
    const uint32_t len = ETH_HDR_LEN + in16(in) % (FRAME_BYTES - ETH_HDR_LEN);
    const uint32_t given = in8(in);

    for (uint32_t i = 0; i < len; i++)
        whole[i] = (uint8_t)(i * 13 + (i >> 8));
    in_bytes(in, whole, given < len ? given : len);
    if ((kind & 1) && len >= 74) {      /* IPv4 or IPv6, and TCP or UDP */
        const bool six = kind & 2;
        uint8_t *const ip = whole + ETH_HDR_LEN;

        whole[12] = six ? 0x86 : 0x08;
        whole[13] = six ? 0xdd : 0x00;
        ip[0] = six ? 0x60 : 0x45;
        ip[six ? 6 : 9] = kind & 0x80 ? 17 : 6;
        if (!six)
            ip[6] = ip[7] = 0;
        ip[(six ? 40 : 20) + 12] = (uint8_t)(5 + (kind >> 2) % 11) << 4;
    }
    return len;
}

/* Snapshot and scatter list, chopped as the input says. */
static void chop(struct input *in, struct frame *f, uint32_t len)
{
    const uint32_t most = f->vnet.flags ? SNAP_SIZE : SNAP_SHORT, head = len < most ? len : most;
    uint32_t at = head;

    memcpy(snap + HDR_ROOM, whole, head);
    f->hdr = snap + HDR_ROOM;
    f->hdr_len = head;
    f->len = len;
    f->iov = iov;
    f->n_iov = 0;
    while (at < len) {
        const uint32_t want = 1 + in16(in) % 2048, left = len - at;
        const uint32_t part = f->n_iov == PIECES_MAX - 1 || want > left ? left : want;

        iov[f->n_iov++] = (struct iovec){ whole + at, part };
        at += part;
    }
}

/* One frame that replaces, as contiguous bytes. */
static void flatten(const struct frame *f)
{
    uint32_t n = f->hdr_len;

    MUST(f->len <= sizeof(piece) && f->hdr_len <= f->len);
    memcpy(piece, f->hdr, f->hdr_len);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        memcpy(piece + n, f->iov[i].iov_base, f->iov[i].iov_len);
        n += (uint32_t)f->iov[i].iov_len;
    }
    MUST(n == f->len);
}

/* RFC 1071, over what the sender left in the field as well; the rest of the frame is unchanged. */
static void check_completed(const struct vnet *v, uint32_t len)
{
    const uint32_t field = (uint32_t)v->csum_start + v->csum_offset;
    uint16_t want = (uint16_t)~csum_fold(csum_add(0, whole + v->csum_start, len - v->csum_start));

    want = want ? want : 0xffff;
    MUST(memcmp(piece + field, &want, 2) == 0);
    MUST(memcmp(piece, whole, field) == 0 && memcmp(piece + field + 2, whole + field + 2, len - field - 2) == 0);
}

/* Over IP without extensions: pseudo header and segment sum up to all ones. */
static void check_l4(const struct vnet *v, uint32_t len)
{
    const bool six = be16(piece + 12) == 0x86dd;
    const uint8_t *const ip = piece + ETH_HDR_LEN;
    const uint32_t l4 = v->csum_start, n = len - l4;
    const uint8_t protocol = v->gso_type == VNET_GSO_UDP_L4 ? 17 : 6;
    const uint8_t tail[4] = { 0, protocol, (uint8_t)(n >> 8), (uint8_t)n };
    uint64_t sum;

    if (six ? ip[6] != protocol : be16(piece + 12) != 0x0800)
        return;
    sum = csum_add(0, six ? ip + 8 : ip + 12, six ? 32 : 8);
    sum = csum_add(sum, tail, sizeof(tail));
    MUST(csum_fold(csum_add(sum, piece + l4, n)) == 0xffff);
}

static void check_segment(const struct frame *f, const struct vnet *v, uint32_t hdr_len)
{
    const uint32_t l3 = ETH_HDR_LEN;

    MUST(f->vnet.gso_type == VNET_GSO_NONE);
    MUST(f->len >= hdr_len && f->len - hdr_len <= v->gso_size);
    if (be16(piece + 12) == 0x0800) {
        MUST(be16(piece + l3 + 2) == f->len - l3);
        MUST((uint16_t)~csum_fold(csum_add(0, piece + l3, (piece[l3] & 0xfu) * 4)) == 0);
    } else if (be16(piece + 12) == 0x86dd) {
        MUST(be16(piece + l3 + 4) == f->len - l3 - 40);
    }
}

static void replace(const struct frame *f, uint32_t offloads)
{
    const struct vnet *const v = &f->vnet;
    uint32_t total = 0, hdr_len = 0;
    struct frame *out[BURST_MAX];
    unsigned n;

    if (offload_begin(scratch, f, offloads) != DROP_none)
        return;
    if (v->gso_type != VNET_GSO_NONE)
        hdr_len = v->csum_start + (v->gso_type == VNET_GSO_UDP_L4 ? 8u : (whole[v->csum_start + 12] >> 4) * 4u);
    while ((n = offload_next(scratch, out, BURST_MAX)) != 0) {
        for (unsigned i = 0; i < n; i++) {
            flatten(out[i]);
            MUST(offload_fits(out[i], offloads));
            if (hdr_len)
                check_segment(out[i], v, hdr_len);
            if (!hdr_len)
                check_completed(v, out[i]->len);
            else if (!out[i]->vnet.flags)
                check_l4(v, out[i]->len);
            MUST(total + out[i]->len - hdr_len <= sizeof(joined));
            memcpy(joined + total, piece + hdr_len, out[i]->len - hdr_len);
            total += out[i]->len - hdr_len;
        }
    }
    MUST(total == f->len - hdr_len);
    if (hdr_len)
        MUST(memcmp(joined, whole + hdr_len, total) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    const uint32_t allowed = in8(&in) & OFFLOADS_MASK, offloads = in8(&in) & OFFLOADS_MASK;
    uint8_t wire[VNET_WIRE_LEN];
    struct frame f = { .out_vid = US_VID_UNTAGGED };
    uint32_t len;

    in_bytes(&in, wire, sizeof(wire));
    len = make_frame(&in);
    if (vnet_parse(wire, len, allowed, &f.vnet) != DROP_none)
        return 0;
    check_parsed(&f.vnet, len, allowed);
    chop(&in, &f, len);
    if (!offload_fits(&f, offloads))
        replace(&f, offloads);
    return 0;
}
