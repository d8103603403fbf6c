/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_desc.h - a descriptor as we look at it, of a ring of either layout: a
 * private copy, made once, of what lies in guest memory.
 */
#ifndef USWITCH_VIRTQ_DESC_H
#define USWITCH_VIRTQ_DESC_H

#include <stdint.h>

/**
 * struct desc - a descriptor, copied out of guest memory once
 * @addr: claimed guest-physical address
 * @len: claimed length
 * @flags: VRING_DESC_F_*
 * @next: split: claimed index of the next one; packed: buffer id, which is the driver's own business
 */
struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

#endif /* USWITCH_VIRTQ_DESC_H */
