# SPDX-License-Identifier: Apache-2.0
"""What a receiver must get for an offload request: plain Python from the RFCs, and scapy's opinion.

Written from virtio 1.2 (5.1.6), RFC 768, 791, 8200, 9293 and 3168; no line of
it is the product's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from .offload_requests import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    NEEDS_CSUM,
    VNET,
    Request,
    ones_sum,
    pseudo_header,
)

GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN = 1 << 1, 1 << 7, 1 << 8, 1 << 9
GUEST_USO4, GUEST_USO6 = 1 << 54, 1 << 55

# What software segmentation looks at: headers of 256 bytes, eight extension headers.
HEADERS_MAX = 256
EXTENSIONS_MAX = 8
DATAGRAMS_WHOLE = 64  # of a UDP request that is not cut, whatever the receiver negotiated
FIN, PSH, CWR = 0x01, 0x08, 0x80

Delivery = tuple[bytes, bytes]  # virtio-net header (10 bytes), frame without the egress tag


def _needs(r: Request) -> int:
    need = GUEST_CSUM | (GUEST_ECN if r.gso_type & GSO_ECN else 0)
    kind = r.gso_type & ~GSO_ECN
    if kind == GSO_NONE:
        return need
    if kind in (GSO_TCPV4, GSO_TCPV6):
        return need | (GUEST_TSO6 if r.ipv6 else GUEST_TSO4)
    return need | (GUEST_USO6 if r.ipv6 else GUEST_USO4)


def _extensions(r: Request) -> int:
    at, n = r.l3 + 40, 0
    while at < r.l4:
        at += (r.frame[at + 1] + 1) * 8
        n += 1
    return n


def _segmentable(r: Request) -> bool:
    return r.end <= HEADERS_MAX and not (r.ipv6 and _extensions(r) > EXTENSIONS_MAX)


def _checksum(frame: bytes, r: Request) -> bytes:
    """The transport checksum of a whole frame whose checksum field is zero."""
    pseudo = pseudo_header(frame, r.l3, r.ipv6, r.udp, len(frame) - r.l4)
    total = ones_sum(pseudo + frame[r.l4 :]) ^ 0xFFFF
    return struct.pack("!H", total or 0xFFFF)


def _segment(r: Request, index: int, partial: bool) -> bytes:
    size = r.gso_size
    payload = r.frame[r.end + index * size : r.end + (index + 1) * size]
    last = r.end + (index + 1) * size >= len(r.frame)
    out = bytearray(r.frame[: r.end] + payload)
    if r.ipv6:
        struct.pack_into("!H", out, r.l3 + 4, len(out) - r.l3 - 40)
    else:
        (ident,) = struct.unpack_from("!H", r.frame, r.l3 + 4)
        struct.pack_into("!HH", out, r.l3 + 2, len(out) - r.l3, (ident + index) & 0xFFFF)
        out[r.l3 + 10 : r.l3 + 12] = b"\0\0"
        struct.pack_into("!H", out, r.l3 + 10, ones_sum(bytes(out[r.l3 : r.l4])) ^ 0xFFFF)
    if r.udp:
        struct.pack_into("!H", out, r.l4 + 4, len(out) - r.l4)
    else:
        (seq,) = struct.unpack_from("!I", r.frame, r.l4 + 4)
        struct.pack_into("!I", out, r.l4 + 4, (seq + index * size) & 0xFFFFFFFF)
        out[r.l4 + 13] &= ~((0 if last else FIN | PSH) | (CWR if index else 0)) & 0xFF
    at = r.l4 + r.csum_offset
    out[at : at + 2] = b"\0\0"
    if partial:
        pseudo = pseudo_header(bytes(out), r.l3, r.ipv6, r.udp, len(out) - r.l4)
        struct.pack_into("!H", out, at, ones_sum(pseudo))
    else:
        out[at : at + 2] = _checksum(bytes(out), r)
    return bytes(out)


def _completed(r: Request) -> bytes:
    out = bytearray(r.frame)
    at = r.l4 + r.csum_offset
    out[at : at + 2] = b"\0\0"
    out[at : at + 2] = _checksum(bytes(out), r)
    return bytes(out)


def _replaced(r: Request, partial: bool) -> Iterator[bytes]:
    count = max(1, -(-(len(r.frame) - r.end) // r.gso_size))
    for index in range(count):
        yield _segment(r, index, partial)


def expected(r: Request, features: int, shift: int, max_frame: int) -> list[Delivery]:
    """``shift``: length of the tag the receiver's port puts before the frame's own EtherType."""
    many = r.udp and r.gso_type and len(r.frame) - r.end > DATAGRAMS_WHOLE * r.gso_size
    if not _needs(r) & ~features and not many:
        return [(r.header(shift), r.frame)]
    if r.gso_type == GSO_NONE:
        return [(bytes(VNET.size), _completed(r))]
    if not _segmentable(r):
        return []
    partial = bool(features & GUEST_CSUM)
    header = bytes(VNET.size)
    if partial:
        header = VNET.pack(NEEDS_CSUM, 0, 0, 0, r.l4 + shift, r.csum_offset)
    found = list(_replaced(r, partial))
    return [] if len(found[0]) > max_frame else [(header, frame) for frame in found]


def scapy_agrees(frame: bytes) -> bool:
    """Lengths and checksums of a frame without requests, as scapy would write them itself."""
    packet = Ether(frame)
    for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)),
                          (UDP, ("len", "chksum"))):  # fmt: skip
        if packet.haslayer(layer):
            for field in fields:
                packet[layer].delfieldval(field)
    rebuilt = bytes(packet)
    if packet.haslayer(TCP) and Ether(rebuilt)[TCP].chksum == 0:
        packet[TCP].chksum = 0xFFFF  # the same number; zero means "none" to UDP alone
        rebuilt = bytes(packet)
    return rebuilt == frame
