/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq.h - one virtqueue, device side: its state, its life, and the burst
 * calls of the two directions.
 *
 * Theory of operation.  What a worker needs of guest memory hangs from one
 * pointer: struct virtq_map, immutable, holds the translated ring addresses
 * and the memory table they were translated by.  NULL means stopped.  A new
 * memory table is taken over by publishing a new map; a worker that started a
 * burst with the old one finishes with the old one, and the control thread
 * waits a grace period before it unmaps.  Positions live in struct virtq, so
 * they survive the exchange.
 *
 * Buffers are returned in the order in which they were taken, always: that
 * makes a split ring's used index its whole recovery state (last_avail is
 * derived from it), and no record of what is in flight has to outlive the
 * process.  What a packed ring needs instead is in virtq_packed.h.  Buffers
 * that an adapter still reads wait, and later ones behind them
 * (virtq_hold.h).
 *
 * Who may touch what.  A worker looks at enabled and map first, and at the
 * fields that are its own only if map is not NULL, with two exceptions: the
 * lock, and n_taken, which is 0 outside a turn.  From virtq_stop()'s grace
 * period to the publication in virtq_start() they belong to the control
 * thread, which sets the positions and reads them.  A TX ring has a worker
 * only while its queue is handed out (worker_add_queue() to
 * worker_del_queue()), and uswitch.c hands it out later and takes it back
 * earlier than that; an RX ring is anybody's who delivers.
 *
 * Directions: the guest's transmit rings (odd numbers) are read by rx_burst,
 * the guest's receive rings (even) are filled by tx_burst.
 *
 * The functions named split_* are virtio 1.2, 2.7.  Packed rings (2.8) are a
 * second set of the same calls over the same struct, chosen in virtq_io.c by
 * the layout of the map.  What has nothing to do with a layout is in
 * virtq_take.* (frames out of buffers), virtq_put.h and virtq_merge.c (frames
 * into buffers), virtq_chain.h (along a chain).
 */
#ifndef USWITCH_VIRTQ_H
#define USWITCH_VIRTQ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/spin.h"
#include "base/virtq_spec.h"
#include "port.h"
#include "vhost/dirty_log.h"
#include "vhost/guest_mem.h"

/**
 * struct virtq_map - where a running ring lies (immutable, RCU)
 * @mem: the table used for the ring and its buffers
 * @log: where writes to guest memory are recorded, NULL: nowhere
 * @packed: layout (VIRTIO_F_RING_PACKED): which of the following are valid
 * @desc: split: whole descriptor table, checked
 * @avail: split: whole available ring, checked, used_event included
 * @used: split: whole used ring, checked, avail_event included
 * @ring: packed: whole descriptor ring, checked
 * @driver: packed: the driver's event suppression, checked
 * @device: packed: ours, checked
 * @desc_gpa: where the first part lies for the guest
 * @device_gpa: the same of the third part
 */
struct virtq_map {
    const struct guest_mem *mem;
    const struct dirty_log *log;
    bool packed;
    union {
        struct vring_desc *desc;
        struct pvirtq_desc *ring;
    };
    union {
        struct vring_avail *avail;
        const struct pvirtq_event_suppress *driver;
    };
    union {
        struct vring_used *used;
        struct pvirtq_event_suppress *device;
    };
    uint64_t desc_gpa;
    uint64_t device_gpa;
};

struct virtq_hold;

/**
 * struct virtq - one virtqueue of a vhost port
 */
struct virtq {
    /* published (writer: control, readers: workers) */
    _Atomic(const struct virtq_map *) map;  /* NULL: stopped (RCU, owned) */
    _Atomic int call_fd;                    /* -1: none (RCU, owned) */
    _Atomic bool enabled;                   /* SET_VRING_ENABLE */
    _Atomic bool lends;                     /* TX ring: an adapter may read buffers in place */

    /* constant while map is published (writer: control) */
    bool packed;                            /* layout; also in the map, for who has one */
    bool event_idx;
    bool indirect;
    bool mergeable;
    bool in_order;
    uint8_t hdr_len;                        /* 12 or 10, virtio-net header in front of each frame */
    uint16_t mask;                          /* ring size - 1 */
    uint32_t index;                         /* ring number in the port */
    uint32_t offloads;                      /* OFFLOAD_*: TX ring: what the guest may ask for; RX: what it takes */
    struct port *port;                      /* back pointer */
    struct us_ring_state *state;            /* this ring's part of the state page */
    struct us_queue_counters *count;        /* its queue's counters: in[] for TX rings, out[] for RX */
    struct virtq_hold *hold;                /* TX ring: buffers that wait (owned) */

