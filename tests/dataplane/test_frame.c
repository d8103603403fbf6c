/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_frame.c - a longer snapshot: every length, over pieces of every size.
 */
#include "frame.h"
#include "harness.h"

#define LEN 200u

/* The frame of 0, 1, 2 ... with @head bytes of snapshot and pieces of @piece bytes, made @want bytes longer. */
static void check_lengthen(uint32_t len, uint32_t head, uint32_t piece, uint32_t want)
{
    uint8_t source[LEN], snap[SNAP_SIZE];
    struct iovec iov[LEN];
    struct frame f = { .hdr = snap, .hdr_len = head, .len = len, .iov = iov };
    uint32_t at;

    for (uint32_t i = 0; i < len; i++)
        source[i] = (uint8_t)i;
    memset(snap, 0xee, sizeof(snap));
    memcpy(snap, source, head);
    for (at = head; at < len; at += piece)
        iov[f.n_iov++] = (struct iovec){ source + at, len - at < piece ? len - at : piece };
    frame_lengthen(&f, want);

    CHECK_EQ(f.hdr_len, want < head ? head : want < len ? want : len);
    CHECK_MEM(snap, source, f.hdr_len);
    CHECK(f.hdr_len == sizeof(snap) || snap[f.hdr_len] == 0xee);
    at = f.hdr_len;
    for (uint32_t i = 0; i < f.n_iov; i++) {
        CHECK(f.iov[i].iov_len > 0 && f.iov[i].iov_base == source + at);
        at += (uint32_t)f.iov[i].iov_len;
    }
    CHECK_EQ(at, len);
}

TEST(every_length)
{
    for (uint32_t len = 18; len <= LEN; len += 7) {
        for (uint32_t head = 18; head <= len && head <= SNAP_SIZE; head += 5) {
            for (uint32_t piece = 1; piece < 80; piece += 3) {
                for (uint32_t want = 0; want <= SNAP_SIZE; want += 4)
                    check_lengthen(len, head, piece, want);
            }
        }
    }
}

MAIN
{
    RUN(every_length);
}
