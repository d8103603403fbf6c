/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch.c - the library's ports and rings: checks every argument and puts
 * the parts together.  With uswitch_lend.c the one file that knows both the
 * switch and the drivers (design section 7); everything below it trusts its callers.
 *
 * Control thread.  A call that fails leaves everything as it was.
 */
#include "include/uswitch.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>

#include "announce.h"
#include "base/rcu.h"
#include "base/virtq_spec.h"
#include "flood.h"
#include "nic/nic_port.h"
#include "policy/antispoof.h"
#include "state_page.h"
#include "tap/tap_port.h"
#include "uswitch_priv.h"
#include "vhost/vhost_port.h"
#include "xdp/xdp_port.h"

uint32_t uswitch_port_count(const struct uswitch *us)
{
    return us->n_ports;
}

int us_state_page_create(uint32_t port_id)
{
    return state_page_make(port_id);
}

/* 2.7: a split ring's size is a power of two; 2.8.10.1: a packed one's need not be. */
static bool is_ring_size(uint32_t n, uint64_t features)
{
    return n >= 2 && n <= US_RING_SIZE_MAX && (features & VIRTIO_BIT(VIRTIO_F_RING_PACKED) || (n & (n - 1)) == 0);
}

static void take_queue(struct rxq *q)
{
    if (q->worker)
        worker_del_queue(q->worker, q);
}

/* The end of a port in the order that keeps workers off it; legal on one that was never attached. */
static void remove_port(struct uswitch *us, struct port *p)
{
    for (uint32_t i = 0; i < p->n_queues; i++)
        take_queue(&p->rxq[i]);
    switch_port_detach(&us->core, p);
    p->ops->stop(p);
    rcu_wait();
    p->ops->destroy(p);
}

static int make_driver(const struct uswitch *us, const struct us_port_add *add, struct us_state_page *state,
                       const int *device_fds, struct port **out)
{
    const bool shared = us->n_workers > 1;

    switch (add->kind) {
    case US_KIND_VHOST:
        return vhost_port_create(add, state, shared, us->news_fd, out);
    case US_KIND_TAP:
        return tap_port_create(add, state, device_fds[0], shared, us->news_fd, out);
    case US_KIND_NIC:
        return nic_port_create(add, state, device_fds, 2, shared, us->news_fd, out);
    case US_KIND_XDP:
        return xdp_port_create(add, state, device_fds, add->n_queues, shared, us->news_fd, out);
    default:
        return -ENOTSUP;
    }
}

static int make_port(const struct uswitch *us, const struct us_port_add *add, int state_fd, const int *device_fds,
                     struct port **out)
{
    struct us_state_page *state = NULL;
    int rc = state_page_map(state_fd, &state);

    if (rc < 0)
        return rc;
    if (state->port_id != add->port_id) {
        state_page_unmap(state);
        return -EINVAL;
    }
    rc = make_driver(us, add, state, device_fds, out);
    if (rc < 0)
        state_page_unmap(state);
    return rc;
}

int uswitch_port_add(struct uswitch *us, const struct us_port_add *add, int state_fd, const int *device_fds,
                     uint32_t n_device_fds)
{
    struct port *p = NULL;
    int rc = uswitch_check_port(add, n_device_fds);

    if (rc < 0)
        return rc;
    if (uswitch_port(us, add->port_id))
        return -EEXIST;
    rc = make_port(us, add, state_fd, device_fds, &p);
    if (rc < 0)
        return rc;
    if (add->kind == US_KIND_VHOST)
        uswitch_lend_guest(us, p);
    rc = uswitch_lend_adapter(us, p);
    if (rc == 0)
        rc = switch_port_attach(&us->core, p);
    if (rc < 0) {
        p->ops->stop(p);
        p->ops->destroy(p);
        return rc;
    }
    /* A device is served from now on; a guest's queues when it starts them. */
    for (uint32_t i = 0; add->kind != US_KIND_VHOST && rc == 0 && i < p->n_queues; i++)
        rc = uswitch_place_queue(us, &p->rxq[i]);
    if (add->kind == US_KIND_NIC && rc == 0)
        rc = nic_port_watch(p, us->device_fd);
    if (rc < 0) {
        remove_port(us, p);
        return rc;
    }
    us->told[p->id] = false;
    us->told_link[p->id] = p->state->nic.link_changes;
    us->n_ports++;
    uswitch_lend_refresh(us);
    return 0;
}