    /* while map is published, one worker at a time: the queue's (TX ring), or who holds the lock (RX ring) */
    struct spin lock __attribute__((aligned(64)));
    bool armed;                             /* TX ring: the guest was asked to kick */
    uint16_t last_avail;                    /* next avail entry to take; packed: a position, see virtq_packed.h */
    uint16_t avail_idx;                     /* split: the guest's index when we last looked, checked */
    uint16_t used_idx;                      /* next used entry to write; never read back from the guest */
    uint16_t n_taken;                       /* TX ring: heads between rx_burst and rx_complete, else 0 */
    uint16_t region;                        /* index of the region hit last: a hint */
    uint16_t last_head;                     /* TX ring, split: the head taken last */
    uint16_t next_head;                     /* TX ring, split: a guess of the next, to have its line early */
    uint16_t longest;                       /* TX ring, split: descriptors of the last chain, a guess for the next */
    uint32_t n_held;                        /* TX ring: buffers that wait in @hold */
    uint16_t merged;                        /* RX ring: chains of the last frame, a guess for the next; 1..BURST_MAX */
    _Atomic uint8_t warm_in;                /* RX ring: idle looks until virtq_warm() does it; 0: not wanted */
    const struct virtq_map *taken_map;      /* TX ring: the map they were taken with; valid within a turn */
    uint16_t taken[BURST_MAX];              /* TX ring: those heads; packed: their buffer ids */
    uint16_t taken_len[BURST_MAX];          /* TX ring, packed: descriptors of the ring that each takes up */

    /* control thread */
    struct virtq_map *owned __attribute__((aligned(64))); /* what map points to, or pointed to until readers are gone */
    uint64_t uva[3];                        /* descriptor table, avail ring, used ring */
    int kick_fd;                            /* TX ring: watched, never read; -1: none (owned) */
};

/**
 * struct virtq_setup - what a ring starts with, taken from struct us_vhost_ring
 * @size: descriptors
 * @base: next avail index, or US_BASE_FROM_USED
 * @features: negotiated bits
 * @uva: descriptor table, avail ring, used ring, in the front-end's addresses
 */
struct virtq_setup {
    uint32_t size;
    uint32_t base;
    uint64_t features;
    uint64_t uva[3];
};

/* The region to try first; the index is only a hint and may stem from another table. */
static inline const struct guest_region *virtq_region_hint(const struct virtq *vq, const struct guest_mem *mem)
{
    return &mem->region[vq->region < mem->n ? vq->region : 0];
}

static inline bool virtq_is_tx(const struct virtq *vq)
{
    return vq->index & 1;
}

/* Before anything else, once. Control thread. */
void virtq_init(struct virtq *vq, struct port *port, uint32_t index);

/* Free the map and close the fds of a ring that no worker uses any more. Legal twice. Control thread. */
void virtq_fini(struct virtq *vq);

/**
 * virtq_map_create() - translate and check a ring's geometry as a whole
 * @mem: table (borrowed by the map)
 * @log: log or NULL (borrowed by the map)
 * @size: descriptors, checked
 * @packed: layout
 * @uva: descriptor table, avail ring, used ring; packed: descriptor ring, driver area, device area
 * @out: the map, to be freed with free()
 *
 * Each part must be aligned and lie in one region.  Return: 0, -EINVAL (alignment), -EFAULT (not inside one
 * region), -ENOMEM.
 */
int virtq_map_create(const struct guest_mem *mem, const struct dirty_log *log, uint32_t size, bool packed,
                     const uint64_t uva[3], struct virtq_map **out);

/**
 * virtq_start() - check a ring, set its position, publish it
 * @vq: a stopped ring
 * @mem: the port's table
 * @log: the port's log or NULL
 * @setup: nothing in it is trusted
 *
 * Control thread.  Return: 0, -EBUSY (running), -EINVAL, -EFAULT, -ENOMEM.
 */
int virtq_start(struct virtq *vq, const struct guest_mem *mem, const struct dirty_log *log,
                const struct virtq_setup *setup);

/* Control thread: no burst begins on the ring any more; those under way may end. */
void virtq_unpublish(struct virtq *vq);

