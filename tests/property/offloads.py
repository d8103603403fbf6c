# SPDX-License-Identifier: Apache-2.0
"""The virtio-net header and what software makes of it, as virtio 1.2, 5.1.6 reads.

Part of the model: slow, plain, and written without a look at the product's arithmetic.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

NEEDS_CSUM, RSC_INFO = 1, 4
TCPV4, TCPV6, ECN = 1, 4, 0x80
CSUM_OK, TSO4, TSO6, ECN_OK = 1, 2, 4, 8  # what a peer has negotiated
WIRE = struct.Struct("<BBHHHH")
OFFSET_MAX = 65535 - 4
GSO_SIZE_MIN = 48


@dataclass(frozen=True, slots=True)
class Request:
    """An offload request that passed; all zero: none."""

    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def __bool__(self) -> bool:
        return bool(self.flags or self.gso_type)

    def needs(self) -> int:
        kinds = {TCPV4: TSO4, TCPV6: TSO6}
        return ((CSUM_OK if self.flags else 0) | kinds.get(self.gso_type & ~ECN, 0)
                | (ECN_OK if self.gso_type & ECN else 0))

    def wire(self, shift: int) -> bytes:
        """The header of a frame that grows by ``shift`` bytes in front of its offsets."""
        return WIRE.pack(
            self.flags, self.gso_type, self.hdr_len + shift if self.hdr_len else 0, self.gso_size,
            self.csum_start + shift if self.flags else 0, self.csum_offset,
        )

    def untagged(self) -> Request:
        """The same for the frame without the tag in front of which nothing was requested."""
        return replace(self, csum_start=self.csum_start - 4 if self.flags else 0,
                       hdr_len=self.hdr_len - 4 if self.hdr_len >= 18 else 0)


def parse(wire: bytes, length: int, allowed: int) -> Request | str:
    """A request, or the name of the drop."""
    flags, gso, hdr_len, gso_size, start, offset = WIRE.unpack(wire)
    if flags & RSC_INFO:
        return "vnet_gso"
    found = Request()
    if flags & NEEDS_CSUM:
        inside = 14 <= start <= OFFSET_MAX and start + offset + 2 <= length
        if not (allowed & CSUM_OK and inside):
            return "vnet_csum"
        found = replace(found, flags=NEEDS_CSUM, csum_start=start, csum_offset=offset)
    if gso:
        found = replace(found, gso_type=gso, gso_size=gso_size)
        legal = gso & ~ECN in (TCPV4, TCPV6) and not found.needs() & ~allowed
        if not (legal and found.flags and offset == 16 and start + 20 <= length
                and gso_size >= GSO_SIZE_MIN):
            return "vnet_gso"
    if found.flags:
        least = start + 20 if gso else 0
        found = replace(found, hdr_len=min(max(hdr_len, least), length, OFFSET_MAX))
    return found


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def complete(frame: bytes, request: Request) -> bytes:
    """The checksum computed; zero is written as its other form."""
    at = request.csum_start + request.csum_offset
    value = checksum(frame[request.csum_start :]) or 0xFFFF
    return frame[:at] + struct.pack(">H", value) + frame[at + 2 :]


def segment(frame: bytes, request: Request, partial: bool) -> list[tuple[bytes, Request]] | None:
    """TCP segments of a frame, each with its request; None if the headers do not allow it."""
    l3, tcp = 14, request.csum_start
    while frame[l3 - 2 : l3] in (b"\x81\x00", b"\x88\xa8") and l3 < 22:
        l3 += 4
    six = request.gso_type & ~ECN == TCPV6
    if frame[l3 - 2 : l3] != (b"\x86\xdd" if six else b"\x08\x00"):
        return None
    if not _is_tcp(frame[l3:], six, tcp - l3):
        return None
    data = tcp + (frame[tcp + 12] >> 4) * 4
    if data - tcp < 20 or data > len(frame) or data > 256:
        return None
    body, size = frame[data:], request.gso_size
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    out = []
    for index, part in enumerate(parts):
        head = bytearray(frame[:data])
        if six:
            struct.pack_into(">H", head, l3 + 4, data - l3 - 40 + len(part))
            pseudo = bytes(head[l3 + 8 : l3 + 40])
        else:
            struct.pack_into(">H", head, l3 + 2, data - l3 + len(part))
            ident = struct.unpack_from(">H", head, l3 + 4)[0]
            struct.pack_into(">HxxxxH", head, l3 + 4, (ident + index) & 0xFFFF, 0)
            head[l3 + 6 : l3 + 10] = frame[l3 + 6 : l3 + 10]
            struct.pack_into(">H", head, l3 + 10, checksum(bytes(head[l3:tcp])))
            pseudo = bytes(head[l3 + 12 : l3 + 20])
        number = struct.unpack_from(">I", head, tcp + 4)[0]
        struct.pack_into(">I", head, tcp + 4, (number + index * size) & 0xFFFFFFFF)
        if index + 1 < len(parts):
            head[tcp + 13] &= ~0x09  # FIN and PSH belong to the last one
        if index:
            head[tcp + 13] &= ~0x80  # CWR to the first
        pseudo += struct.pack(">HH", 6, data - tcp + len(part))
        struct.pack_into(">H", head, tcp + 16, ~checksum(pseudo) & 0xFFFF)
        whole = bytes(head) + part
        asks = Request(NEEDS_CSUM, 0, 0, 0, tcp, 16)
        out.append((whole, asks) if partial else (complete(whole, asks), Request()))
    return out


def _is_tcp(ip: bytes, six: bool, tcp: int) -> bool:
    """Headers without extensions only: the model's senders make no others."""
    if six:
        return len(ip) >= 40 and ip[0] >> 4 == 6 and ip[6] == 6 and tcp == 40
    fragment = struct.unpack_from(">H", ip, 6)[0] & 0x3FFF if len(ip) >= 20 else 1
    return not fragment and ip[0] == 0x45 and ip[9] == 6 and tcp == 20
