/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * port.h - what the switch core knows of a port, and what it asks of a driver.
 *
 * A driver (vhost/, tap/, nic/) embeds struct port first in its own
 * struct and fills a const struct port_ops, every member.  The core never
 * includes a driver's header; drivers include this header, frame.h, hold.h,
 * vnet.h, drop.h, flow.h, limit.h and base/, nothing else of the core.
 *
 * Threads: "control" is the one thread that makes library calls; "worker" a
 * packet thread.  A queue's incoming side belongs to one worker; any worker
 * may deliver into any port, so tx_burst takes the lock of the receiving ring
 * when the switch has more than one worker.
 */
#ifndef USWITCH_PORT_H
#define USWITCH_PORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "drop.h"
#include "frame.h"
#include "include/uswitch.h"
#include "limit.h"

struct port;
struct port_tags;               /* segment.h */
struct policy;                  /* policy.h */
struct worker;                  /* worker.h */

/* Instead of an fd: nothing can arrive (ring not started); a worker sleeps as long as it likes. */
#define RXQ_QUIET -1
/* Instead of an fd: frames arrive without notice (ring without kick fd); a sleeping worker looks every ms. */
#define RXQ_POLLED -2

/* Addresses that can wait to be announced at a port; QEMU names one a virtio device. */
#define ANNOUNCE_BOX 4

/**
 * struct rxq - one incoming queue of a port, as its worker sees it
 * @port: the port (immutable)
 * @index: queue number, 0 .. US_QUEUES_MAX - 1 (immutable)
 * @watched_fd: fd in the worker's epoll set, or RXQ_QUIET, or RXQ_POLLED (control)
 * @worker: who polls it (control; NULL while unassigned)
 */
struct rxq {
    struct port *port;
    uint32_t index;
    int watched_fd;
    struct worker *worker;
};

/**
 * struct port_ops - a driver
 * @kind: name for messages, "vhost", "tap"
 * @rx_burst: worker.  Take up to BURST_MAX - b->held_back frames and BURST_BYTES bytes from the queue: snapshot the
 *      headers, validate, fill b->frame[0 .. n-1] (frames the driver drops itself are counted by it and
 *      not listed), b->n and b->n_iov.  Frames come untouched from the wire: tag included, vnet offsets
 *      relative to that.  Returns b->n.  May return 0 although it dropped some; rx_complete follows anyway.
 *      frames, bytes, gso and bursts of state->in[] are counted by switch_burst(), for all drivers alike.
 * @rx_complete: worker.  Called once after every rx_burst that returned or dropped frames, when all frames
 *      are delivered: hand the buffers back, publish the used index once, signal once; later, and in order, if
 *      somebody still reads them (hold.h).
 * @tx_burst: worker.  Deliver frames, in order; counts what it delivers and drops in state->out[] (except
 *      DROP_mtu, vlan_nested and offload, the core's).  A broken port takes nothing: DROP_broken.
 *      Writes the egress tag f->out_vid.  The frames already fit port->offloads and max_frame.
 *      Publishes once, signals once.  Never blocks, never retries beyond a bound.  Returns frames delivered.
 * @arm: worker.  Ask for notifications on the queue; returns true if work is already there (then the
 *      worker polls again instead of sleeping).
 * @disarm: worker.  No more notifications, back to polling.
 * @stop: control.  No worker uses the port after it returns and a grace period has passed.
 * @destroy: control.  Frees everything; after stop and a grace period.  Legal on a half-built port.
 */
struct port_ops {
    const char *kind;
    unsigned (*rx_burst)(struct rxq *q, struct burst *b);
    void (*rx_complete)(struct rxq *q, struct burst *b);
    unsigned (*tx_burst)(struct port *p, struct frame *const *frames, unsigned n);
    bool (*arm)(struct rxq *q);
    void (*disarm)(struct rxq *q);
    void (*stop)(struct port *p);
    void (*destroy)(struct port *p);
};

/**
 * struct flood_bucket - token bucket for copies made by flooding
 * @rate: copies a second, 0: no limit (writer: control)
 * @depth: bucket depth, copies (writer: control)
 * @state: packed time and tokens, see flood.h (writer: workers, compare-and-swap)
 */
struct flood_bucket {
    _Atomic uint32_t rate;
    _Atomic uint32_t depth;
    _Atomic uint64_t state;
};

/**
 * struct port - the generic part of a port
 */
