# SPDX-License-Identifier: Apache-2.0
"""Random frames with offload requests, as a guest's stack would leave them; headers by scapy.

A request names where its headers lie, so that ``offload_model.py`` need not
look for them: the two share this description and nothing of the product.
"""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
NEEDS_CSUM = 1
FRAME_MAX = 65562
TCP_CSUM, UDP_CSUM = 16, 6
VNET = struct.Struct("<BBHHHH")


@dataclass(frozen=True, slots=True)
class Request:
    """A frame without a tag of the switch's, its checksum field holding the pseudo header's sum.

    ``l3``, ``l4``, ``end``: offsets of the IP header, the transport header, the payload.
    """

    frame: bytes
    l3: int
    l4: int
    end: int
    ipv6: bool
    udp: bool
    gso_type: int
    gso_size: int

    @property
    def csum_offset(self) -> int:
        return UDP_CSUM if self.udp else TCP_CSUM

    def header(self, shift: int) -> bytes:
        """The virtio-net header; ``shift``: length of a tag that is on the wire, not in frame."""
        return VNET.pack(
            NEEDS_CSUM, self.gso_type, self.end + shift, self.gso_size, self.l4 + shift,
            self.csum_offset,
        )  # fmt: skip


def ones_sum(data: bytes) -> int:
    """The Internet checksum before its complement: big-endian words modulo 65535 (RFC 1071)."""
    value = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return value % 0xFFFF or (0xFFFF if value else 0)


def pseudo_header(frame: bytes, l3: int, ipv6: bool, udp: bool, length: int) -> bytes:
    proto = 17 if udp else 6
    if ipv6:
        return frame[l3 + 8 : l3 + 40] + struct.pack("!II", length, proto)
    return frame[l3 + 12 : l3 + 20] + struct.pack("!HH", proto, length)


def _ethernet(rng: random.Random, src: bytes, dst: bytes, tagged: bool) -> Packet:
    """Tags that stay inside; a C-TAG comes first only if the switch's own tag is before it."""
    frame: Packet = Ether(src=src.hex(":"), dst=dst.hex(":"))
    for place in range(rng.choice((0, 0, 0, 0, 1, 2))):
        customer = rng.random() < 0.5 and (tagged or place)
        frame = frame / (Dot1Q if customer else Dot1AD)(vlan=rng.randrange(1, 4095), prio=3)
    return frame


def _ipv4(rng: random.Random) -> Packet:
    return IP(
        src=socket.inet_ntoa(rng.randbytes(4)), dst=socket.inet_ntoa(rng.randbytes(4)),
        id=rng.randrange(65536), ttl=rng.randrange(256), tos=rng.randrange(256),
        flags=rng.choice((0, 2)), options=[IPOption_NOP()] * (4 * rng.choice((0, 0, 0, 1, 3, 10))),
    )  # fmt: skip


def _address(rng: random.Random) -> str:
    return ":".join(rng.randbytes(2).hex() for _ in range(8))


def _ipv6(rng: random.Random) -> Packet:
    packet: Packet = IPv6(
        src=_address(rng), dst=_address(rng), fl=rng.randrange(1 << 20), tc=rng.randrange(256),
        hlim=rng.randrange(256),
    )  # fmt: skip
    for kind in rng.choice(("", "", "", "h", "d", "hd", "r", "hrd", "dddddddd", "ddddddddd")):
        if kind == "r":
            packet = packet / IPv6ExtHdrRouting(addresses=[_address(rng)], segleft=0)
        else:
            header = IPv6ExtHdrHopByHop if kind == "h" else IPv6ExtHdrDestOpt
            room = rng.choice((4, 4, 12, 60)) if kind == "h" else 4
            packet = packet / header(options=[PadN(optdata=b"\0" * room)])
    return packet


def _transport(rng: random.Random, udp: bool) -> Packet:
    sport, dport = rng.randrange(40000, 60000), rng.randrange(40000, 60000)
    if udp:
        return UDP(sport=sport, dport=dport)
    return TCP(
        sport=sport, dport=dport, seq=rng.randrange(1 << 32), ack=rng.randrange(1 << 32),
        flags=rng.randrange(256), window=rng.randrange(65536),
        options=[("NOP", None)] * (4 * rng.choice((0, 0, 3, 10))),
    )  # fmt: skip


def _sizes(rng: random.Random, udp: bool, room: int, longest: int) -> tuple[int, int]:
    """Segment size and payload of a segmentation request."""
    size = rng.choice((48, 100, 536, 1000, 1211, 1400, 1448, 8000, 65535, rng.randrange(48, 1500)))
    if udp and rng.random() < 0.3:
        size = rng.randrange(1, 48)
    most = min(room, size * rng.choice((1, 3, 40, 1365)), longest)
    near = size * rng.randrange(1, 4) + rng.choice((-1, 0, 1))
    return size, min(most, rng.choice((0, 1, near, most, rng.randrange(most + 1))))


def _aim_at_zero(frame: bytearray, l3: int, l4: int, ipv6: bool, size: int) -> None:
    """Changes two bytes of UDP payload so that the checksum of the first ``size`` bytes is zero."""
    length, at = 8 + size, l4 + 8
    header = bytes(frame[l4 : l4 + 4]) + struct.pack("!HH", length, 0)
    pseudo = pseudo_header(bytes(frame), l3, ipv6, True, length)
    total = ones_sum(pseudo + header + bytes(frame[at : at + size]))
    (word,) = struct.unpack_from("!H", frame, at)
    struct.pack_into("!H", frame, at, (word + 0xFFFF - total) % 0xFFFF)


def make_request(
    rng: random.Random, src: bytes, dst: bytes, *, tagged: bool, max_frame: int
) -> Request:
    """``tagged``: the frame will travel behind a tag of the switch's."""
    udp, ipv6, gso = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.8
    front = _ethernet(rng, src, dst, tagged)
    l3 = len(front)
    network = _ipv6(rng) if ipv6 else _ipv4(rng)
    l4 = l3 + len(network)
    packet = front / network / _transport(rng, udp)
    end = len(packet)
    room = min(FRAME_MAX if gso else max_frame, l3 + 65535) - end
    gso_type, gso_size = GSO_NONE, 0
    if gso:
        gso_type = GSO_UDP_L4 if udp else GSO_TCPV6 if ipv6 else GSO_TCPV4
        gso_type |= GSO_ECN if not udp and rng.random() < 0.3 else 0
        gso_size, n = _sizes(rng, udp, room, 65535 - (end - l3))
    else:
        n = rng.choice((0, 1, 2, room, rng.randrange(room + 1)))
    frame = bytearray(bytes(packet / Raw(rng.randbytes(n))))
    request = Request(bytes(frame), l3, l4, end, ipv6, udp, gso_type, gso_size)
    first = min(n, gso_size or n)
    if udp and first >= 2 and rng.random() < 0.2:
        _aim_at_zero(frame, l3, l4, ipv6, first)
    at = l4 + request.csum_offset
    partial = ones_sum(pseudo_header(request.frame, l3, ipv6, udp, len(frame) - l4))
    frame[at : at + 2] = struct.pack("!H", partial)
    return Request(bytes(frame), l3, l4, end, ipv6, udp, gso_type, gso_size)
