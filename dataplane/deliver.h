/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * deliver.h - the second half of a burst: frames are put into one group a
 * receiver, checked against what the receiver can take, and sent group by
 * group, with one tx_burst each in the common case.
 *
 * switch.c decides who gets a frame, this decides whether he can.  Worker
 * thread; a worker owns one struct delivery.
 */
#ifndef USWITCH_DELIVER_H
#define USWITCH_DELIVER_H

#include <endian.h>
#include <string.h>

#include "offload.h"
#include "port.h"

/**
 * struct group - what one receiver gets of this burst
 * @port: the receiver
 * @n: frames
 * @max_frame: its limit
 * @offloads: what it takes
 * @flooded: some frames go to others too, so out_vid is set again before sending
 * @unfit: some frames need software offloads
 * @vid: egress tag of each frame
 * @frame: the frames, in the order they came; a port is in a segment once, so no frame comes twice
 */
struct group {
    struct port *port;
    uint32_t n;
    uint32_t max_frame;
    uint32_t offloads;
    bool flooded;
    bool unfit;
    uint16_t vid[BURST_MAX];
    struct frame *frame[BURST_MAX];
};

/**
 * struct delivery - the groups of a burst
 * @offload: scratch for software offloads (owned)
 * @n_groups: groups in use, 0 between bursts
 * @group_of: by port id: index into @group + 1, or 0; all 0 between bursts
 * @group: touched as far as a burst has receivers
 */
struct delivery {
    struct offload_scratch *offload;
    uint32_t n_groups;
    uint16_t group_of[US_PORTS_MAX];
    struct group group[US_PORTS_MAX];
};

/* Zeroed memory in; 0 or -ENOMEM. */
int delivery_init(struct delivery *d);
void delivery_fini(struct delivery *d);

/* Send all groups and forget them. */
void delivery_send(struct delivery *d);

/* Count a frame the receiver will not get; cold, so that the callers stay small. */
void delivery_refuse(struct port *p, enum drop_reason why);

/* The group of a receiver, begun if this is its first frame. */
static inline struct group *delivery_group(struct delivery *d, struct port *p)
{
    uint16_t *index = &d->group_of[p->id];
    struct group *g;

    if (*index)
        return &d->group[*index - 1];
    g = &d->group[d->n_groups++];
    *index = (uint16_t)d->n_groups;
    g->port = p;
    g->n = 0;
    g->max_frame = atomic_load_explicit(&p->max_frame, memory_order_relaxed);
    g->offloads = atomic_load_explicit(&p->offloads, memory_order_relaxed);
    g->flooded = false;
    g->unfit = false;
    return g;
}

/* DROP_none if the receiver may get the frame with this tag. */
static inline enum drop_reason group_admits(const struct group *g, const struct frame *f, uint16_t vid)
{
    uint16_t ethertype;

    if (__builtin_expect(f->len > g->max_frame, 0) && f->vnet.gso_type == VNET_GSO_NONE)
        return DROP_mtu;
    /* Sent untagged, a second tag would become the first: that is how one hops between VLANs. */
    memcpy(&ethertype, f->hdr + (size_t)2 * ETH_ALEN, sizeof(ethertype));
    if (vid == US_VID_UNTAGGED && __builtin_expect(ethertype == htobe16(ETHERTYPE_VLAN), 0))
        return DROP_vlan_nested;
    return DROP_none;
}

/* Append what group_admits(); at most BURST_MAX frames come in a burst. */
static inline void group_append(struct group *g, struct frame *f, uint16_t vid)
{
    if (__builtin_expect(!offload_fits(f, g->offloads), 0))
        g->unfit = true;
    g->vid[g->n] = vid;
    g->frame[g->n++] = f;
}

/* A frame that goes to this receiver only. */
static inline void group_add(struct group *g, struct frame *f, uint16_t vid)
{
    const enum drop_reason why = group_admits(g, f, vid);

    if (__builtin_expect(why != DROP_none, 0)) {
        delivery_refuse(g->port, why);
        return;
    }
    f->out_vid = vid;
    f->flooded = 0;
    group_append(g, f, vid);
}

/* This receiver's copy of a flooded frame. */
static inline void group_add_copy(struct group *g, struct frame *f, uint16_t vid)
{
    const enum drop_reason why = group_admits(g, f, vid);

    if (__builtin_expect(why != DROP_none, 0)) {
        delivery_refuse(g->port, why);
        return;
    }
    g->flooded = true;
    group_append(g, f, vid);
}

#endif /* USWITCH_DELIVER_H */
