/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * frame.c - a longer snapshot, for the few who have to look beyond the usual
 * one: pieces of a frame that are shorter than it, policies (policy.h).
 * Worker thread.
 */
#include "frame.h"

#include "base/guest.h"

void frame_lengthen(struct frame *f, uint32_t want)
{
    while (f->hdr_len < want && f->n_iov) {
        struct iovec *const v = f->iov;
        const size_t left = want - f->hdr_len, part = v->iov_len < left ? v->iov_len : left;

        guest_copy(f->hdr + f->hdr_len, v->iov_base, part);
        f->hdr_len += (uint32_t)part;
        v->iov_base = (uint8_t *)v->iov_base + part;
        v->iov_len -= part;
        if (v->iov_len == 0) {
            f->iov++;
            f->n_iov--;
        }
    }
}
