/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_port.c - see xdp_port.h.  The port: which queue a frame leaves by,
 * locks, counters, life.  What a queue does is xdp_queue.c.
 * A flow has its transmit queue, so that its frames keep their order; who
 * sends holds the queue's lock, which guards its counters as well.
 */
#include "xdp/xdp_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "flow.h"
#include "nic/nic_counter.h"
#include "xdp/xdp_queue.h"

#define CHUNK_SMALL 2048
#define CHUNK_LARGE 4096

/**
 * struct xdp_port - a kernel device as port
 * @port: generic part
 * @max_frame: what the queues were set up for (immutable)
 * @before: what the page counted before this port (control)
 * @queue: port.n_queues of them
 */
struct xdp_port {
    struct port port;
    uint32_t max_frame;
    uint64_t before[US_NIC_COUNTERS_MAX];
    struct xdp_queue queue[US_QUEUES_MAX];
};

static struct xdp_port *xdp_of(const struct port *p)
{
    return (struct xdp_port *)(uintptr_t)p;
}

/* ---- from the device ---- */

/* Frames that the kernel did not take when they were sent; whoever sends now does it himself. */
static void send_rest(struct xdp_queue *q)
{
    if (q->port->shared && !spin_try_lock(&q->tx_lock))
        return;
    atomic_store_explicit(&q->unsent, xdp_queue_kick(q) == EAGAIN, memory_order_relaxed);
    if (q->port->shared)
        spin_unlock(&q->tx_lock);
}

static unsigned xdp_rx_burst(struct rxq *q, struct burst *b)
{
    struct xdp_queue *const xq = &xdp_of(q->port)->queue[q->index];

    if (__builtin_expect(atomic_load_explicit(&xq->unsent, memory_order_relaxed), 0))
        send_rest(xq);
    return xdp_queue_rx(xq, b);
}

static void xdp_rx_complete(struct rxq *q, struct burst *b)
{
    (void)b;
    xdp_queue_rx_complete(&xdp_of(q->port)->queue[q->index]);
}

static bool xdp_arm(struct rxq *q)
{
    return xdp_queue_arm(&xdp_of(q->port)->queue[q->index]);
}

/* The kernel announces frames whether anybody listens or not. */
static void xdp_disarm(struct rxq *q)
{
    (void)q;
}

/* ---- to the device ---- */

/* Frames of one queue, at most BURST_MAX. */
static unsigned send_by(struct port *p, unsigned queue, struct frame *const *frames, unsigned n)
{
    struct xdp_queue *const q = &xdp_of(p)->queue[queue];
    uint8_t why[BURST_MAX];
    unsigned delivered;

    if (q->port->shared)
        spin_lock(&q->tx_lock);
    xdp_queue_tx(q, frames, n, why);
    delivered = count_burst_out(&q->port->state->out[q->index], frames, why, n);
    if (q->port->shared)
        spin_unlock(&q->tx_lock);
    return delivered;
}

static unsigned xdp_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    return flow_spread(p, (1u << p->n_queues) - 1, frames, n, send_by);
}

/* ---- device and counters: control ---- */

/* Returns whether the link is another than before. */
static bool read_device(struct xdp_port *x)
{
    struct us_nic_state *const to = &x->port.state->nic;
    uint64_t counter[US_NIC_COUNTERS_MAX];
    bool up = true, changed;

    for (unsigned i = 0; i < US_NIC_COUNTERS_MAX; i++)
        counter[i] = US_NIC_COUNTER_NONE;
    counter[NIC_COUNTER_rx_missed] = counter[NIC_COUNTER_rx_errors] = counter[NIC_COUNTER_tx_errors] = 0;
    for (uint32_t i = 0; i < x->port.n_queues; i++) {
        const int error = xdp_queue_kick(&x->queue[i]);

        up = up && error != ENETDOWN && error != ENXIO && error != ENODEV;
        xdp_queue_count(&x->queue[i], counter);
    }
    nic_counter_publish(to, x->before, counter);
    changed = (to->link_up != 0) != up;
    to->link_up = up;
    return changed;
}

int xdp_port_read(struct port *p)
{
    const uint64_t one = 1;

    if (!read_device(xdp_of(p)))
        return 0;
    p->state->nic.link_changes++;
    if (p->news_fd >= 0)
        (void)!write(p->news_fd, &one, sizeof(one));
    return 0;
}

