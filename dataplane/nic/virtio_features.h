/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_features.h - which of the features a virtio network device offers
 * the driver takes, and what they mean for frames (virtio 1.2, 5.1.3 and 6).
 * Functions of bits, no device; any thread.
 */
#ifndef USWITCH_NIC_VIRTIO_FEATURES_H
#define USWITCH_NIC_VIRTIO_FEATURES_H

#include <stdint.h>

/*
 * Without VERSION_1 a device is a legacy one.  Without ACCESS_PLATFORM it takes addresses for physical ones and goes
 * past the IOMMU (6.1): it could neither reach the pool nor be kept inside it.
 */
#define VIRTIO_FEATURES_NEEDED (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM))

/**
 * virtio_features_choose() - what to accept
 * @offered: what the device offers
 * @n_queues: pairs of queues that are wanted
 *
 * Only what is offered, with all its conditions of 5.1.3.1 fulfilled.  Long received frames (GUEST_TSO, GUEST_USO) only
 * into several buffers (MRG_RXBUF), UDP segmentation only for both versions of IP, as frames of the switch say no
 * version.
 */
uint64_t virtio_features_choose(uint64_t offered, uint32_t n_queues);

/* OFFLOAD_* the device does for frames that we send. */
uint32_t virtio_features_tx_offloads(uint64_t features);

/* OFFLOAD_* the device may leave to us in frames that it received. */
uint32_t virtio_features_rx_offloads(uint64_t features);

#endif /* USWITCH_NIC_VIRTIO_FEATURES_H */