int uswitch_port_del(struct uswitch *us, uint32_t port_id)
{
    struct port *p = uswitch_port(us, port_id);

    if (!p)
        return port_id < US_PORTS_MAX ? -ENOENT : -EINVAL;
    remove_port(us, p);
    us->n_ports--;
    uswitch_lend_refresh(us);
    return 0;
}

int uswitch_port_tags(struct uswitch *us, const struct us_port_tags *tags)
{
    struct port *p = uswitch_port(us, tags->port_id);

    if (!p)
        return -ENOENT;
    if (tags->n > US_TAG_ROWS_MAX)
        return -E2BIG;
    return switch_port_set_tags(&us->core, p, tags->row, tags->n);
}

int uswitch_port_macs(struct uswitch *us, const struct us_port_macs *macs)
{
    struct port *p = uswitch_port(us, macs->port_id);

    if (!p)
        return -ENOENT;
    if (macs->n > US_MACS_MAX)
        return -E2BIG;
    return switch_port_set_macs(&us->core, p, macs->mac, macs->n);
}

int uswitch_port_guard(struct uswitch *us, const struct us_port_guard *guard)
{
    struct port *p = uswitch_port(us, guard->port_id);
    const struct policy *policy = NULL;
    int rc = 0;

    if (!p)
        return -ENOENT;
    if (guard->guarded > 1 || guard->spare || (!guard->guarded && guard->n))
        return -EINVAL;
    if (guard->guarded)
        rc = antispoof_create(guard->pair, guard->n, &policy);
    if (rc == 0)
        switch_port_set_policy(&us->core, p, policy);
    return rc;
}

int uswitch_port_limits(struct uswitch *us, const struct us_port_limits *limits)
{
    struct port *p = uswitch_port(us, limits->port_id);
    int rc;

    if (!p)
        return -ENOENT;
    rc = uswitch_check_limits(limits->flood_rate, limits->flood_burst, limits->max_frame);
    if (rc < 0 || limits->spare)
        return -EINVAL;
    /* The adapter and its buffers were set up for so much. */
    if (p->kind == US_KIND_NIC && limits->max_frame > nic_port_max_frame(p))
        return -ERANGE;
    if (p->kind == US_KIND_XDP && limits->max_frame > xdp_port_max_frame(p))
        return -ERANGE;
    flood_set(&p->flood, limits->flood_rate, limits->flood_burst);
    limit_set(&p->limit, &(struct limit_values){ limits->max_kbps, limits->burst_kbit, limits->max_kpps,
                                                 limits->burst_kpkt });
    atomic_store_explicit(&p->fdb_quota, limits->fdb_quota, memory_order_relaxed);
    atomic_store_explicit(&p->max_frame, limits->max_frame, memory_order_relaxed);
    for (uint32_t i = 0; i < p->n_queues; i++) {
        if (p->rxq[i].worker)
            worker_refresh(p->rxq[i].worker);
    }
    return 0;
}

int uswitch_port_announce(struct uswitch *us, const struct us_port_announce *announce)
{
    static const uint8_t nobody[ETH_ALEN];
    struct port *p = uswitch_port(us, announce->port_id);
    int rc;

    if (!p)
        return -ENOENT;
    if (announce->spare || (announce->mac[0] & 1) || memcmp(announce->mac, nobody, ETH_ALEN) == 0)
        return -EINVAL;
    for (uint32_t i = 0; i < p->n_queues; i++) {
        if (!p->rxq[i].worker)
            continue;
        rc = announce_post(p, announce->mac);
        if (rc == 0)
            worker_look(p->rxq[i].worker);
        return rc;
    }
    return -EAGAIN;
}

