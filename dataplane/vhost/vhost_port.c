/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vhost_port.c - struct port_ops over virtqueues, and the control calls that
 * give the rings their memory and fds.
 *
 * Ring numbers are the guest's: 2 * i receives, 2 * i + 1 transmits, so queue
 * i of the switch's side takes frames in from ring 2 * i + 1 and puts frames
 * out into ring 2 * i.
 */
#include "vhost/vhost_port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rcu.h"
#include "flow.h"
#include "vhost/virtq.h"

/**
 * struct vhost_port - a vhost port
 * @port: generic part, first
 * @rx_up: bit i: the guest's receive ring 2 * i runs and is enabled (writer: control, readers: workers)
 * @mem: memory table (control, owned), NULL: none
 * @log: log of dirty pages (control, owned), NULL: none
 * @watch: told of mappings (control); no functions: nobody
 * @ring: the virtqueues
 */
struct vhost_port {
    struct port port;
    _Atomic uint32_t rx_up;
    struct guest_mem *mem;
    struct dirty_log *log;
    struct vhost_mem_watch watch;
    struct virtq ring[US_RINGS_MAX];
};

static struct vhost_port *vhost_of(struct port *p)
{
    return (struct vhost_port *)p;
}

static struct virtq *tx_ring_of(const struct rxq *q)
{
    return &vhost_of(q->port)->ring[2 * q->index + 1];
}

/* ---- worker ---- */

static unsigned vhost_rx_burst(struct rxq *q, struct burst *b)
{
    const unsigned n = virtq_rx_burst(tx_ring_of(q), b);

    if (n == 0)
        virtq_idle(&vhost_of(q->port)->ring[2 * q->index]);
    return n;
}

static void vhost_rx_complete(struct rxq *q, struct burst *b)
{
    virtq_rx_complete(tx_ring_of(q), b);
}

static unsigned send_by(struct port *p, unsigned queue, struct frame *const *frames, unsigned n)
{
    return virtq_tx_burst(&vhost_of(p)->ring[2 * queue], frames, n);
}

/* Without a receive ring that is up, ring 0 counts frames as link_down. */
static unsigned vhost_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    const uint32_t up = atomic_load_explicit(&vhost_of(p)->rx_up, memory_order_relaxed);

    return flow_spread(p, up, frames, n, send_by);
}

static bool vhost_arm(struct rxq *q)
{
    return virtq_arm(tx_ring_of(q));
}

static void vhost_disarm(struct rxq *q)
{
    virtq_disarm(tx_ring_of(q));
}

/* ---- control: life ---- */

static void vhost_stop(struct port *p)
{
    struct vhost_port *const vp = vhost_of(p);

    atomic_store_explicit(&vp->rx_up, 0, memory_order_relaxed);
    for (unsigned i = 0; i < US_RINGS_MAX; i++) {
        virtq_unpublish(&vp->ring[i]);
        if (virtq_is_tx(&vp->ring[i]))
            (void)rxq_watch(&p->rxq[i / 2], RXQ_QUIET);
    }
}

static void tell(const struct vhost_port *vp, const struct guest_mem *mem, bool came)
{
    const struct vhost_mem_watch *const w = &vp->watch;

    for (uint32_t i = 0; w->came && mem && i < mem->n; i++)
        (came ? w->came : w->goes)(w->arg, mem->region[i].map, mem->region[i].map_len);
}

/* A table that no worker has any more. */
static void drop_mem(const struct vhost_port *vp, struct guest_mem *mem)
{
    tell(vp, mem, false);
    guest_mem_destroy(mem);
}

static void vhost_destroy(struct port *p)
{
    struct vhost_port *const vp = vhost_of(p);

    for (unsigned i = 0; i < US_RINGS_MAX; i++) {
        if (p->state)
            p->state->ring[i].active = 0;
        virtq_fini(&vp->ring[i]);
    }
    drop_mem(vp, vp->mem);
    dirty_log_destroy(vp->log);
    port_fini(p);
    free(vp);
}

