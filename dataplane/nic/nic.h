/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic.h - what a driver of a physical adapter sees of its device, and what
 * nic_port.c asks of a driver.
 *
 *   switch core -- struct port_ops --> nic_port.c -- struct nic_driver --> igb, ixgbe, virtio_pci
 *
 * nic_port.c makes a port of a NIC: it owns device, pool and queues, holds the
 * locks, spreads frames over transmit queues by flow, counts, fences.  A
 * driver knows registers and descriptors, nothing of ports and workers.
 *
 * Threads: "control" is the control thread, with the queues in nobody's hands
 * unless said otherwise; "worker" the worker that has the queue.  A transmit
 * queue may be used by any worker, one at a time (nic_port.c locks).
 *
 * Everything the device writes (descriptors, registers, packets) is hostile
 * until checked: a driver loads a descriptor's word once, bounds lengths and
 * indexes by what it handed out itself, and reports nonsense by nic_fail().
 */
#ifndef USWITCH_NIC_NIC_H
#define USWITCH_NIC_NIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/spin.h"
#include "nic/bar.h"
#include "nic/dma.h"
#include "port.h"

struct nic;

#define NIC_BARS 6
/* PCI 3.0, 6.1: header and capabilities. */
#define NIC_CONFIG_SIZE 256
/* Received frames may lie in so many buffers: 64 KiB by LRO. */
#define NIC_SEGS_MAX ((US_FRAME_MAX + DMA_BUF_SIZE - 1) / DMA_BUF_SIZE)

/**
 * struct nic_queue - a pair of rings
 * @nic: the device (immutable)
 * @index: 0 .. nic->n_queues - 1 (immutable)
 * @rx: driver's receive ring (driver allocates in start, frees in stop; ordinary memory, the descriptors are in
 *      the pool)
 * @tx: driver's transmit ring, likewise
 * @tx_lock: taken by nic_port.c around tx_burst if the port is shared
 * @reader: with zero copy: descriptors that the device has done with, for who waits (nic_lend.c; @reader->done is the
 *      driver's while it runs, under the lock)
 * @lent: what @reader->done must be for all that was given in place to be read (driver, under the lock)
 * @seen_done, @seen_at: progress when nic_lend.c last saw some (under the lock)
 */
struct nic_queue {
    struct nic *nic;
    uint32_t index;
    void *rx;
    void *tx;
    struct spin tx_lock;
    struct hold_reader *reader;
    uint64_t lent;
    uint64_t seen_done, seen_at;
};

/**
 * struct nic_irq - how a driver has interrupts delivered; made by vfio.c, or by a test
 * @n: vectors that are wired: 0 .. n_queues - 1 for the queues, n_queues for everything else
 * @msix: vectors are MSI-X; only then are there several
 */
struct nic_irq {
    uint32_t n;
    bool msix;
};

/**
 * struct nic_config - what the operator wants, checked by nic_port.c against the driver's limits
 * @n_queues: pairs of rings, 1 .. US_QUEUES_MAX
 * @ring_size: descriptors a ring, within the driver's limits
 * @max_frame: longest frame on the wire without tag and FCS, bytes
 * @irq_us: at most one interrupt a queue in so many microseconds, 0: no moderation
 * @promiscuous: take every frame (a switch does; false is for tests)
 * @lro: let the device join received TCP segments into requests, where it can; a driver that cannot ignores it.  What
 *      is cut again for a receiver may be cut at other places than it came
 * @zero_copy: frames may be read by the device where they lie in guests' memory
 */
struct nic_config {
    uint32_t n_queues;
    uint32_t ring_size;
    uint32_t max_frame;
    uint32_t irq_us;
    bool promiscuous;
    bool lro;
    bool zero_copy;
};

/**
 * struct nic - a device in the hands of its driver
 * @port: generic part; first, so that a rxq's port is its nic
 * @driver: who drives it (immutable)
 * @pci_vendor, @pci_device: as in config space (immutable)
 * @variant: driver's word for which of its devices it is, struct nic_id.variant (immutable)
 * @config: copy of the first NIC_CONFIG_SIZE bytes of config space, made before open; NULL: unknown (borrowed)
 * @bar: BARs that are mapped (or modelled)
 * @pool: memory for the device
 * @cfg: configuration in force
 * @irq: interrupts
 * @mac: permanent address (set by driver->open)
 * @guests: guests' memory that the device may read, NULL: none (RCU; writer: control)
 * @queue: rings
 * @priv: driver's own (driver frees it in close)
 * @failed: nic_fail() was called; cleared by a successful start
 */
struct nic {
    struct port port;
    const struct nic_driver *driver;
    uint16_t pci_vendor;
    uint16_t pci_device;
    uint32_t variant;
    const uint8_t *config;
    struct bar bar[NIC_BARS];
    struct dma_pool pool;
    struct nic_config cfg;
    struct nic_irq irq;
    uint8_t mac[ETH_ALEN];
    _Atomic(const struct dma_guests *) guests;
    struct nic_queue queue[US_QUEUES_MAX];
    void *priv;
    _Atomic uint32_t failed;
};

/**
 * struct nic_tx_progress - where a device stands in a transmit ring
 * @pending: descriptors that it was told of and has not taken, 0: none
 * @position: changes with every descriptor that it takes
 * @around: after a ring of descriptors @position may be the same again; they carry so many frames at least
 */
struct nic_tx_progress {
    uint32_t pending;
    uint32_t position;
    uint32_t around;
};

/* One row of a driver's table of devices. */
struct nic_id {
    uint16_t vendor;
    uint16_t device;
    uint32_t variant;
    const char *name;           /* "Intel 82576" */
};