/*
 * Control thread: unpublish, wait a grace period, hand back what waits for an adapter, close the fds.  That may signal
 * the guest, so the thread needs its nudge (base/nudge.h).  Return: next avail index; also of a stopped ring.
 */
uint16_t virtq_stop(struct virtq *vq);

/**
 * virtq_remap() - go on in a map made from another memory table
 * @vq: a running ring
 * @map: made by virtq_map_create() for this ring's size and addresses; owned by the ring from now on
 *
 * Control thread.  Return: the old map, to be freed after a grace period.
 */
struct virtq_map *virtq_remap(struct virtq *vq, struct virtq_map *map);

/*
 * Record a running ring's used ring as a whole: what was written to it before the log came into force by a process
 * that could not record it any more.  Control thread.
 */
void virtq_mark_ring(const struct virtq *vq);

/**
 * virtq_signal() - tell the guest that its used ring moved
 * @vq: ring
 *
 * Worker, one write a burst.  Breaks the port if the write blocks.
 */
void virtq_signal(struct virtq *vq);

/*
 * The same where the last signal may have been lost, with a dead process or an old call fd; not counted.
 * Control thread, under its nudge (base/nudge.h).
 */
void virtq_signal_again(struct virtq *vq);

/* OFFLOAD_* bits of a direction. */
uint32_t virtq_offloads(uint64_t features, bool tx_ring);

/* Worker, TX ring: see struct port_ops for the meaning of the four. */
unsigned virtq_rx_burst(struct virtq *vq, struct burst *b);
void virtq_rx_complete(struct virtq *vq, struct burst *b);
bool virtq_arm(struct virtq *vq);
void virtq_disarm(struct virtq *vq);

/**
 * virtq_tx_burst() - deliver frames into a guest's receive ring
 * @vq: RX ring
 * @frames: frames that fit port->offloads, in order
 * @n: how many, 1 .. BURST_MAX
 *
 * Worker.  Counts deliveries and drops.  Return: frames delivered.
 */
unsigned virtq_tx_burst(struct virtq *vq, struct frame *const *frames, unsigned n);

/**
 * virtq_idle() - nothing to do at the moment: perhaps for what the next frame to this ring will need
 * @vq: RX ring
 *
 * Worker.  A frame that comes alone waits for one cache line after the other, from the other processor: the avail
 * ring's, the descriptor's, the buffer's.  Some looks after a delivery, when the driver has had time to put a new
 * buffer there, they are fetched while nobody waits.  No value is kept: the frame's burst loads and checks its own.
 */
void virtq_idle(struct virtq *vq);

/*
 * The same for a split ring (virtio 1.2, 2.7) that is up and, for an RX ring, locked; the business of virtq_io.c and
 * virtq_hold.c alone.  split_rx_complete() only when something was taken: hands back vq->taken, the oldest buffers in
 * flight.
 */
unsigned split_rx_burst(struct virtq *vq, const struct virtq_map *map, struct burst *b);
void split_rx_complete(struct virtq *vq, const struct virtq_map *map);
unsigned split_tx_burst(struct virtq *vq, const struct virtq_map *map, struct frame *const *frames, unsigned n);
void split_warm(struct virtq *vq, const struct virtq_map *map);
bool split_arm(struct virtq *vq, const struct virtq_map *map);
void split_disarm(struct virtq *vq, const struct virtq_map *map);

/* Control thread, before a map is published: start from what the guest last saw, and say whether we want kicks. */
void split_reset(struct virtq *vq, const struct virtq_map *map, uint32_t base);

/* All of it once more for a packed ring (virtio 1.2, 2.8).  packed_rx_complete(): @part: descriptors, 0: all. */
unsigned packed_rx_burst(struct virtq *vq, const struct virtq_map *map, struct burst *b);
void packed_rx_complete(struct virtq *vq, const struct virtq_map *map, uint32_t part);
unsigned packed_tx_burst(struct virtq *vq, const struct virtq_map *map, struct frame *const *frames, unsigned n);
bool packed_arm(struct virtq *vq, const struct virtq_map *map);
void packed_disarm(struct virtq *vq, const struct virtq_map *map);
/* Return: 0, or -EINVAL if there is no such position in the ring, or the state page has none to go on from. */
int packed_reset(struct virtq *vq, const struct virtq_map *map, uint32_t base);

#endif /* USWITCH_VIRTQ_H */
