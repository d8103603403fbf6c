/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_hold.h - buffers of a guest's transmit ring that an adapter still
 * reads (hold.h): they wait here, and with them those taken later, since
 * buffers go back in the order in which they came (virtq.h).
 *
 * While something waits the ring's used index stays behind, so a process that
 * is killed, or a guest that is migrated, finds the buffers in flight.
 *
 * Worker of the queue; control when the ring is stopped.
 */
#ifndef USWITCH_VIRTQ_HOLD_H
#define USWITCH_VIRTQ_HOLD_H

#include "vhost/virtq.h"

/* Bursts that wait, at most; of a burst behind them nothing is read in place. */
#define HELD_BURSTS 32

/**
 * struct virtq_hold - what waits, oldest first
 * @limit: no more is read in place while so many buffers wait: half the ring
 * @size: entries of @buf
 * @first: oldest entry
 * @burst_first, @n_bursts: oldest burst, and how many
 * @burst: what they wait for, and their number of buffers
 * @buf: heads; packed: buffer ids, and descriptors of the ring that each takes up
 */
struct virtq_hold {
    uint32_t limit;
    uint32_t size;
    uint32_t first;
    uint32_t burst_first, n_bursts;
    struct {
        struct hold hold;
        uint32_t n;
    } burst[HELD_BURSTS];
    struct {
        uint16_t head, len;
    } buf[];
};

/* For a ring of so many descriptors; NULL: no memory. Control. */
struct virtq_hold *virtq_hold_create(uint32_t ring_size);

/* Forget what waits, without handing it back. NULL is legal. Control. */
void virtq_hold_destroy(struct virtq_hold *h);

/* A burst was taken: its frames may be read in place, if not too many wait already. */
void virtq_hold_offer(const struct virtq *vq, struct burst *b);

/* In the place of rx_complete: keep what was taken behind what waits, and hand back what is over. */
void virtq_hold_keep(struct virtq *vq, const struct virtq_map *map, struct burst *b);

/**
 * virtq_hold_release() - hand back what is over
 * @vq: ring with vq->n_held > 0 and nothing taken
 * @map: its map
 *
 * Return: false: there is no room for another burst.
 */
bool virtq_hold_release(struct virtq *vq, const struct virtq_map *map);

/* Hand everything back, after a wait if need be (hold_settle()). Control, of a ring that no worker has. */
void virtq_hold_settle(struct virtq *vq, const struct virtq_map *map);

#endif /* USWITCH_VIRTQ_HOLD_H */
