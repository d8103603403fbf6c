/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_nic_copy.c - frames into DMA buffers and out of them: every way a frame
 * can be cut must give the same bytes.
 */
#include "harness.h"

#include "nic/nic_copy.h"

#define LONG 9000
#define SIZE 2048

static uint8_t wire[LONG + 4], source[HDR_ROOM + LONG], buffers[8][SIZE + 1];
static struct burst burst;
static struct port port;
static uint64_t seed = 1;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(seed >> 33) % n;
}

static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)below(256);
}

/* What must come out: the frame with a tag behind its addresses. */
static uint32_t expected(uint32_t len, uint16_t vid, uint16_t pcp)
{
    const uint8_t *const frame = source + HDR_ROOM;

    if (vid == US_VID_UNTAGGED) {
        memcpy(wire, frame, len);
        return len;
    }
    memcpy(wire, frame, 12);
    wire[12] = 0x81;
    wire[13] = 0;
    wire[14] = (uint8_t)((pcp | vid) >> 8);
    wire[15] = (uint8_t)vid;
    memcpy(wire + 16, frame + 12, len - 12);
    return len + 4;
}

static void copy_once(uint32_t size)
{
    const uint32_t len = ETH_HDR_LEN + below(LONG - ETH_HDR_LEN), whole = below(4) == 0;
    uint8_t *const buf[] = { buffers[0], buffers[1], buffers[2], buffers[3], buffers[4], buffers[5], buffers[6],
                             buffers[7] };
    struct iovec iov[40];
    struct frame f = { .hdr = source + HDR_ROOM, .len = len, .iov = iov };
    uint32_t at, want, used, n;

    fill(source, sizeof(source));
    f.hdr_len = whole || len < 18 ? len : 18 + below((len < 128 ? len : 128) - 17);
    f.out_vid = below(2) ? US_VID_UNTAGGED : (uint16_t)(1 + below(4094));
    f.pcp = (uint16_t)(below(16) << 12);
    for (at = f.hdr_len; at < len; at += (uint32_t)iov[f.n_iov++].iov_len) {
        const uint32_t part = f.n_iov == 39 ? len - at : 1 + below(len - at);

        iov[f.n_iov] = (struct iovec){ f.hdr + at, part };
    }
    want = expected(len, f.out_vid, f.pcp);
    CHECK_EQ(nic_wire_len(&f), want);
    for (n = 0; n < 8; n++)
        buffers[n][size] = 0xaa;
    used = nic_copy_frame(&f, buf, size);
    CHECK_EQ(used, (want + size - 1) / size);
    for (n = 0, at = 0; n < used; n++, at += size) {
        CHECK(memcmp(buffers[n], wire + at, want - at < size ? want - at : size) == 0);
        CHECK_EQ(buffers[n][size], 0xaa);
    }
}

TEST(every_cut_goes_out)
{
    for (unsigned i = 0; i < 3000; i++) {
        copy_once(SIZE);
        copy_once(1536);
    }
}

/* A frame of the wire in pieces, and what the switch gets to see of it. */
static enum drop_reason take(uint32_t len, uint32_t piece, const struct vnet *vnet)
{
    uint32_t n = 0;

    for (uint32_t at = 0; at < len; at += piece) {
        const uint32_t part = len - at < piece ? len - at : piece;

        memcpy(buffers[n], source + at, part);
        burst.iov[burst.n_iov + n] = (struct iovec){ buffers[n], part };
        n++;
    }
    return nic_take_frame(&port, &burst, n, vnet);
}

static void check_taken(uint32_t len, uint32_t snap)
{
    const struct frame *const f = &burst.frame[0];
    uint32_t at = f->hdr_len;

    REQUIRE(burst.n == 1);
    CHECK_EQ(f->len, len);
    CHECK_EQ(f->hdr_len, len < snap ? len : snap);
    CHECK(memcmp(f->hdr, source, f->hdr_len) == 0);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        CHECK(f->iov[i].iov_len > 0);
        CHECK(memcmp(f->iov[i].iov_base, source + at, f->iov[i].iov_len) == 0);
        at += (uint32_t)f->iov[i].iov_len;
    }
    CHECK_EQ(at, len);
}

TEST(every_cut_comes_in)
{
    static const uint32_t pieces[] = { 13, 64, 65, 127, 128, 129, 1500, SIZE };
    const struct vnet plain = { 0 }, checked = { .flags = VNET_DATA_VALID };

    atomic_init(&port.max_frame, LONG);
    for (unsigned i = 0; i < 4000; i++) {
        const uint32_t piece = pieces[below(8)], longest = 8 * piece < LONG ? 8 * piece : LONG;
        const uint32_t len = ETH_HDR_LEN + below(longest - ETH_HDR_LEN + 1);

        burst.n = burst.n_iov = 0;
        fill(source, sizeof(source));
        CHECK_EQ(take(len, piece, i % 2 ? &checked : &plain), DROP_none);
        check_taken(len, i % 2 ? SNAP_SIZE : SNAP_SHORT);
        CHECK_EQ(burst.frame[0].vnet.flags, i % 2 ? VNET_DATA_VALID : 0);
    }
}

TEST(lengths)
{
    const struct vnet plain = { 0 }, tso = { .flags = 1, .gso_type = VNET_GSO_TCPV4, .gso_size = 1000 };

    atomic_init(&port.max_frame, 1514);
    burst.n = burst.n_iov = 0;
    memset(source, 0, sizeof(source));
    CHECK_EQ(take(13, SIZE, &plain), DROP_frame_short);
    CHECK_EQ(take(1515, SIZE, &plain), DROP_frame_long);
    CHECK_EQ(burst.n + burst.n_iov, 0);
    CHECK_EQ(take(1515, SIZE, &tso), DROP_none);
    CHECK_EQ(take(1514, SIZE, &plain), DROP_none);
    source[12] = 0x81;
    CHECK_EQ(take(1518, SIZE, &plain), DROP_none);
    CHECK_EQ(take(1519, SIZE, &plain), DROP_frame_long);
    CHECK_EQ(burst.n, 3);
    for (unsigned i = 0; i < 33; i++)
        burst.iov[burst.n_iov + i] = (struct iovec){ buffers[0], SIZE };
    CHECK_EQ(nic_take_frame(&port, &burst, 33, &tso), DROP_frame_long);
}

MAIN
{
    RUN(every_cut_goes_out);
    RUN(every_cut_comes_in);
    RUN(lengths);
}
