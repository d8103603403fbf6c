/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_start.h - what the driver keeps of a virtio network device, and how
 * the device gets to work.  Control thread.
 */
#ifndef USWITCH_NIC_VIRTIO_START_H
#define USWITCH_NIC_VIRTIO_START_H

#include "nic/nic.h"
#include "nic/virtio_count.h"
#include "nic/virtio_ctrl.h"
#include "nic/virtio_device.h"

/**
 * struct virtio_nic - the driver's own part of a device
 * @dev: its registers
 * @ctrl: its control queue, while it runs and if it has one
 * @pairs: pairs of queues the device has with the features in force; its control queue follows them
 * @count: by pair of queues
 */
struct virtio_nic {
    struct virtio_device dev;
    struct virtio_ctrl ctrl;
    uint32_t pairs;
    struct virtio_count count[US_QUEUES_MAX];
};

/* Is the device, after virtio_device_begin(), one that the driver may work with?  Logs why not.  0 or -errno. */
int virtio_check_offer(const struct nic *n, const struct virtio_nic *v);

/**
 * virtio_start() - from whatever state to frames coming and going
 * @n: the device, opened
 *
 * Return: 0, or -errno after a line in the log; the caller then stops the device:
 * -EIO: it refuses features, queues or commands, or makes no sense; -EINVAL: it has fewer queues or takes shorter
 * frames than are wanted, as nic_port_create() says it for every adapter; -ENOSPC: no interrupt vectors; -ETIMEDOUT: a
 * command is not answered.
 */
int virtio_start(struct nic *n);

#endif /* USWITCH_NIC_VIRTIO_START_H */
