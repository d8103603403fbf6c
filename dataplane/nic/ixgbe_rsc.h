/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_rsc.h - receive side coalescing (7.11): the device joins TCP segments
 * that follow one another, and what comes out of it is a segmentation request
 * like a guest's: a receiver that takes those gets it whole, for any other the
 * switch cuts it again.
 *
 * When it is on: if the operator wants it (nic_config.lro), and interrupts are
 * moderated, because their timer is what ends a frame that gets no more
 * segments.  A frame that was joined and cut again keeps every byte of its
 * payload, but not the places where the sender had cut, nor the time stamp
 * options and PSH flags of each segment; nor does anything shorter than the
 * timer come through unchanged in time.
 */
#ifndef USWITCH_NIC_IXGBE_RSC_H
#define USWITCH_NIC_IXGBE_RSC_H

#include "drop.h"
#include "frame.h"
#include "nic/nic.h"

/**
 * struct ixgbe_rsc - where a ring stands in which frames may be joined (worker)
 * @mark: per descriptor: IXGBE_RSC_DONE, or the last pass in which it was part of a frame that is not whole yet
 * @size: descriptors
 * @pass: number of the current look at the ring
 * @head: first descriptor that is not given back
 */
struct ixgbe_rsc {
    uint32_t *mark;
    uint32_t size;
    uint32_t pass;
    uint32_t head;
};

/* Control.  @size: of the ring, all of which but one are the device's.  0 or -ENOMEM. */
int ixgbe_rsc_create(struct ixgbe_rsc *s, uint32_t size);
/* Control.  Legal on a zeroed one. */
void ixgbe_rsc_destroy(struct ixgbe_rsc *s);

/* Worker: nic_driver.rx_burst, .rx_complete, and intel_rx_pending(), for such rings. */
unsigned ixgbe_rsc_burst(struct nic_queue *q, struct burst *b);
void ixgbe_rsc_complete(struct nic_queue *q, struct burst *b);
bool ixgbe_rsc_pending(struct nic_queue *q);

/**
 * ixgbe_rsc_request() - make a request of a joined frame, and its headers right
 * @f: the frame; the snapshot is private and holds the headers
 * @packets: how many the device says it joined, unchecked
 * @max_frame: longest frame of the link, without tag and FCS
 *
 * Return: DROP_none; DROP_nic_rx if it is no TCP packet.
 */
enum drop_reason ixgbe_rsc_request(struct frame *f, uint32_t packets, uint32_t max_frame);

#endif /* USWITCH_NIC_IXGBE_RSC_H */
