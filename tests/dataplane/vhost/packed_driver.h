/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * packed_driver.h - the driver's side of a packed ring (virtio 1.2, 2.8), for
 * tests: over the memory and the rings of driver.h, with F_PACKED among the
 * features.
 */
#ifndef USWITCH_TESTS_PACKED_DRIVER_H
#define USWITCH_TESTS_PACKED_DRIVER_H

#include "vhost/driver.h"

#define F_PACKED VIRTIO_BIT(VIRTIO_F_RING_PACKED)
#define PK_START 0x8000u                /* position of a new ring */

/**
 * struct pk_ring - the driver's view of a packed ring
 * @r: where it lies, and its eventfds
 * @desc: the descriptor ring
 * @driver: the driver's event suppression: offset, wrap counter, flags
 * @device: the device's
 * @size: descriptors
 * @avail: position of the next descriptor to offer
 * @used: position of the next one to come back
 */
struct pk_ring {
    struct drv_ring *r;
    struct pvirtq_desc *desc;
    uint32_t *driver;
    uint32_t *device;
    uint32_t size;
    uint16_t avail;
    uint16_t used;
};

/* One part of a chain: a descriptor without its bits of layout. */
struct pk_part {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
};

/* After drv_create() or drv_restart(). */
void pk_open(struct pk_ring *p, struct drv_ring *r);
uint16_t pk_add(const struct pk_ring *p, uint16_t pos, uint32_t n);
/* A descriptor at a position, available there. */
void pk_desc(struct pk_ring *p, uint16_t pos, struct pk_part part, uint16_t id);
/* Offer a chain: NEXT is set as needed, the id stands in the last one, the first one is stored last. */
void pk_offer(struct pk_ring *p, const struct pk_part *part, uint32_t n, uint16_t id);
/* An entry of an indirect table. */
void pk_table(struct driver *d, uint64_t table, uint32_t i, struct pk_part part);
/* The next chain has come back; it took up n descriptors. */
bool pk_used(struct pk_ring *p, uint32_t n, uint16_t *id, uint32_t *len);

#endif /* USWITCH_TESTS_PACKED_DRIVER_H */
