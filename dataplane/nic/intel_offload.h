/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_offload.h - what a frame's offload request means to an igb or ixgbe
 * adapter.  Everything is decided on the frame's snapshot and its validated
 * request, so the device is told what the switch has checked and nothing
 * else; what it wants changed is changed in the copy it is given.
 * Pure functions; worker.
 */
#ifndef USWITCH_NIC_INTEL_OFFLOAD_H
#define USWITCH_NIC_INTEL_OFFLOAD_H

#include <stdbool.h>

#include "drop.h"
#include "frame.h"

/* What the adapters do by themselves (struct port.offloads); other segmentation is the switch's. */
#define INTEL_OFFLOADS (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN)

/**
 * struct intel_request - a frame's request in the adapter's terms
 * @context: words of the context descriptor, 0, 0: none needed
 * @command: INTEL_TX_TSE or 0, for all descriptors of the frame
 * @options: INTEL_TX_TXSM, INTEL_TX_IXSM, for the first one
 * @hdr_len: bytes not counted by PAYLEN: with TSE the headers, tag included
 * @l3, @l4: offsets of the headers on the wire, tag included
 * @ipv6: with TSE: the version of IP
 * @pseudo: with TSE: what the TCP checksum field must hold, in the byte order of memory
 * @software: the checksum is none that the device makes; intel_offload_complete() does
 */
struct intel_request {
    uint64_t context[2];
    uint64_t command;
    uint64_t options;
    uint32_t hdr_len;
    uint32_t l3, l4;
    bool ipv6;
    uint16_t pseudo;
    bool software;
};

/**
 * intel_offload_parse() - translate a request
 * @f: frame with VNET_NEEDS_CSUM
 * @max_frame: longest frame of the link, without tag
 * @out: filled on success
 *
 * Return: DROP_none; DROP_offload: headers that the device cannot segment, or that the snapshot does not hold;
 * DROP_mtu: segments longer than @max_frame.
 */
enum drop_reason intel_offload_parse(const struct frame *f, uint32_t max_frame, struct intel_request *out);

/**
 * intel_offload_edit() - make the headers of a segmentation request those that the device starts from
 * @q: request with INTEL_TX_TSE
 * @frame: the copy's first buffer; all headers lie in it
 *
 * Lengths and header checksum zero, in the TCP checksum's place the pseudo header's sum without length
 * (82576 7.2.4.5, 82599 7.2.4.5).
 */
void intel_offload_edit(const struct intel_request *q, uint8_t *frame);

/**
 * intel_offload_complete() - write a checksum that the device cannot make
 * @v: the request
 * @shift: bytes of the tag that was written, 0 or VLAN_TAG_LEN
 * @len: bytes of the frame, tag included
 * @buf: the copy: buffers of DMA_BUF_SIZE bytes
 */
void intel_offload_complete(const struct vnet *v, uint32_t shift, uint32_t len, uint8_t *const *buf);

#endif /* USWITCH_NIC_INTEL_OFFLOAD_H */
