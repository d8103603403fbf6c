/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_port_link.c - an adapter's port: link, hardware counters, and the
 * interrupts that are no queue's.  Control thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "nic/nic_counter.h"
#include "nic/nic_port_priv.h"

/* More interrupts a second that are no queue's than that, and the device is broken. */
#define OTHERS_MAX 1000

bool nic_port_read_device(struct nic_port *np)
{
    struct us_nic_state *const to = &np->nic.port.state->nic;
    struct us_nic_state now = { 0 };
    bool changed;

    for (unsigned i = 0; i < US_NIC_COUNTERS_MAX; i++)
        now.counter[i] = US_NIC_COUNTER_NONE;
    np->nic.driver->read(&np->nic, &now);
    changed = (to->link_up != 0) != (now.link_up != 0) || to->speed_mbps != now.speed_mbps;
    to->speed_mbps = now.speed_mbps;
    to->full_duplex = now.full_duplex;
    to->link_up = now.link_up != 0;
    nic_counter_publish(to, np->before, now.counter);
    atomic_store_explicit(&np->link_up, now.link_up != 0, memory_order_relaxed);
    return changed;
}

/* What the link does while the port exists is news, see uswitch_event_next(). */
void nic_port_refresh(struct nic_port *np)
{
    const bool changed = nic_port_read_device(np);
    const uint64_t one = 1;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    nic_port_check_tx(np, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    if (!changed)
        return;
    np->nic.port.state->nic.link_changes++;
    if (np->nic.port.news_fd >= 0)
        (void)!write(np->nic.port.news_fd, &one, sizeof(one));
}

int nic_port_read(struct port *p)
{
    struct nic_port *const np = nic_port_of(p);

    if (np->started)
        nic_port_refresh(np);
    return np->started ? 0 : -EIO;
}

/* ---- interrupts that are no queue's ---- */

/* The vector behind those of the queues, or the only one. */
static int other_fd(const struct nic_port *np)
{
    return np->nic.irq.n ? np->dev->irq_fd[np->nic.irq.n - 1] : -1;
}

static int watch(const struct nic_port *np, int op, int fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u32 = np->nic.port.id };

    return fd >= 0 && epoll_ctl(np->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

int nic_port_watch(struct port *p, int epoll_fd)
{
    struct nic_port *const np = nic_port_of(p);
    int rc;

    np->epoll_fd = epoll_fd;
    rc = watch(np, EPOLL_CTL_ADD, other_fd(np));
    if (rc == 0)
        rc = watch(np, EPOLL_CTL_ADD, np->dev->error_fd);
    return rc == 0 ? watch(np, EPOLL_CTL_ADD, np->dev->request_fd) : rc;
}

/* True if somebody wrote to the eventfd since the last look. */
static bool take_event(int fd)
{
    uint64_t count;

    return fd >= 0 && read(fd, &count, sizeof(count)) == sizeof(count);
}

/* A device that does nothing but interrupt would keep the control thread from its work. */
static bool is_storm(struct nic_port *np)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec != np->others_at)
        np->others = 0;
    np->others_at = now.tv_sec;
    return ++np->others > OTHERS_MAX;
}

void nic_port_other(struct port *p)
{
    struct nic_port *const np = nic_port_of(p);

    if (take_event(np->dev->request_fd))
        nic_fail(&np->nic, 0, BREAK_device_gone, 1);
    if (take_event(np->dev->error_fd))
        nic_fail(&np->nic, 0, BREAK_nic_error, 0);
    if (!np->started)
        return;
    if (is_storm(np)) {
        (void)watch(np, EPOLL_CTL_DEL, other_fd(np));
        nic_fail(&np->nic, 0, BREAK_nic_error, np->others);
        return;
    }
    np->nic.driver->other(&np->nic);
    if (np->dev->line)
        np->dev->ops->unmask(np->dev);
    nic_port_refresh(np);
}

void nic_port_rewatch(const struct nic_port *np)
{
    if (np->epoll_fd < 0)
        return;
    (void)watch(np, EPOLL_CTL_DEL, other_fd(np));
    (void)watch(np, EPOLL_CTL_ADD, other_fd(np));
}