struct port {
    /* immutable after uswitch_port_add() */
    const struct port_ops *ops;
    uint32_t id;
    uint32_t kind;              /* US_KIND_* */
    uint32_t n_queues;          /* incoming queues: rxq[0 .. n_queues - 1] */
    bool shared;                /* more than one worker: tx_burst must lock */
    int news_fd;                /* borrowed eventfd: written when something broke */
    struct us_state_page *state;/* owned mapping */
    struct rxq rxq[US_QUEUES_MAX];

    /* published (writer: control, reader: workers) */
    _Atomic(const struct port_tags *) tags; /* RCU, owned; NULL: in no segment */
    _Atomic uint32_t offloads;  /* OFFLOAD_* the peer takes when it receives */
    _Atomic uint32_t max_frame; /* bytes, for frames without segmentation request, tag not counted */
    _Atomic uint32_t fdb_quota;
    _Atomic(const struct policy *) policy;  /* RCU, owned; NULL: everything passes */

    /* writer: any thread, once, by port_break() */
    _Atomic uint32_t broken;    /* enum break_reason */

    /* workers; the gap keeps their writes off the cache lines that every sender reads */
    uint8_t gap[64];
    struct flood_bucket flood;
    struct limit limit;         /* what it may send */
    _Atomic uint64_t announce[ANNOUNCE_BOX]; /* addresses to announce, see announce.c */
    _Atomic uint32_t fdb_count; /* addresses learned from this port (writer: fdb.c) */
};

/**
 * port_init() - fill the generic part
 * @p: zeroed memory of the driver
 * @ops: driver
 * @add: validated request
 * @state: mapped state page, ownership moves to the port
 * @n_queues: incoming queues, 1 .. US_QUEUES_MAX
 */
void port_init(struct port *p, const struct port_ops *ops, const struct us_port_add *add,
               struct us_state_page *state, uint32_t n_queues);

/* Unmap the state page and drop what port_init() made. Control thread, after a grace period. */
void port_fini(struct port *p);

/**
 * port_break() - fence a port whose peer misbehaved; any thread, signal-safe
 * @p: the port; only the first call has an effect
 * @ring: which virtqueue
 * @reason: why
 * @detail: the offending value
 *
 * The port stays attached and moves nothing until the control plane starts its rings anew.
 */
void port_break(struct port *p, uint32_t ring, enum break_reason reason, uint64_t detail);

/* Control: the peer starts afresh, the port may move frames again. */
void port_mend(struct port *p);

static inline bool port_is_broken(const struct port *p)
{
    return atomic_load_explicit(&p->broken, memory_order_relaxed) != BREAK_none;
}

/**
 * rxq_watch() - let a queue's worker wake up when an fd becomes readable
 * @q: the queue, assigned to a worker or not yet (then the fd is added on assignment)
 * @fd: eventfd or device, borrowed until rxq_watch(q, RXQ_QUIET) or another fd; or RXQ_QUIET, RXQ_POLLED
 *
 * Call it after the queue is ready to be polled: it also wakes the worker, which then looks at the queue and
 * arms it.  The same fd again is legal and means "look now".
 *
 * Edge-triggered and never read by the worker: an eventfd's count does not matter, and a peer that
 * clears O_NONBLOCK cannot make a worker hang.  Control thread.  Return: 0 or -errno.
 */
int rxq_watch(struct rxq *q, int fd);

/* Counters. One writer at a time by construction (see us_queue_counters), so plain adds suffice. */
static inline void count_drop_in(struct port *p, uint32_t queue, enum drop_reason why)
{
    p->state->in[queue].drop[why]++;
}

/**
 * count_burst_out() - count a burst of frames that left, or did not
 * @c: counters of the outgoing side
 * @frames: frames
 * @why: DROP_none or the reason, of each
 * @n: how many
 *
 * Return: frames delivered.
 */
static inline unsigned count_burst_out(struct us_queue_counters *c, struct frame *const *frames, const uint8_t *why,
                                       unsigned n)
{
    unsigned delivered = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct frame *const f = frames[i];

        if (why[i] != DROP_none) {
            c->drop[why[i]]++;
            continue;
        }
        delivered++;
        c->bytes += f->len + (f->out_vid != US_VID_UNTAGGED ? VLAN_TAG_LEN : 0);
        c->flooded += f->flooded;
        c->gso += f->vnet.gso_type != VNET_GSO_NONE;
    }
    /* Read by the control thread, see nic_port_hang.c. */
    __atomic_store_n(&c->frames, c->frames + delivered, __ATOMIC_RELAXED);
    c->bursts++;
    return delivered;
}

static inline void count_drop_out(struct port *p, uint32_t queue, enum drop_reason why, uint64_t n)
{
    p->state->out[queue].drop[why] += n;
}

#endif /* USWITCH_PORT_H */
