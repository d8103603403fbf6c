/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * rig.h - a driver of Intel's on the model of its device, for tests: a nic
 * without nic_port.c, whose bursts the test makes itself.  What differs
 * between the devices is a struct rig_kind.
 */
#ifndef USWITCH_TESTS_RIG_H
#define USWITCH_TESTS_RIG_H

#include "nic/igb_model.h"
#include "nic/ixgbe_model.h"
#include "nic/nic.h"
#include "nic/rig_flow.h"

#define RIG_IOVA 0x7f00000000ull

struct rig;

/**
 * struct rig_kind - a driver and its model
 * @driver: the driver
 * @device: PCI id of the device that rig_up() makes
 * @init: make the model of a device, reachable through r->n.bar
 * @is_quiet: after stop: no queue is on
 * @is_content: software did what the data sheet wants
 * @fini: free what the model has
 */
struct rig_kind {
    const struct nic_driver *driver;
    uint16_t device;
    void (*init)(struct rig *r, uint16_t device);
    bool (*is_quiet)(const struct rig *r);
    bool (*is_content)(const struct rig *r);
    void (*fini)(struct rig *r);
};

extern const struct rig_kind rig_igb, rig_ixgbe;

/**
 * struct rig - device, driver, a port around them
 * @kind: which
 * @igb, @ixgbe: the device, one of them
 * @n: as the driver sees it
 * @page: counters
 * @b: the last burst that was received
 * @no_vectors: there are no interrupts
 */
struct rig {
    const struct rig_kind *kind;
    union {
        struct igb_model igb;
        struct ixgbe_model ixgbe;
    };
    struct nic n;
    struct us_state_page page;
    struct burst b;
    bool no_vectors;
};

/* The configuration that tests begin with: 1 queue, rings of 128, frames of 1514, no moderation. */
struct nic_config rig_config(void);

/* The same for a device that joins received segments. */
struct nic_config rig_rsc_config(void);

/* A device on the bus, not opened; NULL: no memory, or the driver does not know it. */
struct rig *rig_create(const struct rig_kind *kind, uint16_t device);
/* Stop, close, free; NULL is legal. */
void rig_destroy(struct rig *r);

/* Open (if need be) and start; 0 or -errno of either. */
int rig_start(struct rig *r, const struct nic_config *cfg);
/* Create and start with queues and longest frame alone; NULL if anything fails. */
struct rig *rig_up(const struct rig_kind *kind, uint32_t n_queues, uint32_t ring_size, uint32_t max_frame);
/* Stop and close; true if the device is quiet then and was treated well. */
bool rig_stop(struct rig *r);
/* The same, and the rig is freed. */
bool rig_down(struct rig *r);

/* What the driver tells of link and counters. */
struct us_nic_state rig_state(struct rig *r);

/* Segments of one flow come from the wire of an ixgbe, of @payload bytes each; the last one may carry PSH. */
void rig_arrive(struct rig *r, struct rig_flow *flow, uint32_t n, uint32_t payload, bool push);

/* One burst from a queue into r->b; frames received. */
unsigned rig_rx(struct rig *r, uint32_t queue);
void rig_complete(struct rig *r, uint32_t queue);

/* All bytes of a frame, up to @room; its length. */
uint32_t rig_bytes(const struct frame *f, uint8_t *to, uint32_t room);

/* Send a frame of contiguous bytes, @vnet may be NULL, @vid US_VID_UNTAGGED; the driver's answer. */
enum drop_reason rig_tx(struct rig *r, uint32_t queue, const uint8_t *data, uint32_t len, uint16_t vid,
                        const struct vnet *vnet);

#endif /* USWITCH_TESTS_RIG_H */
