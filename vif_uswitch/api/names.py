# SPDX-License-Identifier: Apache-2.0
"""Names for the bits and codes an operator meets: virtio and vhost-user features, drop reasons.

The numbers of features are those of virtio 1.x (section 6, and 5.1.3 for the
network device) and of QEMU's vhost-user specification.  The drop and break
reasons repeat ``dataplane/drop.h`` for readers without the compiled
extension; a test compares the two.  Standard library only.
"""

from __future__ import annotations

VIRTIO_FEATURES: dict[int, str] = {
    0: "CSUM", 1: "GUEST_CSUM", 2: "CTRL_GUEST_OFFLOADS", 3: "MTU", 5: "MAC", 7: "GUEST_TSO4",
    8: "GUEST_TSO6", 9: "GUEST_ECN", 10: "GUEST_UFO", 11: "HOST_TSO4", 12: "HOST_TSO6",
    13: "HOST_ECN", 14: "HOST_UFO", 15: "MRG_RXBUF", 16: "STATUS", 17: "CTRL_VQ", 18: "CTRL_RX",
    19: "CTRL_VLAN", 20: "CTRL_RX_EXTRA", 21: "GUEST_ANNOUNCE", 22: "MQ", 23: "CTRL_MAC_ADDR",
    24: "NOTIFY_ON_EMPTY", 26: "LOG_ALL", 27: "ANY_LAYOUT", 28: "INDIRECT_DESC", 29: "EVENT_IDX",
    30: "PROTOCOL_FEATURES", 32: "VERSION_1", 33: "ACCESS_PLATFORM", 34: "RING_PACKED",
    35: "IN_ORDER", 36: "ORDER_PLATFORM", 37: "SR_IOV", 38: "NOTIFICATION_DATA",
    39: "NOTIF_CONFIG_DATA", 40: "RING_RESET", 53: "NOTF_COAL", 54: "GUEST_USO4", 55: "GUEST_USO6",
    56: "HOST_USO", 57: "HASH_REPORT", 59: "GUEST_HDRLEN", 60: "RSS", 61: "RSC_EXT", 62: "STANDBY",
    63: "SPEED_DUPLEX",
}  # fmt: skip

PROTOCOL_FEATURES: dict[int, str] = {
    0: "MQ", 1: "LOG_SHMFD", 2: "RARP", 3: "REPLY_ACK", 4: "MTU", 5: "BACKEND_REQ",
    6: "CROSS_ENDIAN", 7: "CRYPTO_SESSION", 8: "PAGEFAULT", 9: "CONFIG", 10: "BACKEND_SEND_FD",
    11: "HOST_NOTIFIER", 12: "INFLIGHT_SHMFD", 13: "RESET_DEVICE", 14: "INBAND_NOTIFICATIONS",
    15: "CONFIGURE_MEM_SLOTS", 16: "STATUS", 17: "XEN_MMAP", 18: "SHARED_OBJECT",
    19: "DEVICE_STATE",
}  # fmt: skip

DROP_TEXT: dict[str, str] = {
    "chain_addr": "a descriptor points outside guest memory",
    "chain_loop": "a descriptor chain is longer than its ring",
    "chain_next": "a descriptor's next index is outside the ring",
    "chain_indirect": "an indirect descriptor table is malformed",
    "chain_direction": "a descriptor has the wrong direction for its ring",
    "hdr_short": "a chain is shorter than the virtio-net header",
    "frame_short": "a frame is shorter than an Ethernet header",
    "frame_long": "a frame is longer than the port's maximum",
    "vnet_csum": "the checksum fields of the virtio-net header are invalid",
    "vnet_gso": "the segmentation fields of the virtio-net header are invalid",
    "no_segment": "the port has no row for untagged frames",
    "vlan_unknown": "the port has no row for the frame's VLAN tag",
    "vlan_nested": "a second VLAN tag would become the outer one",
    "src_invalid": "the source address is a group address or zero",
    "link_local": "the destination is reserved for the link (01-80-c2-00-00-0x)",
    "policy": "the port's policy forbids the frame",
    "same_port": "the destination is behind the port the frame came from",
    "no_receiver": "nobody else is in the segment",
    "flood_budget": "the port's flooding budget is used up",
    "link_down": "the receiving port is not connected or not enabled",
    "ring_full": "the receiver has no free buffers",
    "ring_small": "the receiver's buffers are too small for the frame",
    "out_chain": "the receiver's buffers are malformed",
    "mtu": "the frame is longer than the receiving port's maximum",
    "offload": "the receiver lacks an offload and software cannot replace it",
    "device": "the kernel device refused the frame",
    "broken": "the receiving port is fenced",
    "nic_rx": "the adapter received the frame damaged",
    "guard_mac": "the source address is not one that the port may use",
    "guard_ip": "the source IP address is not one that the port may use, or cannot be seen",
    "guard_arp": "the port claims an address by ARP that it may not use",
    "guard_nd": "the port claims by neighbor discovery an address that it may not use, or a "
    "router's role",
    "guard_dhcp": "the port sends to a DHCP client, as only a server does",
    "guard_type": "a guarded port sends IPv4, IPv6, ARP and RARP only",
}


def bits(mask: int, names: dict[int, str]) -> list[str]:
    """The set bits by name, lowest first; a bit without a name is "bit 41"."""
    return [
        names.get(number, f"bit {number}")
        for number in range(mask.bit_length())
        if mask >> number & 1
    ]


def drop_text(reason: str) -> str:
    return DROP_TEXT.get(reason, reason.replace("_", " "))
