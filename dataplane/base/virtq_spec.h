/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq_spec.h - virtqueues as they lie in memory (virtio 1.2: split 2.7,
 * packed 2.8) and the feature bits that both ends look at, under their names
 * in the specification: vhost/ is the device's end, nic/ the driver's.  All
 * fields are little-endian: VERSION_1 demands it, and of the legacy guests
 * ("guest endian") only little-endian ones are served.
 */
#ifndef USWITCH_VIRTQ_SPEC_H
#define USWITCH_VIRTQ_SPEC_H

#include <stddef.h>

#include "base/le.h"

/* Feature bits (numbers, not masks): 5.1.3 and 6. */
#define VIRTIO_NET_F_CSUM 0         /* the device takes frames with a partial checksum */
#define VIRTIO_NET_F_GUEST_CSUM 1   /* the driver takes them */
#define VIRTIO_NET_F_GUEST_TSO4 7
#define VIRTIO_NET_F_GUEST_TSO6 8
#define VIRTIO_NET_F_GUEST_ECN 9
#define VIRTIO_NET_F_HOST_TSO4 11
#define VIRTIO_NET_F_HOST_TSO6 12
#define VIRTIO_NET_F_HOST_ECN 13
#define VIRTIO_NET_F_MRG_RXBUF 15
#define VIRTIO_F_RING_INDIRECT_DESC 28
#define VIRTIO_F_RING_EVENT_IDX 29
#define VIRTIO_F_VERSION_1 32
#define VIRTIO_F_ACCESS_PLATFORM 33
#define VIRTIO_F_RING_PACKED 34
#define VIRTIO_F_IN_ORDER 35        /* buffers come back in order; saves used elements */
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56    /* both versions of IP */

#define VIRTIO_BIT(f) (1ULL << (f))

/* 2.7.5: descriptor table. */
struct vring_desc {
    le64 addr;
    le32 len;
    le16 flags;
    le16 next;
};

#define VRING_DESC_F_NEXT 1
#define VRING_DESC_F_WRITE 2        /* the device writes, the driver reads */
#define VRING_DESC_F_INDIRECT 4

/* 2.7.6: available ring; with EVENT_IDX, used_event follows the ring. */
struct vring_avail {
    le16 flags;
    le16 idx;
    le16 ring[];
};

#define VRING_AVAIL_F_NO_INTERRUPT 1

/* 2.7.8: used ring; with EVENT_IDX, avail_event follows the ring. */
struct vring_used_elem {
    le32 id;
    le32 len;
};

struct vring_used {
    le16 flags;
    le16 idx;
    struct vring_used_elem ring[];
};

#define VRING_USED_F_NO_NOTIFY 1

/* 2.7: alignment of the three parts. */
#define VRING_DESC_ALIGN 16
#define VRING_AVAIL_ALIGN 2
#define VRING_USED_ALIGN 4

/* Bytes of each part of a ring of n descriptors, the trailing event word included. */
#define VRING_DESC_BYTES(n) (sizeof(struct vring_desc) * (size_t)(n))
#define VRING_AVAIL_BYTES(n) (sizeof(struct vring_avail) + sizeof(le16) * ((size_t)(n) + 1))
#define VRING_USED_BYTES(n) (sizeof(struct vring_used) + sizeof(struct vring_used_elem) * (size_t)(n) + sizeof(le16))

/*
 * 2.8.13: packed ring.  Length, id and flags share an aligned word of 64 bits, which we load and store at
 * once: what a descriptor says of itself is never torn.
 */
struct pvirtq_desc {
    le64 addr;
    le64 state;                     /* len: bits 0-31, id: bits 32-47, flags: bits 48-63 */
};

#define VIRTQ_DESC_F_AVAIL (1 << 7)
#define VIRTQ_DESC_F_USED (1 << 15)

/* 2.8.14: event suppression, one word: descriptor ring offset (bits 0-14), wrap counter (15), flags (16-17). */
struct pvirtq_event_suppress {
    le32 state;
};

#define RING_EVENT_FLAGS_ENABLE 0x0
#define RING_EVENT_FLAGS_DISABLE 0x1
#define RING_EVENT_FLAGS_DESC 0x2

/* 2.8.10.1: the driver's area lies where a split ring has avail, the device's where it has used. */
#define VIRTQ_EVENT_ALIGN 4

_Static_assert(sizeof(struct pvirtq_desc) == 16, "2.8.13");
_Static_assert(sizeof(struct pvirtq_event_suppress) == 4, "2.8.14");
_Static_assert(sizeof(struct vring_desc) == 16, "2.7.5");
_Static_assert(offsetof(struct vring_desc, next) == 14, "2.7.5");
_Static_assert(sizeof(struct vring_avail) == 4, "2.7.6");
_Static_assert(sizeof(struct vring_used) == 4, "2.7.8");
_Static_assert(sizeof(struct vring_used_elem) == 8, "2.7.8");

#endif /* USWITCH_VIRTQ_SPEC_H */
