/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_queue.c - frames from and to an AF_XDP socket.  See xdp_queue.h.
 *
 * A received frame stays in its chunks until it is delivered; a frame to send
 * is copied into chunks of our own, egress tag included.  The kernel sends
 * when it is asked to (copy mode always waits for that): one system call a
 * burst, or a few, since it takes 32 frames at a time.
 */
#include "xdp/xdp_queue.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "nic/nic_copy.h"

/* Of struct xdp_desc.options, Linux 6.6: the frame goes on in the next descriptor. */
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif
/* System calls a burst, at most; the kernel takes 32 frames with each. */
#define KICKS_MAX (BURST_MAX / 32 + 1)

/* ---- from the device ---- */

static void make_no_sense(struct xdp_queue *q, uint64_t detail)
{
    port_break(q->port, q->index, BREAK_nic_descriptor, detail);
}

/* The chunk of a descriptor; false if it is not one of ours to receive into, or the bytes leave it. */
static bool check_desc(const struct xdp_queue *q, const struct xdp_desc *d, uint32_t *chunk)
{
    const uint32_t offset = (uint32_t)d->addr & (q->cfg.chunk_size - 1);

    if (d->addr / q->cfg.chunk_size >= q->cfg.ring_size)
        return false;
    *chunk = (uint32_t)(d->addr / q->cfg.chunk_size);
    return d->len > 0 && d->len <= q->cfg.chunk_size - offset;
}

/*
 * One frame's pieces into the burst's scatter list and its chunks into held[], neither counted yet.  Return: pieces;
 * 0: the frame is not complete, or does not fit into this burst; -1: it makes no sense.
 */
static int gather(struct xdp_queue *q, struct burst *b, uint32_t at, uint32_t avail)
{
    uint32_t n = 0;

    while (n < avail && q->n_held + n < XDP_HELD_MAX) {
        const struct xdp_desc d = xdp_ring_desc(&q->rx, at + n);
        uint32_t *const chunk = &q->held[q->n_held + n];

        if (n == XDP_PIECES_MAX || !check_desc(q, &d, chunk)) {
            make_no_sense(q, d.addr);
            return -1;
        }
        b->iov[b->n_iov + n++] = (struct iovec){ q->umem + d.addr, d.len };
        if (!(d.options & XDP_PKT_CONTD))
            return (int)n;
    }
    return 0;
}

/* The chunks are ours now; false if one was already. */
static bool take_chunks(struct xdp_queue *q, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t chunk = q->held[q->n_held];

        if (!q->with_kernel[chunk]) {
            make_no_sense(q, chunk);
            return false;
        }
        q->with_kernel[chunk] = 0;
        q->n_held++;
    }
    return true;
}

/* True if there may be another one. */
static bool take_frame(struct xdp_queue *q, struct burst *b, uint32_t avail, uint32_t *bytes)
{
    static const struct vnet nothing;
    const int n = gather(q, b, q->rx.at, avail);
    enum drop_reason why;

    if (n <= 0 || !take_chunks(q, (uint32_t)n))
        return false;
    for (int i = 0; i < n; i++)
        *bytes += (uint32_t)b->iov[b->n_iov + (uint32_t)i].iov_len;
    q->rx.at += (uint32_t)n;
    why = nic_take_frame(q->port, b, (uint32_t)n, &nothing);
    if (why != DROP_none)
        count_drop_in(q->port, q->index, why);
    return true;
}

unsigned xdp_queue_rx(struct xdp_queue *q, struct burst *b)
{
    const uint32_t first = q->rx.at;
    uint32_t avail, bytes = 0;

    b->n = 0;
    b->n_iov = 0;
    if (!xdp_ring_filled(&q->rx, &avail)) {
        make_no_sense(q, avail);
        return 0;
    }
    for (unsigned i = b->held_back; i < BURST_MAX && bytes < BURST_BYTES; i++) {
        if (!take_frame(q, b, avail - (q->rx.at - first), &bytes))
            break;
    }
    if (q->rx.at != first)
        xdp_ring_publish(&q->rx);
    return b->n;
}

