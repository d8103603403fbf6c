/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fake_port.h - a port in memory, for tests of everything above the drivers.
 *
 * Frames are injected and come out of rx_burst as a guest's would: the first
 * bytes as a snapshot, the rest by iovec.  What tx_burst gets is copied
 * together and kept, with the tag and the offload request it came with.  The
 * port can refuse (a full ring) or only count (for measurements).
 *
 * Any thread may deliver; everything else belongs to one thread at a time.
 */
#ifndef USWITCH_TESTS_FAKE_PORT_H
#define USWITCH_TESTS_FAKE_PORT_H

#include "base/spin.h"
#include "port.h"

#define FAKE_FRAME_MAX 65562
/* Frames kept or waiting, at most; more are counted and forgotten, or refused. */
#define FAKE_FRAMES 1024

/**
 * struct fake_frame - a frame as the test made it, or as the switch delivered it
 * @len: bytes; for delivered frames of the canonical frame, the tag is not among them
 * @vid: tag it was delivered with, US_VID_UNTAGGED without
 * @pcp: its priority bits
 * @segment: what the switch said it is
 * @flooded: delivered as a flood copy
 * @vnet: offload request
 * @data: @len bytes, owned
 */
struct fake_frame {
    uint32_t len;
    uint16_t vid;
    uint16_t pcp;
    uint16_t segment;
    uint8_t flooded;
    struct vnet vnet;
    uint8_t *data;
};

/**
 * struct fake_port - the port
 * @port: generic part; shared is set, so that any thread may deliver
 * @snap: bytes of a frame that rx_burst puts into the snapshot (64 to begin with)
 * @room: tx_burst refuses, as ring_full, when so many are kept (FAKE_FRAMES to begin with)
 * @count_only: tx_burst looks at nothing and keeps nothing
 * @lock: of what tx_burst writes
 * @n_got: frames delivered and kept in @got
 * @tx_calls: calls of tx_burst
 * @tx_frames: frames they brought
 * @completed: calls of rx_complete
 * @armed: notifications asked for
 * @stopped: stop() was called
 * @n_waiting: injected, not yet taken
 */
struct fake_port {
    struct port port;
    uint32_t snap;
    uint32_t room;
    bool count_only;
    struct spin lock;
    uint32_t n_got;
    uint64_t tx_calls;
    uint64_t tx_frames;
    uint64_t completed;
    bool armed;
    bool stopped;
    uint32_t n_waiting;
    struct fake_frame got[FAKE_FRAMES];
    struct fake_frame waiting[FAKE_FRAMES];
};

extern const struct port_ops fake_port_ops;

/* A port with one queue, no flood limit, a quota of 1024 addresses, frames of up to 1514 bytes. NULL: no memory. */
struct fake_port *fake_port_create(uint32_t id);
void fake_port_destroy(struct fake_port *fp);

/* Let the port send a frame; vnet NULL: an ordinary one. 0 or -ENOSPC. */
int fake_port_inject(struct fake_port *fp, const void *data, uint32_t len, const struct vnet *vnet);

/* Forget what was delivered (not the counters of the state page). */
void fake_port_clear(struct fake_port *fp);

/* Counters of queue 0. */
static inline struct us_queue_counters *fake_in(struct fake_port *fp)
{
    return &fp->port.state->in[0];
}

static inline struct us_queue_counters *fake_out(struct fake_port *fp)
{
    return &fp->port.state->out[0];
}

/**
 * fake_eth() - write an Ethernet frame with a pattern as payload
 * @out: room for @len bytes
 * @to: last byte of the destination 02-00-00-00-00-xx; 0xff: broadcast
 * @from: last byte of the source
 * @vid: outer tag to write, US_VID_UNTAGGED for none
 * @len: whole length, tag included; at least 18
 */
void fake_eth(uint8_t *out, uint8_t to, uint8_t from, uint16_t vid, uint32_t len);

#endif /* USWITCH_TESTS_FAKE_PORT_H */
