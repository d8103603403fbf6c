/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_caps.h - where a virtio PCI device says its registers are: the
 * vendor capabilities of its config space (virtio 1.2, 4.1.4).  A function
 * of bytes, no device; control thread.  The interrupt status (4.1.4.5) is not
 * looked for: it is for interrupts by pin, and the driver wants MSI-X.
 */
#ifndef USWITCH_NIC_VIRTIO_CAPS_H
#define USWITCH_NIC_VIRTIO_CAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "nic/nic.h"

/**
 * struct virtio_region - a piece of a BAR
 * @bar: 0 .. NIC_BARS - 1
 * @offset: where it begins, bytes
 * @length: bytes; 0: the device has none
 */
struct virtio_region {
    uint8_t bar;
    uint32_t offset;
    uint32_t length;
};

/**
 * struct virtio_caps - a device's register blocks
 * @common: common configuration
 * @notify: notifications
 * @device: configuration of the network device
 * @notify_multiplier: bytes between two queues' places in @notify
 */
struct virtio_caps {
    struct virtio_region common;
    struct virtio_region notify;
    struct virtio_region device;
    uint32_t notify_multiplier;
};

/**
 * virtio_caps_parse() - find the blocks
 * @config: NIC_CONFIG_SIZE bytes of config space
 * @bar: BARs; every block must lie inside one of them
 * @out: to fill
 *
 * Of several capabilities of one kind the first usable one counts (4.1.4: the device lists what it prefers first); ones
 * in BARs that are not mapped, outside them or misaligned are passed over.
 *
 * Return: 0, or -ENODEV if one that a driver needs is missing: the device is legacy only, or broken.
 */
int virtio_caps_parse(const uint8_t config[NIC_CONFIG_SIZE], const struct bar bar[NIC_BARS], struct virtio_caps *out);

#endif /* USWITCH_NIC_VIRTIO_CAPS_H */