/* Chunks back to the kernel.  There is a place for each (XDP_RING_SLACK); another consumer index would be a lie. */
void xdp_queue_rx_complete(struct xdp_queue *q)
{
    uint32_t pending;

    if (q->n_held == 0)
        return;
    if (!xdp_ring_pending(&q->fill, &pending) || pending + q->n_held > q->fill.mask + 1) {
        make_no_sense(q, pending);
        return;
    }
    for (uint32_t i = 0; i < q->n_held; i++) {
        xdp_ring_put_addr(&q->fill, (uint64_t)q->held[i] * q->cfg.chunk_size);
        q->with_kernel[q->held[i]] = 1;
    }
    q->n_held = 0;
    xdp_ring_publish(&q->fill);
    /* Only drivers with zero copy ask for it, when they had run out of chunks. */
    if (__builtin_expect(xdp_ring_wants_wakeup(&q->fill), 0))
        (void)recvfrom(q->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

/*
 * The kernel announces every frame by itself; poll() looks, and asks a zero-copy driver for interrupts.  That the
 * device is gone it does not tell: the next kick does.
 */
bool xdp_queue_arm(struct xdp_queue *q)
{
    struct pollfd p = { .fd = q->fd, .events = POLLIN };

    return poll(&p, 1, 0) > 0 || atomic_load_explicit(&q->unsent, memory_order_relaxed);
}

/* ---- to the device ---- */

/* What the kernel has sent is ours again. */
static void reclaim(struct xdp_queue *q)
{
    const uint32_t half = q->cfg.ring_size;
    uint32_t n;

    if (!xdp_ring_filled(&q->completion, &n)) {
        make_no_sense(q, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t addr = xdp_ring_addr(&q->completion, q->completion.at + i);
        const uint64_t chunk = addr / q->cfg.chunk_size;

        if (chunk < half || chunk >= 2 * (uint64_t)half || !q->with_kernel[chunk]) {
            make_no_sense(q, addr);
            return;
        }
        q->with_kernel[chunk] = 0;
        q->free[q->n_free++] = (uint32_t)chunk;
    }
    if (n) {
        q->completion.at += n;
        xdp_ring_publish(&q->completion);
    }
}

int xdp_queue_kick(struct xdp_queue *q)
{
    int error = 0;

    for (unsigned i = 0; i < KICKS_MAX; i++) {
        error = sendto(q->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
        if (error != EAGAIN)    /* the rest another time, or: as many as go at once are sent */
            break;
    }
    if (error == ENXIO || error == ENODEV)
        port_break(q->port, q->index, BREAK_device_gone, (uint64_t)error);
    return error;
}

/* One of our chunks, which will be the kernel's: @len bytes of it, more to come or not. */
static uint8_t *put_chunk(struct xdp_queue *q, uint32_t len, bool more)
{
    const uint32_t chunk = q->free[--q->n_free];
    const uint64_t addr = (uint64_t)chunk * q->cfg.chunk_size;

    q->with_kernel[chunk] = 1;
    xdp_ring_put_desc(&q->tx, addr, len, more ? XDP_PKT_CONTD : 0);
    return q->umem + addr;
}

static void put_pieces(struct xdp_queue *q, const struct frame *f, uint32_t left)
{
    const uint32_t size = q->cfg.chunk_size;
    uint8_t *buf[XDP_PIECES_MAX];

    for (uint32_t i = 0; i < XDP_PIECES_MAX; i++) {
        const uint32_t part = left < size ? left : size;

        left -= part;
        buf[i] = part ? put_chunk(q, part, left != 0) : q->umem;
    }
    (void)nic_copy_frame(f, buf, size);
}

/* A frame into chunks; the descriptors are not visible yet. */
static enum drop_reason put_frame(struct xdp_queue *q, const struct frame *f)
{
    const uint32_t size = q->cfg.chunk_size, len = nic_wire_len(f), n = (len + size - 1) / size;

    if (n > (q->cfg.pieces ? XDP_PIECES_MAX : 1))
        return DROP_ring_small;
    if (n > q->n_free)
        return DROP_ring_full;
    if (__builtin_expect(n > 1, 0))
        put_pieces(q, f, len);
    else
        nic_copy_flat(put_chunk(q, len, false), f);
    return DROP_none;
}

/* The ring has a place for each chunk (XDP_RING_SLACK); the index is looked at all the same. */
static void send_out(struct xdp_queue *q)
{
    uint32_t pending;
    int error = 0;

    xdp_ring_publish(&q->tx);
    if (xdp_ring_wants_wakeup(&q->tx))
        error = xdp_queue_kick(q);
    q->down = error == ENETDOWN;
    if (!xdp_ring_pending(&q->tx, &pending))
        make_no_sense(q, pending);
    /* Whoever takes frames from this queue asks again; a device that is down takes nothing before it is up. */
    atomic_store_explicit(&q->unsent, pending != 0 && error != 0 && error != ENETDOWN, memory_order_relaxed);
}

void xdp_queue_tx(struct xdp_queue *q, struct frame *const *frames, unsigned n, uint8_t *why)
{
    const uint32_t first = q->tx.at;

    if (__builtin_expect(q->down, 0))
        q->down = xdp_queue_kick(q) == ENETDOWN;
    reclaim(q);
    for (unsigned i = 0; i < n; i++) {
        if (__builtin_expect(q->down, 0))
            why[i] = DROP_link_down;
        else
            why[i] = port_is_broken(q->port) ? DROP_broken : put_frame(q, frames[i]);
    }
    if (q->tx.at != first)
        send_out(q);
}
