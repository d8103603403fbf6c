/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_counter.h - hardware counters every adapter is asked for, by the names
 * that operators know from ethtool.  The index is the place in
 * us_nic_state.counter, so new lines go at the end; a device without a counter
 * leaves US_NIC_COUNTER_NONE.
 *
 * A driver counts from zero; a state page outlives drivers and processes, and
 * what it says only grows.  So a port adds what the page said before it came.
 */
#ifndef USWITCH_NIC_NIC_COUNTER_H
#define USWITCH_NIC_NIC_COUNTER_H

#include <stdint.h>

struct us_nic_state;

#define NIC_COUNTERS(X)                                          \
    X(rx_packets, "good frames received")                        \
    X(rx_bytes, "bytes of good frames received")                 \
    X(rx_missed, "frames lost because no buffer was free")       \
    X(rx_crc_errors, "frames with a wrong checksum")             \
    X(rx_length_errors, "frames too short, too long or cut")     \
    X(rx_errors, "other damaged frames")                         \
    X(rx_multicast, "multicast frames received")                 \
    X(rx_broadcast, "broadcast frames received")                 \
    X(rx_pause, "pause frames received")                         \
    X(tx_packets, "good frames sent")                            \
    X(tx_bytes, "bytes of good frames sent")                     \
    X(tx_errors, "frames that could not be sent")                \
    X(tx_multicast, "multicast frames sent")                     \
    X(tx_broadcast, "broadcast frames sent")                     \
    X(tx_pause, "pause frames sent")                             \
    X(rx_csum_errors, "frames with a wrong IP, TCP or UDP checksum") \
    X(tx_tso, "segmentation requests sent")

#define NIC_COUNTER_ENUM(name, text) NIC_COUNTER_##name,
enum nic_counter { NIC_COUNTERS(NIC_COUNTER_ENUM) NIC_COUNTER_COUNT };
#undef NIC_COUNTER_ENUM

/*
 * Make s, whose page may have had ports before, ready for a new one: all is cleared but what was counted.
 * before[US_NIC_COUNTERS_MAX]: what to add from now on.  Control thread.
 */
void nic_counter_begin(struct us_nic_state *s, uint64_t *before);

/* Into s: what a driver counts now, and what was before.  Control thread. */
void nic_counter_publish(struct us_nic_state *s, const uint64_t *before, const uint64_t *now);

#endif /* USWITCH_NIC_NIC_COUNTER_H */