static const struct port_ops vhost_ops = {
    .kind = "vhost",
    .rx_burst = vhost_rx_burst,
    .rx_complete = vhost_rx_complete,
    .tx_burst = vhost_tx_burst,
    .arm = vhost_arm,
    .disarm = vhost_disarm,
    .stop = vhost_stop,
    .destroy = vhost_destroy,
};

int vhost_port_create(const struct us_port_add *add, struct us_state_page *state, bool shared, int news_fd,
                      struct port **out)
{
    struct vhost_port *const vp = aligned_alloc(64, sizeof(*vp));

    _Static_assert(sizeof(*vp) % 64 == 0, "aligned_alloc");
    if (!vp)
        return -ENOMEM;
    memset(vp, 0, sizeof(*vp));
    port_init(&vp->port, &vhost_ops, add, state, US_QUEUES_MAX);
    vp->port.shared = shared;
    vp->port.news_fd = news_fd;
    for (unsigned i = 0; i < US_RINGS_MAX; i++)
        virtq_init(&vp->ring[i], &vp->port, i);
    *out = &vp->port;
    return 0;
}

/* ---- control: memory ---- */

void vhost_port_watch_mem(struct port *p, const struct vhost_mem_watch *watch)
{
    vhost_of(p)->watch = watch ? *watch : (struct vhost_mem_watch){ 0 };
}

int vhost_port_each_mem(struct port *p, int (*call)(void *arg, void *base, size_t len), void *arg)
{
    const struct guest_mem *const mem = vhost_of(p)->mem;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && mem && i < mem->n; i++)
        rc = call(arg, mem->region[i].map, mem->region[i].map_len);
    return rc;
}

void vhost_port_lend(struct port *p, bool on)
{
    for (unsigned i = 1; i < US_RINGS_MAX; i += 2)
        atomic_store_explicit(&vhost_of(p)->ring[i].lends, on, memory_order_relaxed);
}

/* Signal handler: a region was truncated. No ring in particular is to blame. */
static void on_memory_gone(void *owner, uint64_t gpa)
{
    port_break(&((struct vhost_port *)owner)->port, US_ANY, BREAK_memory_gone, gpa);
}

/* The same, of the log. */
static void on_log_gone(void *owner, uint64_t offset)
{
    port_break(&((struct vhost_port *)owner)->port, US_ANY, BREAK_log_gone, offset);
}

/* Prepare every running ring for a new table or log; nothing is published yet. */
static int prepare_maps(const struct vhost_port *vp, const struct guest_mem *mem, const struct dirty_log *log,
                        struct virtq_map **map)
{
    for (unsigned i = 0; i < US_RINGS_MAX; i++) {
        const struct virtq *const vq = &vp->ring[i];
        const int rc = vq->owned ? virtq_map_create(mem, log, vq->mask + 1u, vq->owned->packed, vq->uva, &map[i])
                                 : 0;

        if (rc) {
            while (i--)
                free(map[i]);
            return rc == -EINVAL ? -EFAULT : rc;
        }
    }
    return 0;
}

/* Publish new maps and free the old ones; when it returns nobody uses what those point to. */
static void exchange_maps(struct vhost_port *vp, struct virtq_map **map)
{
    for (unsigned i = 0; i < US_RINGS_MAX; i++) {
        if (map[i])
            map[i] = virtq_remap(&vp->ring[i], map[i]);
    }
    rcu_wait();
    for (unsigned i = 0; i < US_RINGS_MAX; i++)
        free(map[i]);
}

static int forget_mem(struct vhost_port *vp)
{
    for (unsigned i = 0; i < US_RINGS_MAX; i++) {
        if (vp->ring[i].owned)
            return -EBUSY;
    }
    drop_mem(vp, vp->mem);
    vp->mem = NULL;
    return 0;
}

