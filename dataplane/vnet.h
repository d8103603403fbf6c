/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vnet.h - the virtio-net header (virtio 1.2, 5.1.6) on the wire side of a
 * port: parsed and validated into struct vnet on the way in, written from it
 * on the way out.  Shared by every port whose peer speaks it (vhost, tap).
 * Worker thread; no state.
 */
#ifndef USWITCH_VNET_H
#define USWITCH_VNET_H

#include "drop.h"
#include "frame.h"

#define VNET_WIRE_LEN 10        /* without num_buffers */
#define VNET_WIRE_LEN_MRG 12    /* with num_buffers (VERSION_1 or MRG_RXBUF) */
/* Smaller TCP segments would let one descriptor chain become thousands of frames. */
#define VNET_GSO_SIZE_MIN 48
/*
 * The same bound in segments, for UDP: a datagram is as short as the application made it, so that a smallest
 * size would lose what is legal.
 */
#define VNET_GSO_SEGS_MAX (US_FRAME_MAX / VNET_GSO_SIZE_MIN)

/**
 * vnet_parse() - validate a header copied from a peer
 * @wire: VNET_WIRE_LEN private bytes (already copied out of guest memory, once)
 * @frame_len: bytes of the frame that follows, as it lies on the wire (tag included)
 * @allowed: OFFLOAD_* bits the sender negotiated for sending
 * @out: filled on success; offsets relative to the frame as it lies on the wire
 *
 * Return: DROP_none, DROP_vnet_csum or DROP_vnet_gso.
 */
enum drop_reason vnet_parse(const uint8_t wire[VNET_WIRE_LEN], uint32_t frame_len, uint32_t allowed,
                            struct vnet *out);

/**
 * vnet_format() - write the header for a frame that leaves
 * @v: the frame's request
 * @shift: bytes the frame grows before csum_start (0, or VLAN_TAG_LEN when a tag is written)
 * @wire: VNET_WIRE_LEN bytes to fill
 */
void vnet_format(const struct vnet *v, uint32_t shift, uint8_t wire[VNET_WIRE_LEN]);

#endif /* USWITCH_VNET_H */
