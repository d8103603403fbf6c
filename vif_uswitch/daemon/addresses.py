# SPDX-License-Identifier: Apache-2.0
"""MAC, IP and PCI addresses: from text whose shape the API's types have checked, and back.

What a pattern cannot say is refused here.  Each address has one form inside
the daemon, so that two spellings of it are equal.
"""

from __future__ import annotations

import ipaddress
import socket

from vif_uswitch.exceptions import InvalidInput

IP_TODO = "Give an address or a prefix, for example 10.0.0.5, 10.0.0.0/24 or fd00::/64."


def parse_mac(text: str) -> bytes:
    """Six bytes of a station's address."""
    mac = bytes.fromhex(text.replace(":", ""))
    if not any(mac):
        raise InvalidInput("MAC address", text, "is all zero", "Give the guest's own address.")
    if mac[0] & 1:
        raise InvalidInput(
            "MAC address", text, "is a group (multicast or broadcast) address",
            "Give the guest's own address: the first byte of a station's address is even.",
        )  # fmt: skip
    return mac


def format_mac(mac: bytes) -> str:
    return mac.hex(":")


def parse_prefix(text: str) -> tuple[bytes, int]:
    """Network address (4 or 16 bytes) and length of a prefix; bits behind it become zero."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidInput("IP address", text, "is malformed", IP_TODO) from None
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped is not None:
        raise InvalidInput(
            "IP address", text, "is an IPv4 address inside an IPv6 one, which no frame has",
            f"Give {first.ipv4_mapped} itself.",
        )  # fmt: skip
    return first.packed, network.prefixlen


def format_prefix(address: bytes, length: int) -> str:
    """Without its length if it is a single address."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    text = socket.inet_ntop(family, address)  # a tenth of the time that ipaddress takes
    return text if length == 8 * len(address) else f"{text}/{length}"


def parse_pci(text: str) -> str:
    """The one form of a PCI address: with its domain, lower case."""
    return (text if text.count(":") == 2 else f"0000:{text}").lower()
