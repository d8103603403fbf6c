# SPDX-License-Identifier: Apache-2.0
"""Anti-spoofing as doc/source/switching.rst has it: what a guarded port may send, in plain Python.

Written from the rules, not from the product.  ``judge`` says how a frame ends.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

VIEW = 124  # bytes of a frame that can be judged
IPV4, ARP, RARP, IPV6 = b"\x08\x00", b"\x08\x06", b"\x80\x35", b"\x86\xdd"
# Extension headers by what their length field counts: (units, of how many bytes, and so many more).
EXTENSIONS = {0: (8, 8), 43: (8, 8), 60: (8, 8), 135: (8, 8), 139: (8, 8), 140: (8, 8), 51: (4, 8)}
FRAGMENT, UDP, ICMPV6 = 44, 17, 58
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Dropped(Exception):
    """The frame ends here; the argument is the counter."""


@dataclass(frozen=True)
class Pair:
    mac: bytes
    net: Network | None = None

    def covers(self, mac: bytes, ip: bytes) -> bool:
        return (
            mac == self.mac and self.net is not None and self.net.max_prefixlen == 8 * len(ip)
            and ipaddress.ip_address(ip) in self.net
        )  # fmt: skip


class Packet:
    """A frame of which the first bytes can be seen."""

    def __init__(self, data: bytes) -> None:
        self.data, self.limit = data, len(data)

    def see(self, at: int, size: int, otherwise: str) -> bytes:
        """Bytes that must be there, in the packet, and near enough to its beginning."""
        if at + size > min(self.limit, len(self.data), VIEW):
            raise Dropped(otherwise)
        return self.data[at : at + size]


class Guard:
    """What one port may claim to be."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs

    def judge(self, frame: bytes) -> str | None:
        """None: it passes; else the counter under which it ends."""
        mac = frame[6:12]
        rules = {IPV4: self._ipv4, ARP: self._arp, RARP: self._rarp, IPV6: self._ipv6}
        if mac not in [pair.mac for pair in self.pairs]:
            return "guard_mac"
        rule = rules.get(frame[12:14])
        try:
            if rule is None:
                raise Dropped("guard_type")
            rule(mac, Packet(frame))
        except Dropped as end:
            return str(end)
        return None

    def _covers(self, mac: bytes, ip: bytes) -> bool:
        return any(pair.covers(mac, ip) for pair in self.pairs)

    def _rarp(self, mac: bytes, packet: Packet) -> bytes:
        body = packet.see(14, 28, "guard_arp")
        if body[:6] != bytes.fromhex("000108000604") or body[8:14] != mac:
            raise Dropped("guard_arp")
        return body

    def _arp(self, mac: bytes, packet: Packet) -> None:
        body = self._rarp(mac, packet)
        sender, probe = body[14:18], body[6:8] == b"\0\1" and not any(body[14:18])
        if not (probe or self._covers(mac, sender)):
            raise Dropped("guard_arp")

    def _ipv4(self, mac: bytes, packet: Packet) -> None:
        header = packet.see(14, 20, "guard_ip")
        size = (header[0] & 15) * 4
        if header[0] >> 4 != 4 or size < 20:
            raise Dropped("guard_ip")
        packet.see(14, size, "guard_ip")
        fragment = int.from_bytes(header[6:8], "big")
        first, more = not fragment & 0x1FFF, fragment >> 13 & 1
        covered = self._covers(mac, header[12:16])
        asks = answers = False
        if not covered and any(header[12:16]):
            raise Dropped("guard_ip")
        if header[9] == UDP and first:
            ports = packet.see(14 + size, 4, "guard_ip")
            if more and int.from_bytes(header[2:4], "big") < size + 8:
                raise Dropped("guard_ip")
            asks, answers = ports == b"\0\x44\0\x43", ports[2:] == b"\0\x44"
        if not covered and not asks:
            raise Dropped("guard_ip")
        if answers:
            raise Dropped("guard_dhcp")

    def _ipv6(self, mac: bytes, packet: Packet) -> None:
        header = packet.see(14, 40, "guard_ip")
        source, covered = header[8:24], self._covers(mac, header[8:24])
        if header[0] >> 4 != 6 or not (covered or not any(source)):
            raise Dropped("guard_ip")
        packet.limit = 54 + int.from_bytes(header[4:6], "big")
        carried = self._walk(packet, header[6])
        if carried is None or carried[0] not in (UDP, ICMPV6):
            if not covered:
                raise Dropped("guard_ip")
            return
        kind, at, fragmented = carried
        if kind == ICMPV6:
            self._icmpv6(mac, packet, at, fragmented, covered)
            return
        if not covered:
            raise Dropped("guard_ip")
        if packet.see(at, 8, "guard_ip")[2:4] == (546).to_bytes(2, "big"):
            raise Dropped("guard_dhcp")

    def _walk(self, packet: Packet, kind: int) -> tuple[int, int, bool] | None:
        """(protocol, where, behind a fragment header) of what is carried; None: a later one."""
        at, fragmented = 54, False
        while kind in EXTENSIONS or kind == FRAGMENT:
            first = packet.see(at, 8, "guard_ip")
            if kind == FRAGMENT:
                offset = int.from_bytes(first[2:4], "big") & ~7
                if fragmented or 0 < offset < VIEW:
                    raise Dropped("guard_ip")
                if offset:
                    return None
                fragmented, size = True, 8
            else:
                unit, more = EXTENSIONS[kind]
                size = first[1] * unit + more
            kind, at = first[0], at + size
        return kind, at, fragmented

    def _icmpv6(
        self, mac: bytes, packet: Packet, at: int, fragmented: bool, covered: bool
    ) -> None:
        kind = packet.see(at, 4, "guard_nd")[0]
        if not covered and not (kind in (131, 135, 143) and packet.data[38] == 0xFF):
            raise Dropped("guard_ip")
        if kind in (134, 137):
            raise Dropped("guard_nd")
        if kind in (133, 135, 136):
            fixed = 8 if kind == 133 else 24
            size = max(packet.limit - at, fixed)
            message = packet.see(at, size, "guard_nd")
            if fragmented or packet.data[21] != 255 or message[1]:
                raise Dropped("guard_nd")
            seen = self._options(mac, message[fixed:])
            if not covered and 1 in seen:
                raise Dropped("guard_nd")
            if kind == 136 and not self._covers(mac, message[8:24]):
                raise Dropped("guard_nd")

    def _options(self, mac: bytes, left: bytes) -> set[int]:
        """The kinds of options; those of link-layer addresses name the sender's."""
        seen = set()
        while left:
            size = 8 * left[1] if len(left) > 1 else 0
            if not 0 < size <= len(left):
                raise Dropped("guard_nd")
            if left[0] in (1, 2) and left[2:size] != mac:
                raise Dropped("guard_nd")
            seen.add(left[0])
            left = left[size:]
        return seen
