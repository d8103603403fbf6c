/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_model.h - a virtio network device on the PCI bus, written from
 * virtio 1.2 as the device's end: config space, registers, both layouts of
 * rings, the control queue.  It stands behind struct bar_model; the test is
 * the wire: what the driver sends is asked for by vm_send(), what comes from
 * outside is given to vm_receive().
 *
 * It holds the driver to the specification: what a driver must not do is
 * counted in @violations and said on stderr.  What a device must not do is
 * asked for by struct vm_faults, or done by hand with vm_push_raw().
 */
#ifndef USWITCH_TESTS_VIRTIO_MODEL_H
#define USWITCH_TESTS_VIRTIO_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/virtq_spec.h"
#include "nic/bar.h"
#include "nic/dma.h"
#include "nic/virtio_pci_regs.h"

#define VM_PAIRS_MAX 8
#define VM_QUEUES (2 * VM_PAIRS_MAX + 1)
#define VM_VECTORS (VM_PAIRS_MAX + 1)
#define VM_PARTS_MAX 8
#define VM_HDR_LEN 12
#define VM_RSS_TABLE 128
#define VM_RSS_KEY 40

/* Where the blocks of registers lie in the BAR; the gaps read as ones and must not be touched. */
#define VM_BAR 4
#define VM_BAR_SIZE 0x4000
#define VM_COMMON 0x0000
#define VM_DEVICE 0x2000
#define VM_DEVICE_SIZE 0x18
#define VM_NOTIFY 0x3000
#define VM_NOTIFY_MULTIPLIER 4

/* Everything a device of this kind can offer. */
#define VM_ALL_FEATURES                                                                             \
    (VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_MTU) |           \
     VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) |     \
     VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | \
     VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_NET_F_STATUS) |     \
     VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) | VIRTIO_BIT(VIRTIO_NET_F_MQ) |            \
     VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC) | VIRTIO_BIT(VIRTIO_F_RING_EVENT_IDX) |                                \
     VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM) | VIRTIO_BIT(VIRTIO_F_RING_PACKED) |     \
     VIRTIO_BIT(VIRTIO_F_IN_ORDER) | VIRTIO_BIT(VIRTIO_F_ORDER_PLATFORM) | VIRTIO_BIT(VIRTIO_NET_F_NOTF_COAL) |     \
     VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6) |                                    \
     VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) | VIRTIO_BIT(VIRTIO_NET_F_SPEED_DUPLEX) | VIRTIO_BIT(VIRTIO_NET_F_RSS))

/* When the device wants to be notified of buffers.  Once: of the next one, and it takes others without asking anew. */
enum vm_kicks { VM_KICK_ALWAYS, VM_KICK_NEVER, VM_KICK_EVENT, VM_KICK_ONCE };

/**
 * struct vm_faults - what the device does wrong
 * @gone: every register reads as ones
 * @reset_stuck: a reset never ends
 * @refuse_features: FEATURES_OK does not stay
 * @no_vector: vectors cannot be wired
 * @needs_reset: sets NEEDS_RESET as soon as there is a DRIVER_OK
 * @ctrl_silent: commands are not answered
 * @ctrl_refuse: they are refused
 * @rss_refuse: that for RSS is
 * @ctrl_wild: they are answered with an id that was never given
 * @unstable: the configuration's generation changes with every look
 * @notify_off: added to the place for notifications
 */
struct vm_faults {
    bool gone;
    bool reset_stuck;
    bool refuse_features;
    bool no_vector;
    bool needs_reset;
    bool ctrl_silent;
    bool ctrl_refuse;
    bool rss_refuse;
    bool ctrl_wild;
    bool unstable;
    uint16_t notify_off;
};

/**
 * struct vm_queue - a queue as the driver has set it up
 * @size, @vector, @enabled, @desc, @driver, @device: registers
 * @next_avail, @next_used: split: indexes; packed: positions, wrap counter in the top bit
 * @told: @next_used at the last decision about an interrupt
 * @kicks: when notifications are wanted
 * @notified: notifications that came
 */
struct vm_queue {
    uint16_t size;
    uint16_t vector;
    bool enabled;
    uint64_t desc, driver, device;
    uint16_t next_avail, next_used;
    uint32_t told;
    enum vm_kicks kicks;
    uint32_t notified;
};

/**
 * struct vm_buf - a buffer taken from a ring
 * @id: how to give it back
 * @slots: descriptors it takes
 * @n: parts
 * @part: where they lie in the pool
 */
struct vm_buf {
    uint16_t id;
    uint16_t slots;
    uint32_t n;
    struct {
        uint8_t *p;
        uint32_t len;
        bool write;
    } part[VM_PARTS_MAX];
};

/**
 * struct vm_rss - what the driver asked for by RSS_CONFIG, 5.1.6.5.7
 * @on: it did so last; else the device chooses queues
 * @types: of hashes
 * @n: entries of the table
 * @table: pairs of queues
 * @key: of the hash
 */
struct vm_rss {
    bool on;
    uint32_t types;
    uint32_t n;
    uint16_t table[VM_RSS_TABLE];
    uint8_t key[VM_RSS_KEY];
};

