/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * switch_control.c - how the control thread changes what switch.c reads:
 * ports that come and go, their segments, their pinned addresses.
 *
 * Every call validates and allocates first, publishes then, waits at most one
 * grace period, and frees last; what fails, fails before anything is visible.
 * Forwarding goes on meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rcu.h"
#include "fdb.h"
#include "segment.h"
#include "switch.h"

/**
 * struct pinned_macs - addresses pinned to a port, in every segment it has a row for (control thread)
 * @n: number
 * @mac: little-endian numbers of 48 bits
 */
struct pinned_macs {
    uint32_t n;
    uint64_t mac[US_MACS_MAX];
};

int switch_core_init(struct switch_core *core, const struct us_config *config, struct us_switch_page *page)
{
    int rc;

    memset(core, 0, sizeof(*core));
    core->n_workers = config->n_workers ? config->n_workers : 1;
    rc = segment_table_create(&core->segments);
    if (rc == 0)
        rc = fdb_create(config->fdb_buckets, config->fdb_age_s, core->port, page, &core->fdb);
    if (rc < 0)
        switch_core_fini(core);
    return rc;
}

void switch_core_fini(struct switch_core *core)
{
    fdb_destroy(core->fdb);
    segment_table_destroy(core->segments);
    for (uint32_t i = 0; i < US_PORTS_MAX; i++)
        free(core->macs[i]);
    memset(core, 0, sizeof(*core));
}

int switch_port_attach(struct switch_core *core, struct port *p)
{
    if (p->id >= US_PORTS_MAX)
        return -EINVAL;
    if (atomic_load_explicit(&core->port[p->id], memory_order_relaxed))
        return -EEXIST;
    core->macs[p->id] = calloc(1, sizeof(*core->macs[0]));
    if (!core->macs[p->id])
        return -ENOMEM;
    atomic_store_explicit(&p->fdb_count, 0, memory_order_relaxed);
    atomic_store_explicit(&core->port[p->id], p, memory_order_release);
    return 0;
}

void switch_port_detach(struct switch_core *core, struct port *p)
{
    struct segment_change change;

    if (p->id >= US_PORTS_MAX || atomic_load_explicit(&core->port[p->id], memory_order_relaxed) != p)
        return;
    /* To leave all segments needs no memory. */
    (void)segment_change_prepare(&change, core->segments, p, NULL);
    segment_change_publish(&change);
    atomic_store_explicit(&core->port[p->id], NULL, memory_order_release);
    rcu_wait();
    /* Nobody learns for the port now, so what is removed stays away from the next owner of the id. */
    segment_change_settle(&change);
    fdb_retain(core->fdb, p->id, NULL);
    free(core->macs[p->id]);
    core->macs[p->id] = NULL;
}

static bool in_segment(const struct port_tags *tags, uint16_t segment)
{
    return tags && port_tags_vid(tags, segment) != VID_NONE;
}

static void unpin_all(struct fdb *fdb, const struct port *p, const struct pinned_macs *macs,
                      const struct port_tags *tags, const struct port_tags *except)
{
    for (uint16_t s = 1; s < US_SEGMENTS_MAX; s++) {
        for (uint32_t i = 0; i < macs->n && in_segment(tags, s) && !in_segment(except, s); i++)
            fdb_unpin(fdb, fdb_key(s, macs->mac[i]), p);
    }
}

/* Pins addresses in the segments of @tags that are not in @except: all of them or none. */
static int pin_all(struct fdb *fdb, const struct port *p, const struct pinned_macs *macs,
                   const struct port_tags *tags, const struct port_tags *except)
{
    int rc = 0;

    for (uint16_t s = 1; s < US_SEGMENTS_MAX && rc == 0; s++) {
        if (!in_segment(tags, s) || in_segment(except, s))
            continue;
        for (uint32_t i = 0; i < macs->n && rc == 0; i++)
            rc = fdb_pin(fdb, fdb_key(s, macs->mac[i]), p);
    }
    if (rc < 0)
        unpin_all(fdb, p, macs, tags, except);
    return rc;
}

/* True if the port loses a segment, and with it the addresses learned there. */
static bool leaves_segment(const struct port_tags *before, const struct port_tags *after)
{
    for (uint16_t s = 1; s < US_SEGMENTS_MAX; s++) {
        if (in_segment(before, s) && !in_segment(after, s))
            return true;
    }
    return false;
}

int switch_port_set_tags(struct switch_core *core, struct port *p, const struct us_tag_row *row, uint32_t n)
{
    const struct port_tags *before = atomic_load_explicit(&p->tags, memory_order_relaxed);
    const struct pinned_macs *macs = core->macs[p->id];
    struct segment_change change;
    struct port_tags *after;
    bool leaves;
    int rc;

    rc = port_tags_create(row, n, &after);
    if (rc < 0)
        return rc;
    rc = pin_all(core->fdb, p, macs, after, before);
    if (rc < 0)
        goto fail;
    rc = segment_change_prepare(&change, core->segments, p, after);
    if (rc < 0)
        goto fail_pins;

    leaves = leaves_segment(before, after);
    segment_change_publish(&change);
    rcu_wait();
    segment_change_settle(&change);
    if (leaves)
        fdb_retain(core->fdb, p->id, after);
    return 0;

fail_pins:
    unpin_all(core->fdb, p, macs, after, before);
fail:
    port_tags_free(after);
    return rc;
}

void switch_port_set_policy(struct switch_core *core, struct port *p, const struct policy *policy)
{
    const struct policy *before = atomic_exchange_explicit(&p->policy, policy, memory_order_acq_rel);

    rcu_wait();
    free((void *)(uintptr_t)before);
    if (policy && atomic_load_explicit(&p->fdb_count, memory_order_relaxed))
        fdb_police(core->fdb, p->id, policy);
}

static bool macs_have(const struct pinned_macs *macs, uint64_t mac)
{
    for (uint32_t i = 0; i < macs->n; i++) {
        if (macs->mac[i] == mac)
            return true;
    }
    return false;
}

/* All of @a that are not in @b. */
static struct pinned_macs macs_without(const struct pinned_macs *a, const struct pinned_macs *b)
{
    struct pinned_macs rest = { 0 };

    for (uint32_t i = 0; i < a->n; i++) {
        if (!macs_have(b, a->mac[i]))
            rest.mac[rest.n++] = a->mac[i];
    }
    return rest;
}

static int macs_parse(const uint8_t (*mac)[ETH_ALEN], uint32_t n, struct pinned_macs *out)
{
    out->n = 0;
    if (n > US_MACS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t mac48 = fdb_key_bytes(0, mac[i]);

        if (mac48 == 0 || (mac[i][0] & 1) || macs_have(out, mac48))
            return -EINVAL;
        out->mac[out->n++] = mac48;
    }
    return 0;
}

int switch_port_set_macs(struct switch_core *core, struct port *p, const uint8_t (*mac)[6], uint32_t n)
{
    const struct port_tags *tags = atomic_load_explicit(&p->tags, memory_order_relaxed);
    struct pinned_macs wanted, added, removed;
    int rc;

    rc = macs_parse(mac, n, &wanted);
    if (rc < 0)
        return rc;
    added = macs_without(&wanted, core->macs[p->id]);
    removed = macs_without(core->macs[p->id], &wanted);
    rc = pin_all(core->fdb, p, &added, tags, NULL);
    if (rc < 0)
        return rc;
    unpin_all(core->fdb, p, &removed, tags, NULL);
    *core->macs[p->id] = wanted;
    return 0;
}