/* ---- adapters ---- */

/* The NIC or XDP port of an id; -ENOENT, or -ENOTSUP if it is of another kind. */
static int adapter(const struct uswitch *us, uint32_t port_id, struct port **out)
{
    *out = uswitch_port(us, port_id);
    if (!*out)
        return -ENOENT;
    return (*out)->kind == US_KIND_NIC || (*out)->kind == US_KIND_XDP ? 0 : -ENOTSUP;
}

int uswitch_nic_read(struct uswitch *us, uint32_t port_id)
{
    struct port *p;
    const int rc = adapter(us, port_id, &p);

    if (rc < 0)
        return rc;
    return p->kind == US_KIND_XDP ? xdp_port_read(p) : nic_port_read(p);
}

/* The queues come back only with the device: a fenced one has nothing for a worker. */
int uswitch_nic_reset(struct uswitch *us, uint32_t port_id)
{
    struct port *p;
    int rc = adapter(us, port_id, &p);

    if (rc < 0)
        return rc;
    /* A socket cannot be set up twice: a new port, with new sockets. */
    if (p->kind == US_KIND_XDP)
        return -ENOTSUP;
    for (uint32_t i = 0; i < p->n_queues; i++)
        take_queue(&p->rxq[i]);
    rc = nic_port_reset(p);
    for (uint32_t i = 0; rc == 0 && i < p->n_queues; i++)
        rc = uswitch_place_queue(us, &p->rxq[i]);
    if (rc == 0)
        us->told[p->id] = false;
    return rc;
}

void uswitch_device_work(struct uswitch *us)
{
    struct epoll_event event[16];
    const int n = epoll_wait(us->device_fd, event, 16, 0);

    for (int i = 0; i < n; i++) {
        struct port *const p = uswitch_port(us, event[i].data.u32);

        if (p && p->kind == US_KIND_NIC)
            nic_port_other(p);
    }
}

int uswitch_device_check(struct uswitch *us)
{
    bool any = false;

    for (uint32_t id = 0; id < US_PORTS_MAX; id++) {
        struct port *const p = uswitch_port(us, id);

        if (!p || p->kind != US_KIND_NIC)
            continue;
        any = true;
        /* One that is gone would let every register time out. */
        if (!port_is_broken(p))
            (void)nic_port_read(p);
    }
    return any ? NIC_READ_MS : -1;
}

/* ---- vhost ports ---- */

/* The vhost port of an id; -ENOENT, or -EOPNOTSUPP if it is of another kind. */
static int vhost_port(const struct uswitch *us, uint32_t port_id, struct port **out)
{
    *out = uswitch_port(us, port_id);
    if (!*out)
        return -ENOENT;
    return (*out)->kind == US_KIND_VHOST ? 0 : -EOPNOTSUPP;
}

/* The same, for calls about a ring. */
static int vhost_ring(const struct uswitch *us, uint32_t port_id, uint32_t ring, struct port **out)
{
    const int rc = vhost_port(us, port_id, out);

    if (rc < 0)
        return rc;
    return ring < US_RINGS_MAX ? 0 : -EINVAL;
}

/* What the guest sends comes by the odd rings (virtio 1.2, 5.1.2). */
static bool is_incoming(uint32_t ring)
{
    return ring % 2 == 1;
}

/* The worker may be asleep and must look at the ring's new state. */
static void wake_ring(const struct port *p, uint32_t ring)
{
    const struct rxq *q = &p->rxq[ring / 2];

    if (is_incoming(ring) && q->worker)
        worker_wake(q->worker);
}

int uswitch_vhost_mem(struct uswitch *us, const struct us_vhost_mem *mem, const int *fds)
{
    struct port *p;
    const int rc = vhost_port(us, mem->port_id, &p);

    if (rc < 0)
        return rc;
    if (mem->n > US_REGIONS_MAX)
        return -E2BIG;
    if (mem->n > 0 && !fds)
        return -EINVAL;
    return vhost_port_set_mem(p, mem, fds);
}