/**
 * struct vm - the device
 * @model: goes behind the BAR
 * @config: config space
 * @pool: the memory it can reach (borrowed); more is a violation
 * @offered: features
 * @queue_max: descriptors of a ring at most
 * @net: its configuration, 5.1.4
 * @fault: what it does wrong
 * @status, @features, @generation, @config_vector: registers
 * @pairs: pairs of queues in use, by command
 * @rss: how frames are spread over them
 * @promiscuous, @coal_usecs, @commands: what was asked for by command, and how many were
 * @resets: how often it was reset
 * @interrupts: by vector
 * @queue: queues
 * @no_queue: what is selected beyond them
 * @violations: what the driver did wrong
 */
struct vm {
    struct bar_model model;
    uint8_t config[256];
    const struct dma_pool *pool;
    uint64_t offered;
    uint16_t queue_max;
    uint8_t net[VM_DEVICE_SIZE];
    struct vm_faults fault;

    uint8_t status;
    uint8_t generation;
    uint16_t config_vector;
    uint32_t device_select, driver_select;
    uint64_t features;
    uint16_t queue_select;
    uint32_t pairs;
    struct vm_rss rss;
    bool promiscuous;
    uint32_t coal_usecs;
    uint32_t commands;
    uint32_t resets;
    uint32_t interrupts[VM_VECTORS];
    struct vm_queue queue[VM_QUEUES];
    struct vm_queue no_queue;
    uint32_t violations;
};

/* A device with one pair, an MTU of 1500, a link of 10 Gbit/s, rings of at most @queue_max, that offers @offered. */
void vm_init(struct vm *vm, const struct dma_pool *pool, uint64_t offered, uint16_t queue_max);

/* Fields of its configuration; the driver is told by vm_config_changed(). */
void vm_set_net(struct vm *vm, uint32_t offset, uint32_t value, unsigned bytes);
void vm_config_changed(struct vm *vm);

/* The device broke down: NEEDS_RESET, and an interrupt for it. */
void vm_break(struct vm *vm);

static inline bool vm_has(const struct vm *vm, unsigned feature)
{
    return (vm->features & VIRTIO_BIT(feature)) != 0;
}

/* The pair of queues that a frame from outside comes to by RSS; 0 without it. */
uint32_t vm_rss_pair(const struct vm *vm, const uint8_t *frame, uint32_t len);

/* Number of the control queue, 5.1.2. */
uint32_t vm_ctrl_index(const struct vm *vm);

/* The driver did what it must not. */
void vm_violation(struct vm *vm, const char *what);

/* ---- rings (virtio_model_ring.c) ---- */

/* Memory of the pool by device address; NULL, and a violation, if it is not all inside. */
void *vm_memory(struct vm *vm, uint64_t iova, uint64_t len);

/* DRIVER_OK: positions at their start. */
void vm_ring_reset(struct vm *vm, struct vm_queue *q);

/* Take the next available buffer; false if there is none. */
bool vm_pop(struct vm *vm, struct vm_queue *q, struct vm_buf *b);

/* How many buffers are available; takes none. */
uint32_t vm_available(struct vm *vm, const struct vm_queue *q);

/* Give one back, @len bytes were written; seen at once. */
void vm_push(struct vm *vm, struct vm_queue *q, const struct vm_buf *b, uint32_t len);

/**
 * vm_push_raw() - a used entry of whatever content
 * @vm: device
 * @q: queue
 * @id, @len: what it says
 * @buffers: how many buffers are reported by it (IN_ORDER: a batch)
 * @slots: descriptors of these
 */
void vm_push_raw(struct vm *vm, struct vm_queue *q, uint32_t id, uint32_t len, uint16_t buffers, uint16_t slots);

/* After pushing: an interrupt if the driver wants one. */
void vm_signal(struct vm *vm, struct vm_queue *q);

/* Say when notifications are wanted, from now on. */
void vm_set_kicks(struct vm *vm, struct vm_queue *q, enum vm_kicks kicks);

/* ---- the wire ---- */

/**
 * vm_receive() - a frame comes from outside
 * @vm: device
 * @pair: into which pair's receive queue
 * @hdr: virtio-net header without num_buffers, VM_HDR_LEN bytes; NULL: zeroes
 * @frame: bytes
 * @len: how many
 *
 * Return: buffers it took, 0: there were too few, nothing was taken.
 */
uint32_t vm_receive(struct vm *vm, uint32_t pair, const uint8_t *hdr, const void *frame, uint32_t len);

/**
 * vm_send() - take a frame that the driver wants to send, and report it sent
 * @vm: device
 * @pair: from which pair's transmit queue
 * @hdr: VM_HDR_LEN bytes, filled
 * @frame: filled
 * @max: room there
 *
 * Return: the frame's length, -1: there is none.
 */
int vm_send(struct vm *vm, uint32_t pair, uint8_t *hdr, void *frame, uint32_t max);

/* The same without reporting it; the caller has @b to do so. */
int vm_look(struct vm *vm, uint32_t pair, struct vm_buf *b, uint8_t *hdr, void *frame, uint32_t max);

#endif /* USWITCH_TESTS_VIRTIO_MODEL_H */
