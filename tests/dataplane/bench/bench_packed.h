/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_packed.h - bench_guest.c's driver for packed rings (virtio 1.2, 2.8).
 * Positions are free running counts of descriptors, so index and wrap counter
 * come from a division.  Buffer id: the index of the chain's first descriptor.
 */
#ifndef USWITCH_BENCH_PACKED_H
#define USWITCH_BENCH_PACKED_H

#include <stdbool.h>

#include "bench_guest.h"

/* Offer one chain: @bytes over the next @n buffers. */
void bench_packed_chain(struct bench_guest *g, struct bench_ring *r, uint32_t bytes, uint32_t n);
/* The same as one descriptor, with an indirect table of @n entries at @table_gpa. */
void bench_packed_indirect(struct bench_guest *g, struct bench_ring *r, uint64_t table_gpa, uint32_t bytes, uint32_t n);
/* Offer the next descriptor of the receive ring, with the buffer of its index. */
void bench_packed_offer(struct bench_guest *g, struct bench_ring *r);
/* Count what came back of the transmit ring. */
void bench_packed_returned(struct bench_guest *g, struct bench_ring *r);
/* bench_guest_receive() */
uint32_t bench_packed_receive(struct bench_guest *g, struct bench_ring *r, uint64_t *bytes);

#endif /* USWITCH_BENCH_PACKED_H */
