/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_count.h - a virtio network device has no counters; these stand in
 * for the few of nic_counter.h that its driver can know.
 */
#ifndef USWITCH_NIC_VIRTIO_COUNT_H
#define USWITCH_NIC_VIRTIO_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

/**
 * struct virtio_count - counters of a pair of queues; they survive a reset
 * @rx_packets, @rx_bytes: frames handed to the switch (writer: the queue's worker)
 * @rx_length_errors: frames too short or too long (likewise)
 * @tx_packets, @tx_bytes, @tx_tso: frames handed to the device, segmentation requests among them (writer: whoever
 *      sends, one at a time)
 */
struct virtio_count {
    _Atomic uint64_t rx_packets __attribute__((aligned(64)));
    _Atomic uint64_t rx_bytes;
    _Atomic uint64_t rx_length_errors;
    _Atomic uint64_t tx_packets __attribute__((aligned(64)));
    _Atomic uint64_t tx_bytes;
    _Atomic uint64_t tx_tso;
};

/* One writer at a time, so nothing needs to be locked. */
static inline void virtio_count_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif /* USWITCH_NIC_VIRTIO_COUNT_H */
