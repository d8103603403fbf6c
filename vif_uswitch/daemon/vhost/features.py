# SPDX-License-Identifier: Apache-2.0
"""Feature bits of virtio (1.x, §5.1.3, §6) and of vhost-user, and which of them are offered.

A bit is offered only where the dataplane, or nobody at all, has to do
something for it.  Those handled inside the front-end (control queue, link
status, announcement) are offered because front-ends mask them with our list.
"""

from __future__ import annotations

BITS = {
    "CSUM": 0,
    "GUEST_CSUM": 1,
    "MTU": 3,
    "GUEST_TSO4": 7,
    "GUEST_TSO6": 8,
    "GUEST_ECN": 9,
    "HOST_TSO4": 11,
    "HOST_TSO6": 12,
    "HOST_ECN": 13,
    "MRG_RXBUF": 15,
    "STATUS": 16,
    "CTRL_VQ": 17,
    "CTRL_RX": 18,
    "CTRL_VLAN": 19,
    "GUEST_ANNOUNCE": 21,
    "MQ": 22,
    "CTRL_MAC_ADDR": 23,
    "LOG_ALL": 26,  # vhost-user's own: changes what is logged, and nothing of a ring
    "INDIRECT_DESC": 28,
    "EVENT_IDX": 29,
    "PROTOCOL_FEATURES": 30,
    "VERSION_1": 32,
    "RING_PACKED": 34,
    "IN_ORDER": 35,  # buffers are returned in the order they were taken, always (vhost/virtq.h)
    "RING_RESET": 40,  # §2.6.1; arrives as GET_VRING_BASE and a new set-up of one ring
    "GUEST_USO4": 54,
    "GUEST_USO6": 55,
    "HOST_USO": 56,
}

OFFERED = sum(1 << bit for bit in BITS.values())
PROTOCOL_FEATURES = 1 << BITS["PROTOCOL_FEATURES"]
MTU = 1 << BITS["MTU"]
MQ = 1 << BITS["MQ"]
LOG_ALL = 1 << BITS["LOG_ALL"]
RING_RESET = 1 << BITS["RING_RESET"]
RING_PACKED = 1 << BITS["RING_PACKED"]

PROTOCOL_BITS = {
    "MQ": 0,
    "LOG_SHMFD": 1,
    "RARP": 2,
    "REPLY_ACK": 3,
    "NET_MTU": 4,
    "RESET_DEVICE": 13,
    "CONFIGURE_MEM_SLOTS": 15,
    "STATUS": 16,
}
PROTOCOL_OFFERED = sum(1 << bit for bit in PROTOCOL_BITS.values())
LOG_SHMFD = 1 << PROTOCOL_BITS["LOG_SHMFD"]
RARP = 1 << PROTOCOL_BITS["RARP"]

STATUS_FEATURES_OK = 8


def offered(features_off: int, queue_pairs: int) -> int:
    """Features of a port.  What negotiation itself needs cannot be switched off."""
    alone = MQ if queue_pairs == 1 else 0
    return OFFERED & ~features_off & ~alone | PROTOCOL_FEATURES