int uswitch_vhost_log(struct uswitch *us, const struct us_vhost_log *log, int fd)
{
    static const struct us_vhost_log none;
    struct us_vhost_log rest = *log;
    struct port *p;
    const int rc = vhost_port(us, log->port_id, &p);

    if (rc < 0)
        return rc;
    rest.port_id = 0;
    if (log->on > 1 || log->used >> US_RINGS_MAX || (fd >= 0) != (log->on == 1))
        return -EINVAL;
    if (!log->on && memcmp(&rest, &none, sizeof(rest)) != 0)
        return -EINVAL;
    return vhost_port_set_log(p, log, fd);
}

static int check_ring(const struct us_vhost_ring *ring)
{
    if (!is_ring_size(ring->size, ring->features))
        return -EINVAL;
    if (ring->base > UINT16_MAX && ring->base != US_BASE_FROM_USED)
        return -EINVAL;
    if (ring->enabled > 1 || ring->resume > 1 || ring->spare)
        return -EINVAL;
    return ring->fds & ~(uint32_t)(US_RING_KICK | US_RING_CALL) ? -EINVAL : 0;
}

/*
 * A queue is polled from the start of its ring to its stop: most guests use
 * one of the queues they could have, and an idle one costs every turn.  The
 * ring runs before a worker knows it and as long as one does, so that what
 * start and stop set up is nobody else's meanwhile.  A broken port is mended
 * when nothing can fail any more.
 */
int uswitch_ring_start(struct uswitch *us, const struct us_vhost_ring *ring, int kick_fd, int call_fd)
{
    struct port *p;
    int rc = vhost_ring(us, ring->port_id, ring->ring, &p);

    if (rc == 0)
        rc = check_ring(ring);
    if (rc == 0)
        rc = vhost_port_ring_start(p, ring, kick_fd, call_fd);
    if (rc < 0)
        return rc;
    if (is_incoming(ring->ring))
        rc = uswitch_place_queue(us, &p->rxq[ring->ring / 2]);
    if (rc < 0) {
        (void)vhost_port_ring_stop(p, ring->ring);
        return rc;
    }
    /* If the port breaks from now on, that is news. */
    us->told[p->id] = false;
    if (ring->resume)
        nudge_arm(&us->nudge, WORKER_NUDGE_NS);
    vhost_port_ring_run(p, ring->ring, ring->resume);
    nudge_disarm(&us->nudge);
    wake_ring(p, ring->ring);
    return 0;
}

int uswitch_ring_stop(struct uswitch *us, uint32_t port_id, uint32_t ring)
{
    struct port *p;
    int rc = vhost_ring(us, port_id, ring, &p);

    if (rc < 0)
        return rc;
    if (is_incoming(ring))
        take_queue(&p->rxq[ring / 2]);
    nudge_arm(&us->nudge, WORKER_NUDGE_NS);
    rc = vhost_port_ring_stop(p, ring);
    nudge_disarm(&us->nudge);
    return rc;
}

int uswitch_ring_call(struct uswitch *us, uint32_t port_id, uint32_t ring, int call_fd)
{
    struct port *p;
    int rc = vhost_ring(us, port_id, ring, &p);

    if (rc < 0)
        return rc;
    nudge_arm(&us->nudge, WORKER_NUDGE_NS);
    rc = vhost_port_ring_call(p, ring, call_fd);
    nudge_disarm(&us->nudge);
    return rc;
}

int uswitch_ring_enable(struct uswitch *us, uint32_t port_id, uint32_t ring, uint32_t enabled)
{
    struct port *p;
    int rc = vhost_ring(us, port_id, ring, &p);

    if (rc == 0 && enabled > 1)
        rc = -EINVAL;
    if (rc == 0)
        rc = vhost_port_ring_enable(p, ring, enabled != 0);
    if (rc < 0)
        return rc;
    wake_ring(p, ring);
    return 0;
}
