# SPDX-License-Identifier: Apache-2.0
"""Writes offload_vectors.h: what the software offloads must produce, by scapy's account.

    python3 make_offload_vectors.py > offload_vectors.h     (needs scapy; the result is committed)

Scapy builds every expected segment from the protocol fields and computes its checksums itself;
nothing is derived from the dataplane's code.  A payload is byte_at(i) for its i-th byte, so that
the vectors hold headers only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert, IPOption_Timestamp
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

TCPV4, TCPV6, UDP_L4, ECN = 1, 4, 5, 0x80
TCP_CSUM, UDP_CSUM = 16, 6
FIN, PSH, ACK, ECE, CWR = 0x01, 0x08, 0x10, 0x40, 0x80

Build = Callable[["Fields"], Packet]


@dataclass(frozen=True, slots=True)
class Fields:
    """What differs between the segments of one request."""

    ip_id: int
    seq: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """One frame to be replaced; gso_type 0 asks for a checksum only."""

    name: str
    build: Build
    fields: Fields
    gso_type: int = 0
    gso_size: int = 0
    csum_offset: int = TCP_CSUM


@dataclass(frozen=True, slots=True)
class Segment:
    """One expected result: headers with full and with partial checksum."""

    full: bytes
    partial: bytes
    payload: int


def byte_at(i: int) -> int:
    return (i * 7 + (i >> 8) * 13 + 3) & 0xFF


def payload(n: int) -> bytes:
    return bytes(byte_at(i) for i in range(n))


def ethernet(*tags: Packet) -> Packet:
    frame: Packet = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
    for tag in tags:
        frame = frame / tag
    return frame


def v4(f: Fields, *tags: Packet, options: list[object] | None = None) -> Packet:
    return ethernet(*tags) / IP(
        src="192.0.2.1", dst="198.51.100.77", id=f.ip_id, flags="DF", options=options or []
    )


def v6(*extensions: Packet, tags: tuple[Packet, ...] = ()) -> Packet:
    frame = ethernet(*tags) / IPv6(src="2001:db8::1", dst="2001:db8:ffff::7:2", fl=0x12345)
    for header in extensions:
        frame = frame / header
    return frame


def tcp(f: Fields, options: list[tuple[str, object]] | None = None) -> Packet:
    return TCP(
        sport=40000, dport=443, seq=f.seq, ack=99, flags=f.flags, options=options or []
    ) / Raw(f.payload)


def udp(f: Fields) -> Packet:
    return UDP(sport=5000, dport=53) / Raw(f.payload)


TIMESTAMP: list[tuple[str, object]] = [
    ("NOP", None),
    ("NOP", None),
    ("Timestamp", (123456, 654321)),
]


def fields(n: int, flags: int = ACK, ip_id: int = 100, seq: int = 1000) -> Fields:
    return Fields(ip_id, seq, flags, payload(n))


def tcp4(f: Fields) -> Packet:
    return v4(f) / tcp(f)


def tcp6(f: Fields) -> Packet:
    return v6() / tcp(f)


def cases() -> Iterator[Case]:
    yield from csum_cases()
    yield from tso4_cases()
    yield from tso6_cases()
    yield from uso_cases()


def csum_cases() -> Iterator[Case]:
    yield Case("csum_tcp4", tcp4, fields(100))
    yield Case("csum_tcp4_odd", tcp4, fields(1441))
    yield Case("csum_tcp4_empty", tcp4, fields(0))
    yield Case("csum_tcp6", tcp6, fields(77))
    yield Case("csum_udp4", lambda f: v4(f) / udp(f), fields(333), csum_offset=UDP_CSUM)
    yield Case("csum_udp6", lambda f: v6() / udp(f), fields(1), csum_offset=UDP_CSUM)
    yield Case(
        "csum_tag_inside", lambda f: v4(f, Dot1Q(vlan=7)) / udp(f), fields(64), csum_offset=UDP_CSUM
    )
    yield Case("csum_big", tcp4, fields(65000))


def tso4_cases() -> Iterator[Case]:
    yield Case("tso4", tcp4, fields(4000), TCPV4, 1448)
    yield Case("tso4_exact", tcp4, fields(2 * 1448), TCPV4, 1448)
    yield Case("tso4_one", tcp4, fields(900), TCPV4, 1448)
    yield Case("tso4_empty", tcp4, fields(0), TCPV4, 1448)
    yield Case("tso4_odd_size", tcp4, fields(1000), TCPV4, 333)
    yield Case("tso4_flags", tcp4, fields(400, FIN | PSH | ACK), TCPV4, 150)
    yield Case("tso4_ecn", tcp4, fields(400, PSH | ACK | ECE | CWR), TCPV4 | ECN, 150)
    yield Case("tso4_wrap", tcp4, fields(400, ip_id=65534, seq=0xFFFFFF00), TCPV4, 100)
    yield Case("tso4_small", tcp4, fields(48 * 70 + 1), TCPV4, 48)
    yield Case(
        "tso4_options",
        lambda f: (
            v4(f, options=[IPOption_Router_Alert(), IPOption_Timestamp()]) / tcp(f, TIMESTAMP)
        ),
        fields(3000),
        TCPV4,
        1400,
    )
    yield Case("tso4_tag", lambda f: v4(f, Dot1Q(vlan=9)) / tcp(f), fields(3000), TCPV4, 1400)
    yield Case(
        "tso4_two_tags",
        lambda f: v4(f, Dot1Q(vlan=9, type=0x8100), Dot1Q(vlan=10)) / tcp(f, TIMESTAMP),
        fields(3000),
        TCPV4,
        1400,
    )
    yield Case("tso4_big", tcp4, fields(64000), TCPV4, 1448)


def tso6_cases() -> Iterator[Case]:
    yield Case("tso6", tcp6, fields(4000, PSH | ACK), TCPV6, 1428)
    yield Case(
        "tso6_extensions",
        lambda f: (
            v6(
                IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 12)]),
                IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
            )
            / tcp(f, TIMESTAMP)
        ),
        fields(5000),
        TCPV6,
        1300,
    )
    yield Case(
        "tso6_route_done",
        lambda f: v6(IPv6ExtHdrRouting(addresses=["2001:db8::5"], segleft=0)) / tcp(f),
        fields(2000),
        TCPV6,
        1300,
    )
    yield Case(
        "tso6_tag_ecn",
        lambda f: v6(tags=(Dot1Q(vlan=5),)) / tcp(f),
        fields(3000, ACK | ECE | CWR),
        TCPV6 | ECN,
        1000,
    )


def uso_cases() -> Iterator[Case]:
    def plain4(f: Fields) -> Packet:
        return v4(f) / udp(f)

    def plain6(f: Fields) -> Packet:
        return v6() / udp(f)

    def case(name: str, build: Build, whole: Fields, size: int) -> Case:
        return Case(name, build, whole, UDP_L4, size, UDP_CSUM)

    yield case("uso4", plain4, fields(4000), 1472)
    yield case("uso4_exact", plain4, fields(2 * 1472), 1472)
    yield case("uso4_one", plain4, fields(900), 1472)
    yield case("uso4_empty", plain4, fields(0), 1472)
    yield case("uso4_odd_size", plain4, fields(1000), 333)
    yield case("uso4_wrap", plain4, fields(400, ip_id=65534), 100)
    yield case("uso4_bytes", plain4, fields(70), 1)
    yield case(
        "uso4_options",
        lambda f: v4(f, options=[IPOption_Router_Alert(), IPOption_Timestamp()]) / udp(f),
        fields(3000),
        1400,
    )
    yield case("uso4_tag", lambda f: v4(f, Dot1Q(vlan=9)) / udp(f), fields(3000), 1400)
    yield case(
        "uso4_two_tags",
        lambda f: v4(f, Dot1Q(vlan=9, type=0x8100), Dot1Q(vlan=10)) / udp(f),
        fields(3000),
        1400,
    )
    yield case("uso4_big", plain4, fields(65507), 1472)
    yield case("uso6", plain6, fields(4000), 1452)
    yield case("uso6_odd_size", plain6, fields(1000), 333)
    yield case("uso6_big", plain6, fields(65000), 1452)
    yield case(
        "uso6_extensions",
        lambda f: (
            v6(
                IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 12)]),
                IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
            )
            / udp(f)
        ),
        fields(5000),
        1300,
    )
    yield case(
        "uso6_route_done",
        lambda f: v6(IPv6ExtHdrRouting(addresses=["2001:db8::5"], segleft=0)) / udp(f),
        fields(2000),
        1300,
    )
    yield case("uso6_tag", lambda f: v6(tags=(Dot1Q(vlan=5),)) / udp(f), fields(3000), 1000)


def transport_offset(frame: Packet) -> int:
    """Where the transport header starts in the built frame."""
    transport = frame[TCP] if frame.haslayer(TCP) else frame[UDP]
    return len(bytes(frame)) - len(bytes(transport))


def pseudo_sum(frame: Packet, length: int) -> int:
    """Folded sum of the pseudo header, as a sender leaves it in the checksum field."""
    proto = 6 if frame.haslayer(TCP) else 17
    if frame.haslayer(IP):
        raw = bytes(frame[IP])
        words = raw[12:20] + bytes([0, proto]) + length.to_bytes(2, "big")
    else:
        raw = bytes(frame[IPv6])
        words = raw[8:40] + length.to_bytes(4, "big") + bytes([0, 0, 0, proto])
    return int(checksum(words)) ^ 0xFFFF


def headers(case: Case, fields: Fields) -> Segment:
    frame = case.build(fields)
    raw = bytes(frame)
    start = transport_offset(frame)
    split = len(raw) - len(fields.payload)
    at = start + case.csum_offset
    partial = bytearray(raw[:split])
    partial[at : at + 2] = pseudo_sum(frame, len(raw) - start).to_bytes(2, "big")
    full = bytearray(raw[:split])
    if full[at : at + 2] == b"\0\0":  # the other form of zero, see complete_csum()
        full[at : at + 2] = b"\xff\xff"
    return Segment(bytes(full), bytes(partial), len(fields.payload))


def segments(case: Case) -> Iterator[Segment]:
    whole, size = case.fields, case.gso_size or len(case.fields.payload) or 1
    count = max(1, -(-len(whole.payload) // size))
    for i in range(count):
        flags = whole.flags
        if i != count - 1:
            flags &= ~(FIN | PSH)
        if i != 0:
            flags &= ~CWR
        part = whole.payload[i * size : (i + 1) * size]
        ip_id = (whole.ip_id + i) & 0xFFFF
        seq = (whole.seq + i * size) & 0xFFFFFFFF
        yield headers(case, Fields(ip_id, seq, flags, part))


def c_bytes(data: bytes) -> str:
    return '"' + "".join(f"\\x{b:02x}" for b in data) + '"'


def emit(case: Case) -> tuple[list[str], str]:
    given = headers(case, case.fields)
    lines = [f"static const struct vector_segment {case.name}_segments[] = {{"]
    count = 0
    for s in segments(case):
        lines.append(f"    {{ {c_bytes(s.full)}, {c_bytes(s.partial)}, {s.payload} }},")
        count += 1
    lines.append("};")
    start = transport_offset(case.build(case.fields))
    row = (
        f'    {{ "{case.name}", {c_bytes(given.partial)},\n'
        f"      {len(given.partial)}, {given.payload}, "
        f"{{ 1, {case.gso_type}, 0, {case.gso_size}, {start}, {case.csum_offset} }}, "
        f"{case.name}_segments, {count} }},"
    )
    return lines, row


def main() -> None:
    rows: list[str] = []
    out = sys.stdout
    out.write("/*\n * SPDX-License-Identifier: Apache-2.0\n *\n")
    out.write(" * offload_vectors.h - generated by make_offload_vectors.py; do not edit.\n */\n")
    for case in cases():
        lines, row = emit(case)
        out.write("\n".join(lines) + "\n\n")
        rows.append(row)
    out.write("static const struct vector vectors[] = {\n" + "\n".join(rows) + "\n};\n")


if __name__ == "__main__":
    main()
