# SPDX-License-Identifier: Apache-2.0
"""Frames that guests send, honest ones and lies; bytes in, bytes out."""

from __future__ import annotations

import ipaddress
import struct

BROADCAST = b"\xff" * 6
ALL_NODES = bytes.fromhex("333300000001")
ETH_IPV4, ETH_ARP, ETH_IPV6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
SHORTEST = 60


def mac_of(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip_of(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(src_mac: bytes, dst_mac: bytes, src: str, dst: str, payload: bytes,
        ports: tuple[int, int] = (1000, 2000)) -> bytes:  # fmt: skip
    """IPv4 or IPv6, as the addresses are; the UDP checksum is left out."""
    body = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    if ":" in src:
        packet = struct.pack("!IHBB", 6 << 28, len(body), 17, 64) + ip_of(src) + ip_of(dst) + body
        return (dst_mac + src_mac + ETH_IPV6 + packet).ljust(SHORTEST, b"\0")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0)
    head += ip_of(src) + ip_of(dst)
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]
    return (dst_mac + src_mac + ETH_IPV4 + head + body).ljust(SHORTEST, b"\0")


def arp(src_mac: bytes, sender: str, wanted: str, sender_mac: bytes | None = None) -> bytes:
    """Who has ``wanted``? Tell ``sender``."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body += (sender_mac or src_mac) + ip_of(sender) + bytes(6) + ip_of(wanted)
    return (BROADCAST + src_mac + ETH_ARP + body).ljust(SHORTEST, b"\0")


def neighbor_advertisement(src_mac: bytes, src: str, target: str) -> bytes:
    """``target`` is at ``src_mac``, to all nodes."""
    body = struct.pack("!BBHI", 136, 0, 0, 1 << 29) + ip_of(target) + b"\x02\x01" + src_mac
    ends = ip_of(src) + ip_of("ff02::1")
    pseudo = ends + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _sum(pseudo + body)) + body[4:]
    packet = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + ends + body
    return ALL_NODES + src_mac + ETH_IPV6 + packet


def dhcp_offer(src_mac: bytes, src: str) -> bytes:
    """Enough of one for whoever looks at the UDP ports."""
    return udp(src_mac, BROADCAST, src, "255.255.255.255", b"\x02" + bytes(239), (67, 68))