int vhost_port_set_mem(struct port *p, const struct us_vhost_mem *mem, const int *fds)
{
    struct vhost_port *const vp = vhost_of(p);
    struct virtq_map *map[US_RINGS_MAX] = { NULL };
    struct guest_mem *new_mem, *const old_mem = vp->mem;
    int rc;

    if (mem->n == 0)
        return forget_mem(vp);
    rc = guest_mem_create(mem->region, mem->n, fds, on_memory_gone, vp, &new_mem);
    if (rc)
        return rc;
    rc = prepare_maps(vp, new_mem, vp->log, map);
    if (rc) {
        guest_mem_destroy(new_mem);
        return rc;
    }
    vp->mem = new_mem;
    exchange_maps(vp, map);
    drop_mem(vp, old_mem);
    tell(vp, new_mem, true);
    return 0;
}

int vhost_port_set_log(struct port *p, const struct us_vhost_log *log, int fd)
{
    struct vhost_port *const vp = vhost_of(p);
    struct virtq_map *map[US_RINGS_MAX] = { NULL };
    struct dirty_log *new_log = NULL, *const old_log = vp->log;
    int rc = log->on ? dirty_log_create(log, fd, on_log_gone, vp, &new_log) : 0;

    if (!rc)
        rc = prepare_maps(vp, vp->mem, new_log, map);
    if (rc) {
        dirty_log_destroy(new_log);
        return rc;
    }
    vp->log = new_log;
    exchange_maps(vp, map);
    dirty_log_destroy(old_log);
    for (unsigned i = 0; i < US_RINGS_MAX; i++)
        virtq_mark_ring(&vp->ring[i]);
    return 0;
}

/* ---- control: rings ---- */

/*
 * A call fd must be what eventfd() makes: other kinds cost a worker more than
 * a store (a socket), or a signal (a pipe without reader).  The kernel keeps
 * all such objects on one anonymous inode; those of them that are no eventfd
 * refuse a write at once.
 */
static int check_call_fd(int news_fd, int call_fd)
{
    struct stat ours, theirs;

    if (fstat(call_fd, &theirs))
        return -errno;
    if (news_fd < 0 || fstat(news_fd, &ours))
        return 0;
    return ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino ? 0 : -EINVAL;
}

static int keep_fd(int fd, int *out)
{
    *out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return fd >= 0 && *out < 0 ? -errno : 0;
}

static void update_rx_up(struct vhost_port *vp)
{
    uint32_t up = 0;

    for (unsigned i = 0; i < US_RINGS_MAX; i += 2) {
        if (vp->ring[i].owned && atomic_load(&vp->ring[i].enabled))
            up |= 1u << (i / 2);
    }
    atomic_store_explicit(&vp->rx_up, up, memory_order_relaxed);
}

/*
 * A ring that gets no frames any more: of several receive rings the others take over first, so that no frame is
 * on its way to one that refuses it.
 */
static void close_ring(struct vhost_port *vp, struct virtq *vq)
{
    const uint32_t mine = virtq_is_tx(vq) ? 0 : 1u << (vq->index / 2);
    const uint32_t up = atomic_load_explicit(&vp->rx_up, memory_order_relaxed);

    if (up & mine && up != mine) {
        atomic_store_explicit(&vp->rx_up, up & ~mine, memory_order_relaxed);
        rcu_wait();
    }
    atomic_store(&vq->enabled, false);
    update_rx_up(vp);
}

/* The ring is published: let frames come. */
static int open_ring(struct vhost_port *vp, struct virtq *vq)
{
    if (virtq_is_tx(vq))
        return rxq_watch(&vp->port.rxq[vq->index / 2], vq->kick_fd >= 0 ? vq->kick_fd : RXQ_POLLED);
    atomic_store_explicit(&vp->port.offloads, vq->offloads, memory_order_relaxed);
    update_rx_up(vp);
    return 0;
}

