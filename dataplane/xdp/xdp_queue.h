/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_queue.h - one queue of a kernel device, through one AF_XDP socket: its
 * memory (umem), its rings, frames in and out.
 *
 * The memory is cut into chunks of equal size: the first half is for
 * receiving, the second for sending, so that the two directions share nothing.
 * A chunk is with the kernel or with us; what the kernel names is checked
 * against that, so that a mistake of a driver costs the port and not memory.
 *
 * Receiving (rx, fill ring, held[]) belongs to the worker that has the queue;
 * sending (tx, completion ring, free[]) to whoever holds tx_lock.
 */
#ifndef USWITCH_XDP_QUEUE_H
#define USWITCH_XDP_QUEUE_H

#include "base/spin.h"
#include "port.h"
#include "xdp/xdp_ring.h"

/* What the kernel leaves free before a received frame (XDP_PACKET_HEADROOM). */
#define XDP_ROOM_BEFORE 256
/* Chunks a frame may take: the kernel makes one buffer with so many pieces (MAX_SKB_FRAGS is 17). */
#define XDP_PIECES_MAX 16
/*
 * Fill and transmit ring have so many entries for each chunk.  The kernel takes entries, hands over their chunks (as
 * received, as sent), and only then stores how far it is: a chunk may be on its way back while its old entry still
 * looks pending.  At most all chunks do; each looks pending twice at most.
 */
#define XDP_RING_SLACK 2
/* Chunks one burst may take; at least the longest frame. */
#define XDP_HELD_MAX 256

/**
 * struct xdp_config - how a queue is set up
 * @ifindex: device, in the network namespace where the socket was made
 * @queue: its queue
 * @ring_size: chunks in each direction, and entries of the rings that the kernel fills; a power of two
 * @chunk_size: bytes, 2048 or 4096
 * @zero_copy: the device reads and writes the chunks itself
 * @pieces: a frame may take several chunks (Linux 6.6)
 */
struct xdp_config {
    uint32_t ifindex;
    uint32_t queue;
    uint32_t ring_size;
    uint32_t chunk_size;
    bool zero_copy;
    bool pieces;
};

/**
 * struct xdp_queue - a socket and all that belongs to it
 * @port: whose queue it is (immutable)
 * @index: which (immutable)
 * @cfg: (immutable)
 * @fd: the socket (owned, immutable)
 * @umem: 2 * ring_size chunks (owned)
 * @with_kernel: 1 for each chunk that the kernel has
 * @rx, @fill: receiving
 * @held: chunks of the burst that is being delivered
 * @n_held: how many
 * @tx_lock: sending, if the port is shared
 * @tx, @completion: sending
 * @free: chunks to send with
 * @n_free: how many
 * @down: the device was down when we sent last
 * @unsent: the kernel did not take all we wanted to send; the worker of the queue asks again
 */
struct xdp_queue {
    struct port *port;
    uint32_t index;
    struct xdp_config cfg;
    int fd;
    uint8_t *umem;
    uint8_t *with_kernel;

    struct xdp_ring rx;
    struct xdp_ring fill;
    uint32_t held[XDP_HELD_MAX];
    uint32_t n_held;

    struct spin tx_lock __attribute__((aligned(64)));
    struct xdp_ring tx;
    struct xdp_ring completion;
    uint32_t *free;
    uint32_t n_free;
    bool down;
    _Atomic bool unsent;
};

/* ---- life: control thread (xdp_socket.c) ---- */

/* Bytes of memory that a queue shares with the kernel; counts against RLIMIT_MEMLOCK. */
static inline size_t xdp_umem_size(const struct xdp_config *cfg)
{
    return (size_t)2 * cfg->ring_size * cfg->chunk_size;
}

/**
 * xdp_queue_memory() - memory for chunks and the books about them, all chunks with us
 * @q: zeroed but for port, index, cfg
 *
 * Return: 0 or -ENOMEM; xdp_queue_close() in either case.
 */
int xdp_queue_memory(struct xdp_queue *q);

/**
 * xdp_queue_open() - memory, rings, and the socket bound to its queue
 * @q: zeroed but for port, index, cfg
 * @fd: AF_XDP socket, neither set up nor bound; borrowed, duplicated
 *
 * Needs no capability.  Return: 0; -EINVAL: no AF_XDP socket, or the device has no such queue, or no frames in several
 * chunks; -EDQUOT: RLIMIT_MEMLOCK; -EBUSY: the socket is in use already, or the queue has another; -ENODEV,
 * -ENETDOWN; -EOPNOTSUPP: no zero copy; -ENOMEM; xdp_queue_close() in either case.
 */
int xdp_queue_open(struct xdp_queue *q, int fd);

/* Legal on a half-open queue, after a grace period. */
void xdp_queue_close(struct xdp_queue *q);

/* Adds what the kernel dropped to counters, indexed as nic_counter.h says. */
void xdp_queue_count(const struct xdp_queue *q, uint64_t *counter);

/* ---- frames: workers (xdp_queue.c) ---- */

/* As port_ops.rx_burst and rx_complete. */
unsigned xdp_queue_rx(struct xdp_queue *q, struct burst *b);
void xdp_queue_rx_complete(struct xdp_queue *q);

/**
 * xdp_queue_tx() - send frames; under tx_lock
 * @frames: @n of them, at most BURST_MAX
 * @why: DROP_none for each the kernel was given, else the reason
 */
void xdp_queue_tx(struct xdp_queue *q, struct frame *const *frames, unsigned n, uint8_t *why);

/**
 * xdp_queue_kick() - have the kernel send what lies in the transmit ring; any thread
 *
 * Fences the port if the device is gone.  Return: 0, or the errno that says what it waits for: EAGAIN, EBUSY, ENOBUFS:
 * a moment; ENETDOWN: somebody to bring the device up.
 */
int xdp_queue_kick(struct xdp_queue *q);

/* As port_ops.arm: true if frames are waiting. */
bool xdp_queue_arm(struct xdp_queue *q);

#endif /* USWITCH_XDP_QUEUE_H */
