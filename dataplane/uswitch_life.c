/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_life.c - the library's switch as a whole: its beginning and end, the
 * page, the poll call, news and addresses.  Control thread, except
 * uswitch_poll().
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/guard.h"
#include "base/rcu.h"
#include "fdb.h"
#include "state_page.h"
#include "uswitch_priv.h"

#define POLL_US_MAX 1000000
#define REBALANCE_MS_MAX 3600000
#define FDB_BUCKETS_MIN 16
#define FDB_AGE_MAX 65000

static int check_config(const struct us_config *config)
{
    const uint32_t buckets = config->fdb_buckets;

    if (config->n_workers > US_WORKERS_MAX || config->poll_us > POLL_US_MAX || config->spare ||
        config->rebalance_ms > REBALANCE_MS_MAX)
        return -EINVAL;
    if (buckets < FDB_BUCKETS_MIN || buckets > FDB_BUCKETS_MAX || (buckets & (buckets - 1)) != 0)
        return -EINVAL;
    if (config->fdb_age_s < 1 || config->fdb_age_s > FDB_AGE_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < config->n_workers; i++) {
        if (config->cpu[i] < -1 || config->cpu[i] >= CPU_SETSIZE)
            return -EINVAL;
    }
    return 0;
}

static int make_workers(struct uswitch *us, const struct us_config *config)
{
    for (uint32_t i = 0; i < us->n_workers; i++) {
        const int rc = worker_create(&us->core, &us->page->worker[i], i, config->poll_us,
                                     us->threaded ? config->cpu[i] : -1, &us->worker[i]);

        if (rc < 0)
            return rc;
    }
    for (uint32_t i = 0; us->threaded && i < us->n_workers; i++) {
        const int rc = worker_start(us->worker[i]);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/*
 * What peers can do to a process that shares memory and eventfds with them ends in a signal: SIGBUS when
 * memory goes, the nudge when a write blocks.  Here, so that no user of the library can forget it.
 */
static int take_signals(struct uswitch *us)
{
    int rc = guard_install();

    if (rc == 0)
        rc = nudge_install();
    return rc < 0 ? rc : nudge_create(&us->nudge);
}

int uswitch_create(const struct us_config *config, struct uswitch **out)
{
    /* Without threads there is still one worker, the caller of uswitch_poll(). */
    struct us_config effective = *config;
    struct uswitch *us;
    int rc = check_config(config);

    if (rc < 0)
        return rc;
    us = calloc(1, sizeof(*us));
    if (!us)
        return -ENOMEM;
    if (effective.n_workers == 0)
        effective.n_workers = 1;
    us->n_workers = effective.n_workers;
    us->threaded = config->n_workers > 0;
    us->news_fd = -1;
    us->device_fd = epoll_create1(EPOLL_CLOEXEC);
    us->balance.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    us->balance.interval_ms = effective.rebalance_ms;
    rc = us->page_fd = switch_page_make(effective.n_workers, &us->page);
    if (rc < 0)
        goto fail;
    us->page->tsc_khz = clock_khz();
    us->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = us->news_fd < 0 || us->balance.fd < 0 || us->device_fd < 0 ? -errno : take_signals(us);
    if (rc == 0)
        rc = switch_core_init(&us->core, &effective, us->page);
    if (rc == 0)
        rc = make_workers(us, &effective);
    if (rc < 0)
        goto fail;
    *out = us;
    return 0;

fail:
    uswitch_destroy(us);
    return rc;
}

void uswitch_destroy(struct uswitch *us)
{
    if (!us)
        return;
    for (uint32_t i = 0; i < us->n_workers; i++) {
        if (us->worker[i])
            worker_stop(us->worker[i]);
    }
    for (uint32_t id = 0; id < US_PORTS_MAX; id++) {
        if (uswitch_port(us, id))
            (void)uswitch_port_del(us, id);
    }
    for (uint32_t i = 0; i < us->n_workers; i++)
        worker_destroy(us->worker[i]);
    switch_core_fini(&us->core);
    switch_page_unmap(us->page);
    nudge_destroy(&us->nudge);
    if (us->news_fd >= 0)
        close(us->news_fd);
    if (us->balance.fd >= 0)
        close(us->balance.fd);
    if (us->device_fd >= 0)
        close(us->device_fd);
    if (us->page_fd >= 0)
        close(us->page_fd);
    free(us);
}

int uswitch_page_fd(const struct uswitch *us)
{
    return us->page_fd;
}

/* Registered for the turn only: the caller may be any thread, and another one next time. */
int uswitch_poll(struct uswitch *us)
{
    unsigned frames;

    if (us->threaded)
        return -EBUSY;
    rcu_worker_register();
    frames = worker_turn(us->worker[0]);
    rcu_worker_unregister();
    return (int)frames;
}

int uswitch_device_fd(const struct uswitch *us)
{
    return us->device_fd;
}

int uswitch_event_fd(const struct uswitch *us)
{
    return us->news_fd;
}

/* A port's break that nobody was told of yet. */
static bool newly_broken(struct uswitch *us, uint32_t id, struct us_event *out)
{
    struct port *p = uswitch_port(us, id);
    uint32_t reason;

    if (!p)
        return false;
    /* Pairs with the release in port_break(): with the reason come ring and detail. */
    reason = __atomic_load_n(&p->state->broken, __ATOMIC_ACQUIRE);
    if (reason == BREAK_none)
        us->told[id] = false;
    if (reason == BREAK_none || us->told[id])
        return false;
    us->told[id] = true;
    /* Guests wait for what it reads in their memory. */
    uswitch_lend_rest(p);
    *out = (struct us_event){
        .kind = US_EVENT_PORT_BROKEN,
        .port_id = id,
        .ring = __atomic_load_n(&p->state->broken_ring, __ATOMIC_RELAXED),
        .reason = reason,
        .detail = __atomic_load_n(&p->state->broken_detail, __ATOMIC_RELAXED),
    };
    return true;
}

/* An adapter's link, as it is now, if it has changed since the last report. */
static bool newly_linked(struct uswitch *us, uint32_t id, struct us_event *out)
{
    const struct port *p = uswitch_port(us, id);

    if (!p || (p->kind != US_KIND_NIC && p->kind != US_KIND_XDP))
        return false;
    if (p->state->nic.link_changes == us->told_link[id])
        return false;
    us->told_link[id] = p->state->nic.link_changes;
    *out = (struct us_event){
        .kind = US_EVENT_LINK,
        .port_id = id,
        .ring = p->state->nic.link_up != 0,
        .detail = p->state->nic.link_up ? p->state->nic.speed_mbps : 0,
    };
    return true;
}

int uswitch_event_next(struct uswitch *us, struct us_event *out)
{
    /* Emptied before the look, so that what breaks behind the look makes it readable again. */
    if (us->scan == 0) {
        uint64_t count;
        const ssize_t ignored = read(us->news_fd, &count, sizeof(count));

        (void)ignored;
    }
    while (us->scan < US_PORTS_MAX) {
        /* A port is left when it has no more to say. */
        if (newly_broken(us, us->scan, out) || newly_linked(us, us->scan, out))
            return 1;
        us->scan++;
    }
    us->scan = 0;
    *out = (struct us_event){ .kind = US_EVENT_NONE };
    return 0;
}

int uswitch_fdb_dump(struct uswitch *us, uint64_t *cursor, struct us_fdb_entry *out, uint32_t max)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)fdb_dump(us->core.fdb, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, cursor, out,
                         max < INT32_MAX ? max : INT32_MAX);
}

int uswitch_fdb_flush(struct uswitch *us, uint32_t port_id, uint32_t segment)
{
    if (port_id >= US_PORTS_MAX && port_id != US_ANY)
        return -EINVAL;
    if ((segment == US_SEGMENT_NONE || segment >= US_SEGMENTS_MAX) && segment != US_ANY)
        return -EINVAL;
    return (int)fdb_flush(us->core.fdb, port_id, segment);
}
