/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_guard.c - any frame from a guarded port, with a snapshot of any length.
 *
 * Claimed:
 *   - the verdict is the same whatever the snapshot's length, and whatever
 *     lies behind the bytes that can be seen;
 *   - judging moves bytes into the snapshot and changes none;
 *   - a frame that passes is of a type and from a MAC address that may be, an
 *     ARP sender is the frame's, IP sources are covered (or are nobody, asking);
 *     it goes to no DHCP client, is no router advertisement or redirect, and
 *     a neighbor advertisement is for a covered address and names no other
 *     link-layer address (each looked for where it is without extension headers).
 *
 * BUG options_not_compared policy/antispoof_ipv6.c
 *   - if (len != OPTION_UNIT || le64toh(named) != mac)
 *   + if (len != OPTION_UNIT || (le64toh(named) ^ mac) >> 48)
 *   ! not true
 *
 * BUG looks_behind_the_snapshot policy/antispoof_priv.h
 *   - if (__builtin_expect(end <= f->hdr_len && end <= POLICY_VIEW, 1))
 *   + if (__builtin_expect(end <= f->len && end <= POLICY_VIEW, 1))
 *   ! not true
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_guest.h"
#include "policy.h"
#include "policy/antispoof.h"

#define FRAME_MAX 400u
#define PIECES_MAX 4u

static const uint8_t own[6] = { 2, 0, 0, 0, 0, 0x0a }, other[6] = { 2, 0, 0, 0, 0, 0x0b };
static const uint8_t link_local[16] = { 0xfe, 0x80, [15] = 5 }, prefix[8] = { 0x20, 0x01, 0x0d, 0xb8, 0, 1 };
static const struct policy *policy;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct us_guard_pair pair[5] = {
        { .family = US_GUARD_IPV4, .prefix_len = 32, .ip = { 10, 0, 0, 5 } },
        { .family = US_GUARD_IPV4, .prefix_len = 16, .ip = { 10, 1 } },
        { .family = US_GUARD_IPV6, .prefix_len = 128 },
        { .family = US_GUARD_IPV6, .prefix_len = 64 },
        { .family = US_GUARD_MAC },
    };

    (void)argc;
    (void)argv;
    for (unsigned i = 0; i < 5; i++)
        memcpy(pair[i].mac, i == 4 ? other : own, 6);
    memcpy(pair[2].ip, link_local, 16);
    memcpy(pair[3].ip, prefix, 8);
    MUST(antispoof_create(pair, 5, &policy) == 0);
    return 0;
}

/* Judged with so many bytes of snapshot, the rest in pieces; each piece ends where its memory does. */
static enum drop_reason judge(const uint8_t *data, uint32_t len, uint32_t snap, uint32_t piece)
{
    const uint32_t head = len < snap ? len : snap;
    uint8_t *const slot = malloc(HDR_ROOM + SNAP_SIZE), *const rest = malloc(len - head ? len - head : 1);
    struct iovec iov[PIECES_MAX];
    struct frame f = { .hdr = slot + HDR_ROOM, .hdr_len = head, .len = len, .iov = iov };
    enum drop_reason why;

    MUST(slot && rest);
    memset(slot, 0xee, HDR_ROOM + SNAP_SIZE);
    memcpy(f.hdr, data, head);
    memcpy(rest, data + head, len - head);
    for (uint32_t at = 0; at < len - head; f.n_iov++) {
        const uint32_t left = len - head - at, part = f.n_iov == PIECES_MAX - 1 || left < piece ? left : piece;

        iov[f.n_iov] = (struct iovec){ rest + at, part };
        at += part;
    }
    why = policy_verdict(policy, &f);
    MUST(f.hdr_len >= head && f.hdr_len <= SNAP_SIZE && memcmp(f.hdr, data, f.hdr_len) == 0);
    for (uint32_t i = 0, at = f.hdr_len; i < f.n_iov; at += (uint32_t)f.iov[i++].iov_len)
        MUST(f.iov[i].iov_len > 0 && memcmp(f.iov[i].iov_base, data + at, f.iov[i].iov_len) == 0);
    free(slot);
    free(rest);
    return why;
}