static void mend(struct vhost_port *vp)
{
    if (!port_is_broken(&vp->port))
        return;
    port_mend(&vp->port);
    if (atomic_load(&vp->mem->lost)) /* lost while the ring was being started: that report must not get lost, too */
        on_memory_gone(vp, vp->mem->region[0].gpa);
    if (vp->log && atomic_load(&vp->log->lost))
        on_log_gone(vp, 0);
}

int vhost_port_ring_start(struct port *p, const struct us_vhost_ring *ring, int kick_fd, int call_fd)
{
    struct vhost_port *const vp = vhost_of(p);
    const struct virtq_setup setup = { .size = ring->size, .base = ring->base, .features = ring->features,
                                       .uva = { ring->desc_uva, ring->avail_uva, ring->used_uva } };
    struct virtq *vq;
    int fd, rc;

    if (ring->ring >= US_RINGS_MAX)
        return -EINVAL;
    vq = &vp->ring[ring->ring];
    if (vq->owned)
        return -EBUSY;
    if (!vp->mem || atomic_load(&vp->mem->lost))
        return -EFAULT;
    rc = call_fd >= 0 ? check_call_fd(p->news_fd, call_fd) : 0;
    if (!rc)
        rc = keep_fd(call_fd, &fd);
    if (rc)
        return rc;
    atomic_store(&vq->call_fd, fd);
    atomic_store(&vq->enabled, ring->enabled != 0);
    rc = virtq_is_tx(vq) ? keep_fd(kick_fd, &vq->kick_fd) : 0;
    if (!rc)
        rc = virtq_start(vq, vp->mem, vp->log, &setup);
    if (!rc)
        rc = open_ring(vp, vq);
    if (rc) {
        virtq_stop(vq);
        virtq_fini(vq);
    }
    return rc;
}

void vhost_port_ring_run(struct port *p, uint32_t ring, bool resumed)
{
    mend(vhost_of(p));
    if (resumed)
        virtq_signal_again(&vhost_of(p)->ring[ring]);
}

int vhost_port_ring_stop(struct port *p, uint32_t ring)
{
    struct vhost_port *const vp = vhost_of(p);
    struct virtq *vq;

    if (ring >= US_RINGS_MAX)
        return -EINVAL;
    vq = &vp->ring[ring];
    if (virtq_is_tx(vq) && vq->owned)
        (void)rxq_watch(&p->rxq[ring / 2], RXQ_QUIET);
    if (vq->owned)
        close_ring(vp, vq);
    return virtq_stop(vq);
}

int vhost_port_ring_call(struct port *p, uint32_t ring, int call_fd)
{
    struct virtq *vq;
    int fd, rc;

    if (ring >= US_RINGS_MAX)
        return -EINVAL;
    vq = &vhost_of(p)->ring[ring];
    if (!vq->owned)
        return 0; /* vhost_port_ring_start() brings its own */
    rc = call_fd >= 0 ? check_call_fd(p->news_fd, call_fd) : 0;
    if (!rc)
        rc = keep_fd(call_fd, &fd);
    if (rc)
        return rc;
    fd = atomic_exchange(&vq->call_fd, fd);
    if (fd >= 0) {
        rcu_wait(); /* a worker may be about to write to it */
        close(fd);
    }
    virtq_signal_again(vq);
    return 0;
}

int vhost_port_ring_enable(struct port *p, uint32_t ring, bool enabled)
{
    struct vhost_port *const vp = vhost_of(p);
    struct virtq *vq;

    if (ring >= US_RINGS_MAX)
        return -EINVAL;
    vq = &vp->ring[ring];
    if (!vq->owned || atomic_load(&vq->enabled) == enabled)
        return 0;
    if (!enabled) {
        close_ring(vp, vq);
        rcu_wait();
        return 0;
    }
    atomic_store(&vq->enabled, true);
    update_rx_up(vp);
    if (virtq_is_tx(vq))
        (void)rxq_watch(&p->rxq[ring / 2], p->rxq[ring / 2].watched_fd); /* look now */
    return 0;
}
