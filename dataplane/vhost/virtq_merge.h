/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_merge.h - a frame as a stream of bytes into chains of any shape, for
 * the general path of both layouts: virtq_merge.c has it, and what a split
 * ring does with it; virtq_packed_merge.c is the packed ring's.  Worker thread.
 */
#ifndef USWITCH_VIRTQ_MERGE_H
#define USWITCH_VIRTQ_MERGE_H

#include "vhost/virtq_chain.h"
#include "vhost/virtq_put.h"

/**
 * struct source - the bytes of a frame as they go out, in order
 * @front: virtio-net header, addresses and tag
 * @piece: @front; rest of the snapshot; then the frame's iov
 * @iov: current piece
 * @n: pieces left, the current one included
 * @more: pieces that follow when @n is used up
 * @n_more: how many
 * @off: bytes of the current piece that are out
 * @done: bytes that are out
 * @num_buffers: where the two bytes of that field went
 * @num_gpa: the same as the guest sees it
 */
struct source {
    uint8_t front[FRONT_SIZE];
    struct iovec piece[2];
    const struct iovec *iov;
    uint32_t n;
    const struct iovec *more;
    uint32_t n_more;
    size_t off;
    uint32_t done;
    uint8_t *num_buffers[2];
    uint64_t num_gpa[2];
};

/* Begin with a frame's first byte. */
void merge_begin(struct source *s, const struct virtq *vq, const struct frame *f);

/**
 * merge_fill() - fill one chain with what is left of the frame
 * @t: burst
 * @s: the frame
 * @need: bytes of the frame with virtio-net header and tag
 * @d: the chain's head descriptor, copied
 * @pos: packed: its position
 * @c: the walk, as far as it went
 * @got: becomes the bytes written
 *
 * Return: DROP_none, or why the chain is malformed.
 */
enum drop_reason merge_fill(struct put *t, struct source *s, uint32_t need, const struct desc *d, uint16_t pos,
                            struct chain *c, uint32_t *got);

/* 5.1.6.4: the frame took so many chains, which is known when all are filled. @log: where that is recorded, or NULL. */
void merge_set_buffers(const struct source *s, const struct dirty_log *log, unsigned chains);

/* No room: the chains stay where they are, and later frames that need no less are not tried in vain. */
static inline enum drop_reason merge_no_room(struct put *t, uint32_t room, enum drop_reason why)
{
    t->known = room;
    t->why = why;
    return why;
}

#endif /* USWITCH_VIRTQ_MERGE_H */
