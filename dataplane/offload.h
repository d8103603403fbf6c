/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * offload.h - does in software what a receiver did not negotiate: completes
 * checksums and cuts TCP and UDP segments (design: no receiver is turned away).
 *
 * Works on private copies: a guest that rewrites its buffer meanwhile changes
 * what it sends, never what is parsed.  Worker thread; all memory is in the
 * scratch the worker owns.
 */
#ifndef USWITCH_OFFLOAD_H
#define USWITCH_OFFLOAD_H

#include <stdbool.h>

#include "drop.h"
#include "frame.h"

struct offload_scratch;

/* Allocate the worker's scratch; NULL when out of memory. */
struct offload_scratch *offload_scratch_create(void);
void offload_scratch_destroy(struct offload_scratch *s);

/**
 * offload_uso_fits() - the same for a UDP segmentation request, apart from its checksum
 * @f: the frame, gso_type VNET_GSO_UDP_L4
 * @offloads: OFFLOAD_* of the receiver
 *
 * Return: false as well if the request is for more datagrams than every receiver that negotiates them takes.
 */
bool offload_uso_fits(const struct frame *f, uint32_t offloads);

/**
 * offload_fits() - may the frame go to a receiver untouched?
 * @f: the frame
 * @offloads: OFFLOAD_* of the receiver
 */
static inline bool offload_fits(const struct frame *f, uint32_t offloads)
{
    uint32_t need = 0;

    if (__builtin_expect((f->vnet.flags | f->vnet.gso_type) == 0, 1))
        return true;
    if (f->vnet.flags & VNET_NEEDS_CSUM)
        need |= OFFLOAD_CSUM;
    if ((f->vnet.gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCPV4)
        need |= OFFLOAD_TSO4;
    else if ((f->vnet.gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCPV6)
        need |= OFFLOAD_TSO6;
    else if (f->vnet.gso_type == VNET_GSO_UDP_L4 && !offload_uso_fits(f, offloads))
        return false;
    if (f->vnet.gso_type & VNET_GSO_ECN)
        need |= OFFLOAD_ECN;
    return (need & ~offloads) == 0;
}

/**
 * offload_begin() - start to replace a frame by ones a receiver can take
 * @s: scratch
 * @f: the frame; must stay valid and unchanged until the last offload_next()
 * @offloads: OFFLOAD_* of the receiver
 *
 * Return: DROP_none, or DROP_offload if the headers do not allow it.
 */
enum drop_reason offload_begin(struct offload_scratch *s, const struct frame *f, uint32_t offloads);

/**
 * offload_next() - the next frames that replace it
 * @s: scratch
 * @out: up to @max pointers into the scratch, valid until the next call; they carry over
 *       segment, pcp, out_vid and flooded
 * @max: 1 .. BURST_MAX
 *
 * Return: how many were filled, 0 when all are out.
 */
unsigned offload_next(struct offload_scratch *s, struct frame **out, unsigned max);

#endif /* USWITCH_OFFLOAD_H */
