/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_lend.c - zero copy, between the drivers: adapters that read in place
 * get the memory of guests, as both come and go.  Control thread.
 *
 * An adapter is refused if the guests that are there do not fit into what may
 * be locked.  A guest that comes later is not: what it sends is copied, as
 * without zero copy, and the log says why.
 */
#include <string.h>

#include "base/log.h"
#include "nic/nic_port.h"
#include "uswitch_priv.h"
#include "vhost/vhost_port.h"

/* The next port from *id on that a test accepts; NULL at the end. */
static struct port *next_port(const struct uswitch *us, uint32_t *id, bool (*accepts)(const struct port *p))
{
    while (*id < US_PORTS_MAX) {
        struct port *const p = uswitch_port(us, (*id)++);

        if (p && accepts(p))
            return p;
    }
    return NULL;
}

static bool is_guest(const struct port *p)
{
    return p->kind == US_KIND_VHOST;
}

/* ---- a guest's memory ---- */

static void memory_came(void *arg, void *base, size_t len)
{
    const struct uswitch *const us = arg;
    struct port *p;

    for (uint32_t id = 0; (p = next_port(us, &id, nic_port_lends)) != NULL;) {
        const int rc = nic_port_lend(p, base, len);

        if (rc < 0)
            log_warning("port %u: %zu bytes of a guest's memory cannot be mapped for the adapter: %s; what lies there "
                        "is copied", p->id, len, strerror(-rc));
    }
}

static void memory_goes(void *arg, void *base, size_t len)
{
    const struct uswitch *const us = arg;
    struct port *p;

    (void)len;
    for (uint32_t id = 0; (p = next_port(us, &id, nic_port_lends)) != NULL;)
        nic_port_unlend(p, base);
}

void uswitch_lend_guest(struct uswitch *us, struct port *p)
{
    uint32_t id = 0;

    vhost_port_watch_mem(p, &(struct vhost_mem_watch){ .came = memory_came, .goes = memory_goes, .arg = us });
    vhost_port_lend(p, next_port(us, &id, nic_port_lends) != NULL);
}

/* ---- an adapter ---- */

static int add_len(void *arg, void *base, size_t len)
{
    (void)base;
    *(uint64_t *)arg += len;
    return 0;
}

static int lend_to(void *arg, void *base, size_t len)
{
    return nic_port_lend(arg, base, len);
}

int uswitch_lend_adapter(struct uswitch *us, struct port *nic)
{
    uint64_t need = nic->state->nic.pool_bytes;
    struct port *p;
    int rc = 0;

    if (!nic_port_lends(nic))
        return 0;
    for (uint32_t id = 0; (p = next_port(us, &id, is_guest)) != NULL;)
        (void)vhost_port_each_mem(p, add_len, &need);
    for (uint32_t id = 0; rc == 0 && (p = next_port(us, &id, is_guest)) != NULL;)
        rc = vhost_port_each_mem(p, lend_to, nic);
    /* As with the pool: if the kernel refuses, somebody wants to know how much it was. */
    if (rc < 0)
        nic->state->nic.pool_bytes = need;
    return rc;
}

void uswitch_lend_refresh(struct uswitch *us)
{
    uint32_t first = 0;
    const bool on = next_port(us, &first, nic_port_lends) != NULL;
    struct port *p;

    for (uint32_t id = 0; (p = next_port(us, &id, is_guest)) != NULL;)
        vhost_port_lend(p, on);
}

void uswitch_lend_rest(struct port *p)
{
    if (nic_port_lends(p) && port_is_broken(p))
        nic_port_rest(p);
}