uint32_t xdp_port_max_frame(const struct port *p)
{
    return xdp_of(p)->max_frame;
}

/* ---- life ---- */

static void xdp_stop(struct port *p)
{
    for (uint32_t i = 0; i < p->n_queues; i++)
        (void)rxq_watch(&p->rxq[i], RXQ_QUIET);
}

static void xdp_destroy(struct port *p)
{
    struct xdp_port *const x = xdp_of(p);

    for (uint32_t i = 0; i < p->n_queues; i++)
        xdp_queue_close(&x->queue[i]);
    port_fini(p);
    free(x);
}

static const struct port_ops xdp_ops = {
    .kind = "xdp",
    .rx_burst = xdp_rx_burst,
    .rx_complete = xdp_rx_complete,
    .tx_burst = xdp_tx_burst,
    .arm = xdp_arm,
    .disarm = xdp_disarm,
    .stop = xdp_stop,
    .destroy = xdp_destroy,
};

/* A frame in one chunk wherever it fits: works with every kernel and driver. */
static int configure(const struct us_port_add *add, struct xdp_config *cfg)
{
    const uint32_t ring = add->ring_size ? add->ring_size : XDP_RING_DEFAULT;
    const bool small = add->max_frame + VLAN_TAG_LEN + XDP_ROOM_BEFORE <= CHUNK_SMALL;

    *cfg = (struct xdp_config){
        .ifindex = add->ifindex,
        .ring_size = ring,
        .chunk_size = small ? CHUNK_SMALL : CHUNK_LARGE,
        .zero_copy = (add->nic_flags & US_NIC_ZERO_COPY) != 0,
        .pieces = add->max_frame > XDP_FRAME_MAX_ONE,
    };
    if (ring >= XDP_RING_MIN && ring <= XDP_RING_MAX && (ring & (ring - 1)) == 0 && add->max_frame <= XDP_FRAME_MAX)
        return 0;
    log_error("port %u: AF_XDP takes rings of %u to %u descriptors, a power of two, and frames of up to %u bytes; "
              "asked for were %u and %u",
              add->port_id, XDP_RING_MIN, XDP_RING_MAX, XDP_FRAME_MAX, ring, add->max_frame);
    return -EINVAL;
}

static void describe(struct xdp_port *x, const struct xdp_config *cfg)
{
    struct us_nic_state *const s = &x->port.state->nic;

    nic_counter_begin(s, x->before);
    memcpy(s->driver, "af_xdp", sizeof("af_xdp"));
    s->n_queues = x->port.n_queues;
    s->pool_bytes = x->port.n_queues * xdp_umem_size(cfg);
}

static int open_queues(struct xdp_port *x, const struct xdp_config *cfg, const int *fds)
{
    int rc = 0;

    for (uint32_t i = 0; i < x->port.n_queues; i++) {
        struct xdp_queue *const q = &x->queue[i];

        q->port = &x->port;
        q->index = i;
        q->fd = -1;
        q->cfg = *cfg;
        q->cfg.queue = i;
        if (rc == 0)
            rc = xdp_queue_open(q, fds[i]);
        if (rc == 0)
            rc = rxq_watch(&x->port.rxq[i], q->fd);
    }
    return rc;
}

int xdp_port_create(const struct us_port_add *add, struct us_state_page *state, const int *fds, uint32_t n,
                    bool shared, int news_fd, struct port **out)
{
    struct xdp_config cfg;
    struct xdp_port *x;
    int rc = configure(add, &cfg);

    if (rc < 0)
        return rc;
    if (n == 0 || n > US_QUEUES_MAX || n != add->n_queues)
        return -EINVAL;
    x = aligned_alloc(64, (sizeof(*x) + 63) / 64 * 64);
    if (!x)
        return -ENOMEM;
    memset(x, 0, sizeof(*x));
    port_init(&x->port, &xdp_ops, add, state, n);
    x->port.shared = shared;
    x->port.news_fd = news_fd;
    x->max_frame = add->max_frame;
    describe(x, &cfg);
    rc = open_queues(x, &cfg, fds);
    if (rc < 0) {
        x->port.state = NULL;   /* stays the caller's */
        xdp_destroy(&x->port);
        return rc;
    }
    /* The page may say what befell a process that died. */
    port_mend(&x->port);
    (void)read_device(x);
    *out = &x->port;
    return 0;
}
