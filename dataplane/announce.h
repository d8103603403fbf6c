/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * announce.h - tells a segment where a guest is that cannot say so itself: a
 * RARP request in its name, after it has moved here from another host.
 *
 * The control thread puts the address into a box of the port and wakes a
 * worker of one of the port's queues (worker_look()).  That worker sends the
 * frame through switch_burst() as if it had come from the queue: policy,
 * learning, the flooding budget and the order of the port's frames are those
 * of any other frame of the guest.
 */
#ifndef USWITCH_ANNOUNCE_H
#define USWITCH_ANNOUNCE_H

#include "switch.h"

/**
 * announce_post() - leave an address for a worker to announce
 * @p: the port it is behind
 * @mac: the address of one station
 *
 * Control thread.  The same address again, before it was sent, is one announcement.
 *
 * Return: 0, or -EAGAIN while the box is full.
 */
int announce_post(struct port *p, const uint8_t mac[ETH_ALEN]);

/**
 * announce_send() - send what lies in the box of a queue's port
 * @core: the switch
 * @s: the worker's scratch
 * @q: a queue of the worker
 * @b: the worker's burst, between two bursts
 * @now_ns: the worker's clock
 *
 * Worker thread, inside its turn.  The frame is untagged: the port's untagged segment is the one that a virtio
 * device's address belongs to.  What a fenced port had to say is forgotten.
 */
void announce_send(struct switch_core *core, struct switch_scratch *s, struct rxq *q, struct burst *b,
                   uint64_t now_ns);

#endif /* USWITCH_ANNOUNCE_H */
