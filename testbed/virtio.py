# SPDX-License-Identifier: Apache-2.0
"""Names of virtio feature bits, for people (virtio 1.2 §5.1.3 and §6)."""

from __future__ import annotations

NAMES = {
    0: "csum", 1: "guest_csum", 2: "ctrl_guest_offloads", 3: "mtu", 5: "mac", 6: "gso",
    7: "guest_tso4", 8: "guest_tso6", 9: "guest_ecn", 10: "guest_ufo", 11: "host_tso4",
    12: "host_tso6", 13: "host_ecn", 14: "host_ufo", 15: "mrg_rxbuf", 16: "status",
    17: "ctrl_vq", 18: "ctrl_rx", 19: "ctrl_vlan", 20: "ctrl_rx_extra", 21: "guest_announce",
    22: "mq", 23: "ctrl_mac_addr", 26: "log_all", 28: "indirect_desc", 29: "event_idx",
    30: "protocol_features", 32: "version_1", 33: "access_platform", 34: "ring_packed",
    35: "in_order", 36: "order_platform", 37: "sr_iov", 38: "notification_data", 40: "ring_reset",
    54: "guest_uso4", 55: "guest_uso6", 56: "host_uso", 57: "hash_report", 59: "guest_hdrlen",
    60: "rss", 61: "rsc_ext", 62: "standby", 63: "speed_duplex",
}


def names(mask: int) -> list[str]:
    """The names of the bits set in a feature mask, lowest first."""
    return [NAMES.get(bit, f"bit{bit}") for bit in range(64) if mask >> bit & 1]