static bool is_nobody(const uint8_t *ip, uint32_t len)
{
    static const uint8_t zero[16];

    return memcmp(ip, zero, len) == 0;
}

static bool may_ipv6(const uint8_t *ip)
{
    return memcmp(ip, link_local, 16) == 0 || memcmp(ip, prefix, 8) == 0;
}

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static void check_ipv4(const uint8_t *f, uint32_t len)
{
    const uint8_t *const source = f + 26, *const udp = f + 34;
    const bool covered = memcmp(source, "\x0a\0\0\5", 4) == 0 || memcmp(source, "\x0a\1", 2) == 0;
    const bool ports = f[14] == 0x45 && f[23] == 17 && (be16(f + 20) & 0x1fff) == 0;

    MUST(len >= 34 && f[14] >> 4 == 4);
    MUST(covered || is_nobody(source, 4));
    if (ports)
        MUST(len >= 38 && be16(udp + 2) != 68);
    if (ports && !covered)
        MUST(be16(udp) == 68 && be16(udp + 2) == 67);
}

/* What stands in the options of a message, as far as they are where they should be. */
static void check_options(const uint8_t *at, const uint8_t *end, const uint8_t *mac)
{
    for (; end - at >= 8 && at[1]; at += 8 * at[1]) {
        if (8 * at[1] > end - at)
            return;
        MUST((at[0] != 1 && at[0] != 2) || memcmp(at + 2, mac, 6) == 0);
    }
}

static void check_ipv6(const uint8_t *f, uint32_t len)
{
    const uint8_t *const up = f + 54;

    MUST(len >= 54 && f[14] >> 4 == 6 && (may_ipv6(f + 22) || is_nobody(f + 22, 16)));
    MUST(may_ipv6(f + 22) || f[20] == 58 || f[20] == 0 || f[20] == 43 || f[20] == 44 || f[20] == 51 || f[20] == 60 ||
         f[20] == 135 || f[20] == 139 || f[20] == 140);
    if (f[20] == 17)
        MUST(len >= 62 && be16(up + 2) != 546);
    if (f[20] != 58)
        return;
    MUST(len >= 58 && up[0] != 134 && up[0] != 137);
    if (up[0] == 136)
        MUST(len >= 78 && f[21] == 255 && may_ipv6(up + 8));
    if (up[0] == 135 || up[0] == 136)
        check_options(up + 24, up + be16(f + 18), f + 6);
}

static void check_passed(const uint8_t *f, uint32_t len)
{
    MUST(memcmp(f + 6, own, 6) == 0 || memcmp(f + 6, other, 6) == 0);
    switch (be16(f + 12)) {
    case 0x0800:
        MUST(f[11] == own[5] || is_nobody(f + 26, 4));
        check_ipv4(f, len);
        break;
    case 0x86dd:
        MUST(f[11] == own[5] || is_nobody(f + 22, 16));
        check_ipv6(f, len);
        break;
    case 0x0806:
    case 0x8035:
        MUST(len >= 42 && memcmp(f + 22, f + 6, 6) == 0);
        break;
    default:
        MUST(!"a type that may not be");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    const uint32_t snap = 18 + in8(&in) % (SNAP_SIZE - 17), piece = 1 + in8(&in);
    uint8_t frame[FRAME_MAX];
    const uint32_t len = in.left < ETH_HDR_LEN ? ETH_HDR_LEN : in.left < FRAME_MAX ? (uint32_t)in.left : FRAME_MAX;
    enum drop_reason why;

    in_bytes(&in, frame, len);
    why = judge(frame, len, snap, piece);
    MUST(why < DROP_COUNT);
    MUST(judge(frame, len, SNAP_SIZE, FRAME_MAX) == why);
    if (why == DROP_none)
        check_passed(frame, len);
    for (uint32_t i = POLICY_VIEW; i < len; i++)
        frame[i] ^= 0x5a;
    MUST(judge(frame, len, snap, piece) == why);
    return 0;
}
