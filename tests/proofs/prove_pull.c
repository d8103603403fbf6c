/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * A header that lies in many descriptors: pull(), which moves the front of a
 * frame's scatter list into private memory.
 *
 * Proven, for PIECES pieces of any length and any length of header that lies
 * in them: exactly the bytes from the front are copied, each to its place and
 * once, none is read beyond its piece, what is left is the rest of the list,
 * and none of it is empty but the last one used up.
 *
 * Assumed: pieces are not empty (gather() adds none that is), and hold the
 * header (take_chain() has counted them).
 * Bound: PIECES; a legacy header of ten bytes, byte by byte, is the deep run.
 *
 * CBMC: -DPIECES=3 --unwind 4 --unwinding-assertions
 * DEEP: -DPIECES=11 --unwind 12 --unwinding-assertions
 *
 * BUG piece_stays vhost/virtq_take.c
 *   - if (v->iov_len == 0)\n            ++*iov;
 *   + if (v->iov_len == 1)\n            ++*iov;
 *   ! the list goes on at
 * BUG reads_too_far vhost/virtq_take.c
 *   - const uint32_t part = v->iov_len < len ? (uint32_t)v->iov_len : len;\n\n        guest_copy(dst
 *   + const uint32_t part = len;\n\n        guest_copy(dst
 *   ! R_OK
 * BUG source_not_moved vhost/virtq_take.c
 *   - v->iov_base = (uint8_t *)v->iov_base + part;
 *   + v->iov_base = (uint8_t *)v->iov_base + 0;
 *   ! the list goes on
 */
#include "proof.h"

#include "vhost/virtq_take.c"

static struct iovec list[PIECES + 1];
static uint32_t size[PIECES];

/* Any one byte of the header, followed on its way: where it lies, where it goes. */
static uint32_t followed, in_piece, off_in_piece, copies;

void on_copy(void *dst, const void *src, uint64_t len)
{
    const uint64_t start = __CPROVER_POINTER_OFFSET(dst);

    if (start <= followed && followed - start < len) {
        CLAIM(__CPROVER_same_object(src, list[in_piece].iov_base) &&
              __CPROVER_POINTER_OFFSET(src) + (followed - start) == off_in_piece, "each byte goes to its place");
        copies++;
    }
}

int main(void)
{
    static uint8_t dst[SNAP_SIZE];
    const uint32_t len = nondet_u32();
    uint32_t total = 0, at = 0, at_off = 0;
    struct iovec *iov = list;

    followed = nondet_u32();
    ASSUME(len >= 1 && len <= SNAP_SIZE && followed < len);
    for (uint32_t i = 0; i < PIECES; i++) {
        size[i] = nondet_u32();
        ASSUME(size[i] >= 1 && size[i] <= US_FRAME_MAX);
        list[i] = (struct iovec){ any_bytes(size[i]), size[i] };
        if (total <= followed && followed - total < size[i]) {
            in_piece = i;
            off_in_piece = followed - total;
        }
        if (total <= len && len - total < size[i]) {
            at = i;
            at_off = len - total;
        }
        total += size[i];
    }
    ASSUME(total > len);
    pull(&iov, dst, len);
    CLAIM(copies == 1, "each byte is copied once");
    CLAIM(iov == list + at, "the list goes on at the first byte left");
    CLAIM(__CPROVER_POINTER_OFFSET(iov->iov_base) == at_off && iov->iov_len == size[at] - at_off,
          "the list goes on at the first byte left");
    return 0;
}
