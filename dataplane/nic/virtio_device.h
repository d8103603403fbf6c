/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_device.h - a virtio PCI device by its registers: reset, the
 * handshake of features, configuration, queues (virtio 1.2, 3.1 and 4.1.4).
 * Knows nothing of frames.  Control thread; only virtio_device_status() and
 * the configuration may be read while queues run.
 */
#ifndef USWITCH_NIC_VIRTIO_DEVICE_H
#define USWITCH_NIC_VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "nic/nic.h"
#include "nic/virtio_caps.h"
#include "nic/virtio_ring.h"

/**
 * struct virtio_device - the device
 * @caps: where its registers are
 * @common: the BAR that holds the common configuration (borrowed)
 * @notify: the one that takes notifications (borrowed)
 * @config: the one with the device's own configuration (borrowed)
 * @offered: features it offers, read by virtio_device_features()
 * @features: features in force
 */
struct virtio_device {
    struct virtio_caps caps;
    const struct bar *common;
    const struct bar *notify;
    const struct bar *config;
    uint64_t offered;
    uint64_t features;
};

static inline bool virtio_has(const struct virtio_device *d, unsigned feature)
{
    return (d->features & VIRTIO_BIT(feature)) != 0;
}

/* Find the registers of @n.  Return: 0, or -ENODEV: no modern device. */
int virtio_device_init(struct virtio_device *d, const struct nic *n);

/**
 * virtio_device_reset() - to the state after power on; it moves nothing afterwards
 *
 * By the status register: the function has no other reset.  Return: 0, or -EIO: it does not answer within a second.
 */
int virtio_device_reset(const struct virtio_device *d);

/* VIRTIO_STATUS_*; VIRTIO_STATUS_GONE if there is no device any more. */
uint8_t virtio_device_status(const struct virtio_device *d);

/* Add a bit to the status. */
void virtio_device_add_status(const struct virtio_device *d, uint8_t bit);

/* After a reset: say that there is a driver, and read @offered. */
void virtio_device_begin(struct virtio_device *d);

/**
 * virtio_device_accept() - negotiate
 * @d: the device, after virtio_device_begin()
 * @features: some of @offered
 *
 * Return: 0 (@d->features is in force), or -EIO: the device does not take these together.
 */
int virtio_device_accept(struct virtio_device *d, uint64_t features);

/* Read 1, 2 or 4 bytes of the device's configuration; all ones beyond what there is. */
uint32_t virtio_device_config(const struct virtio_device *d, uint32_t offset, unsigned bytes);

/**
 * virtio_device_config_copy() - read several fields that belong together
 * @d: the device
 * @offset: first byte
 * @out: @len bytes
 * @len: at most 16
 *
 * Return: 0, or -EIO: the configuration changes faster than it can be read.
 */
int virtio_device_config_copy(const struct virtio_device *d, uint32_t offset, uint8_t *out, unsigned len);

/* Wire the vector for configuration changes, or VIRTIO_NO_VECTOR.  Return: 0, or -ENOSPC: the device has none. */
int virtio_device_config_vector(const struct virtio_device *d, uint16_t vector);

/**
 * virtio_device_queue_size() - how many descriptors a queue has at most
 * @d: the device, features accepted
 * @index: queue
 *
 * Return: 1 .. 32768, a power of two for split rings; 0: there is no such queue, or its size makes no sense.
 */
uint32_t virtio_device_queue_size(const struct virtio_device *d, uint32_t index);

/**
 * virtio_device_queue_start() - tell the device where a ring is
 * @d: the device, features accepted
 * @r: the ring, virtio_ring_init() done; gets its place for notifications
 * @pool: the pool it lies in
 * @vector: interrupt vector, or VIRTIO_NO_VECTOR
 *
 * Return: 0, -EIO: the device has no such queue or place, -ENOSPC: no such vector.
 */
int virtio_device_queue_start(const struct virtio_device *d, struct virtio_ring *r, const struct dma_pool *pool,
                              uint16_t vector);

#endif /* USWITCH_NIC_VIRTIO_DEVICE_H */
