/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * switch.h - the forwarding decision: classify, police, learn, look up,
 * deliver (design section 3).  Knows ports only through port.h.
 *
 * struct switch_core is what all workers share: the ports, the segments, the
 * FDB.  Control-thread calls change it by prepare, publish, grace period,
 * free; switch_burst() runs inside a worker's turn, which is an RCU read-side
 * section.
 */
#ifndef USWITCH_SWITCH_H
#define USWITCH_SWITCH_H

#include "frame.h"
#include "port.h"

struct fdb;
struct segment_table;
struct pinned_macs;

/**
 * struct switch_core - shared state of the forwarding path
 * @port: port of each id, NULL if free (RCU: writer control)
 * @fdb: address table (owned)
 * @segments: member lists (owned; RCU inside)
 * @macs: addresses pinned to each port (owned; control), NULL if the id is free
 * @n_workers: how many workers deliver (immutable)
 */
struct switch_core {
    _Atomic(struct port *) port[US_PORTS_MAX];
    struct fdb *fdb;
    struct segment_table *segments;
    struct pinned_macs *macs[US_PORTS_MAX];
    uint32_t n_workers;
};

/**
 * struct switch_scratch - what one worker needs to switch a burst; allocated once, for one switch
 */
struct switch_scratch;
struct switch_scratch *switch_scratch_create(void);
void switch_scratch_destroy(struct switch_scratch *s);

int switch_core_init(struct switch_core *core, const struct us_config *config, struct us_switch_page *page);
void switch_core_fini(struct switch_core *core);

/*
 * Control: make a port visible to the workers (0, -EINVAL, -EEXIST, -ENOMEM) / take it out of all segments and the
 * FDB, wait a grace period; the caller then stops and destroys it.
 */
int switch_port_attach(struct switch_core *core, struct port *p);
void switch_port_detach(struct switch_core *core, struct port *p);
/*
 * Control: replace tag table / pinned addresses.  Arguments are validated whole: -EINVAL for values out of range,
 * -EEXIST for a row twice or an address pinned to another port, -ENOSPC if the FDB has no room for a pin, -ENOMEM;
 * nothing changes on error.
 */
int switch_port_set_tags(struct switch_core *core, struct port *p, const struct us_tag_row *row, uint32_t n);
int switch_port_set_macs(struct switch_core *core, struct port *p, const uint8_t (*mac)[6], uint32_t n);
/*
 * Control: what the port may send from now on; NULL: everything.  The port owns the policy.  When it returns, the
 * former one has judged its last frame, and learned addresses that the new one does not know are forgotten.
 */
void switch_port_set_policy(struct switch_core *core, struct port *p, const struct policy *policy);

/**
 * switch_burst() - forward the frames of one queue
 * @core: the switch
 * @s: the worker's scratch
 * @q: where the frames came from
 * @b: the frames; consumed: after return every frame is delivered or counted as dropped
 * @now_ns: the worker's clock for this turn, CLOCK_MONOTONIC based
 *
 * Worker thread.  The caller calls q->port->ops->rx_complete() afterwards.
 */
void switch_burst(struct switch_core *core, struct switch_scratch *s, struct rxq *q, struct burst *b,
                  uint64_t now_ns);

#endif /* USWITCH_SWITCH_H */