/**
 * struct nic_driver - a driver; every member is filled, but for tx_look
 * @name: "igb"
 * @ids: devices it drives, ends with vendor 0
 * @bars: bit i: BAR i must be mapped (memory BAR); virtio reads its capabilities first and asks for all
 * @queues_max: pairs of rings
 * @ring_min, @ring_max, @ring_multiple: legal sizes of rings
 * @frame_max: longest frame, without tag and FCS
 * @pool_size: control.  Bytes of pool that a configuration takes
 * @open: control.  The device is ours, state unknown: reset, read the address, check what it is.  No DMA yet.
 *      Sets nic->mac and port->offloads.  Return 0 or -errno (-ENODEV: not a device we know, -EIO: it does not answer)
 * @start: control.  From reset: rings, filters, queues, interrupts; the device may write to the pool from now on.
 *      Return 0 or -errno; stopped then.
 * @stop: control.  The device is quiet when it returns: no DMA, no interrupt; frees the rings.  Legal after a failed
 *      start, on a device that does not answer, and twice.
 * @close: control.  Frees priv.  After stop.
 * @rx_burst: worker.  As port_ops.rx_burst, for one queue; counts its own drops.
 * @rx_complete: worker.  The frames are delivered: buffers go back to the ring, one doorbell.
 * @tx_burst: worker, one at a time.  Frees what the device has sent, then queues frames, in order, one doorbell.
 *      Copies them into the pool and writes the egress tag f->out_vid meanwhile: nic_copy.h.  Sets why[i] to DROP_none
 *      for each frame that it took, else to the reason (DROP_ring_full: nothing else is tried for that frame).  Frames
 *      fit cfg.max_frame and port->offloads; n is at most BURST_MAX.  nic_port.c counts.
 *      With a reader, payload that lies in nic->guests may be given to the device in place if the frame has a hold that
 *      admits the reader: nic_lend_frame() then.  Headers are always the snapshot's, from the pool.
 * @tx_progress: control, queues may be running.  Where the device stands in a transmit ring, as the device itself has
 *      it: what it has taken without a report is taken.  Does not look at what belongs to the workers.
 * @tx_look: who has the queue's lock.  Free what the device has sent, and tell q->reader.  NULL: no zero copy.
 * @arm: worker.  Enable the queue's interrupt; true if work is already there.
 * @disarm: worker.  Disable it.
 * @other: control.  The "everything else" vector fired: acknowledge, note what happened (nic_fail() for a device
 *      error), enable it again.
 * @read: control, queues may be running.  Fills link_up, speed_mbps, full_duplex and counter[], which hold zeros and
 *      US_NIC_COUNTER_NONE before; the rest is nic_port.c's.  Counters that clear on read are added up by the driver:
 *      values only grow until close, over stop and start.
 */
struct nic_driver {
    const char *name;
    const struct nic_id *ids;
    uint32_t bars;
    uint32_t queues_max;
    uint32_t ring_min, ring_max, ring_multiple;
    uint32_t frame_max;
    size_t (*pool_size)(const struct nic_config *cfg);
    int (*open)(struct nic *n);
    int (*start)(struct nic *n);
    void (*stop)(struct nic *n);
    void (*close)(struct nic *n);
    unsigned (*rx_burst)(struct nic_queue *q, struct burst *b);
    void (*rx_complete)(struct nic_queue *q, struct burst *b);
    void (*tx_burst)(struct nic_queue *q, struct frame *const *frames, unsigned n, uint8_t *why);
    void (*tx_progress)(const struct nic_queue *q, struct nic_tx_progress *out);
    void (*tx_look)(struct nic_queue *q);
    bool (*arm)(struct nic_queue *q);
    void (*disarm)(struct nic_queue *q);
    void (*other)(struct nic *n);
    void (*read)(struct nic *n, struct us_nic_state *out);
};

/**
 * nic_lend_frame() - a frame's payload was given to the device in place; driver, under the queue's lock
 * @q: queue with a reader
 * @h: the frame's hold, which admits the reader
 * @until: what q->reader->done will be when the frame is sent
 */
static inline void nic_lend_frame(struct nic_queue *q, struct hold *h, uint64_t until)
{
    /* Nobody has waited so far: how long the device takes counts from the next look on. */
    if (atomic_load_explicit(&q->reader->done, memory_order_relaxed) >= q->lent)
        q->seen_at = 0;
    q->lent = until;
    hold_add(h, q->reader, until);
}

/**
 * nic_fail() - the device did what no device may do, or reported an error; any thread
 * @n: the device; its port is fenced, everybody else goes on
 * @queue: which queue, 0 if none in particular
 * @reason: BREAK_nic_descriptor, BREAK_nic_error, BREAK_nic_tx_hang or BREAK_device_gone
 * @detail: offending value
 *
 * The control plane is told and starts the device anew (uswitch_nic_reset()).
 */
void nic_fail(struct nic *n, uint32_t queue, enum break_reason reason, uint64_t detail);

/* A register that reads as all ones: the device is gone from the bus (PCI Express, 2.3.2: completion with UR). */
static inline bool nic_is_gone(uint32_t value)
{
    return value == 0xffffffffu;
}

extern const struct nic_driver igb_driver;
extern const struct nic_driver ixgbe_driver;
extern const struct nic_driver virtio_pci_driver;

/* All of them, ends with NULL (nic_drivers.c). */
extern const struct nic_driver *const nic_drivers[];

/* The one for a device, and its word for it; NULL if there is none. */
const struct nic_driver *nic_find_driver(uint16_t vendor, uint16_t device, uint32_t *variant);

#endif /* USWITCH_NIC_NIC_H */
