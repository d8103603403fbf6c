/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_rss.h - receive side scaling of a virtio network device: which pair
 * of queues a flow comes to (virtio 1.2, 5.1.6.5.7).  Control thread.
 */
#ifndef USWITCH_NIC_VIRTIO_RSS_H
#define USWITCH_NIC_VIRTIO_RSS_H

#include "nic/virtio_start.h"

/**
 * virtio_rss_start() - spread flows over all pairs of queues, by a secret key
 * @n: the device, after DRIVER_OK, its queues enabled
 * @v: the driver's part, VIRTIO_NET_F_RSS accepted
 *
 * Return: 0, -ENOTSUP: the device lacks what is needed for it; -EIO: it refuses; -ETIMEDOUT: it does not answer.
 */
int virtio_rss_start(const struct nic *n, struct virtio_nic *v);

#endif /* USWITCH_NIC_VIRTIO_RSS_H */
