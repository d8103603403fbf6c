# SPDX-License-Identifier: Apache-2.0
"""Random frames with their virtio-net headers: few addresses and tags, so that they meet."""

from __future__ import annotations

import random
import struct

from . import offloads
from .model import Port

HOSTS = [bytes([0x52, 0x54, 0, 0, 0, n]) for n in range(8)]
GROUPS = [b"\xff" * 6, bytes.fromhex("3333000000fb"), bytes.fromhex("01005e000001")]
ODD = [bytes.fromhex("0180c200000e"), bytes.fromhex("0180c2000010"), bytes(6)]
VIDS = [0, 1, 5, 5, 5, 7, 100, 4094, 4095]


def chain(rng: random.Random, port: Port) -> bytes:
    """A virtio-net header and a frame, now and then malformed."""
    if rng.random() < 0.03:
        return rng.randbytes(rng.randrange(1, port.hdr_len + 14))
    kind, max_frame = rng.choice(_kinds(rng, port)), port.max_frame
    tags = rng.choice((0, 0, 0, 0, 1, 1, 2))
    front = _addresses(rng, port.id) + b"".join(_tag(rng) for _ in range(tags))
    if kind == "plain":
        size = rng.choice((0, 46, 60, rng.randrange(1500), max_frame, max_frame - len(front) - 2,
                           max_frame - len(front) - 1))
        wire, data = bytes(10), front + b"\x88\xb5" + rng.randbytes(max(size, 0))
    elif kind == "csum":
        data = front + b"\x88\xb5" + rng.randbytes(rng.randrange(40, 1400))
        start = rng.randrange(len(front) + 2, len(data) - 2)
        offset = rng.randrange(len(data) - start - 1)
        wire = offloads.WIRE.pack(offloads.NEEDS_CSUM, 0, rng.choice((0, start)), 0, start, offset)
    elif kind == "lie":
        data = front + b"\x08\x00" + rng.randbytes(rng.randrange(20, 400))
        wire = offloads.WIRE.pack(rng.randrange(8), rng.choice((0, 1, 3, 4, 0x81, 9)),
                                  *(rng.choice((0, 14, 34, 60, 1448, 65535)) for _ in range(4)))
    else:
        wire, data = _tcp(rng, front, kind == "tcp6")
    # What stands in num_buffers means nothing in this direction.
    return wire + rng.randbytes(port.hdr_len - 10) + data


def _kinds(rng: random.Random, port: Port) -> list[str]:
    """Mostly what the port may ask for."""
    needs = {"csum": offloads.CSUM_OK, "tcp4": offloads.CSUM_OK | offloads.TSO4,
             "tcp6": offloads.CSUM_OK | offloads.TSO6}
    legal = [kind for kind, bits in needs.items() if not bits & ~port.may_ask]
    return ["lie", *needs] if rng.random() < 0.08 else ["plain", "plain", *legal]


def _addresses(rng: random.Random, port_id: int) -> bytes:
    target = rng.choice(rng.choice((HOSTS, HOSTS, HOSTS, HOSTS, GROUPS)))
    own = HOSTS[port_id * 2 : port_id * 2 + 2]
    if rng.random() < 0.05:
        target = rng.choice(ODD)
    source = rng.choice(own if rng.random() < 0.85 else [*HOSTS, GROUPS[0], bytes(6)])
    return target + source


def _tag(rng: random.Random) -> bytes:
    return struct.pack(">HH", 0x8100, rng.randrange(16) << 12 | rng.choice(VIDS))


def _tcp(rng: random.Random, front: bytes, six: bool) -> tuple[bytes, bytes]:
    """A TCP segment that asks to be cut, or only to be summed up."""
    options = 4 * rng.choice((0, 3))
    body = rng.randbytes(rng.choice((0, 1, 100, rng.randrange(3000), rng.randrange(30000))))
    tcp = struct.pack(">HHIIBBHHH", 1234, 80, rng.getrandbits(32), 7, (20 + options) // 4 << 4,
                      rng.getrandbits(8), 1000, 0, 0) + bytes(options)
    if six:
        ip = struct.pack(">IHBB", 0x60000000, (len(tcp) + len(body)) & 0xFFFF, 6, 64)
        ip += rng.randbytes(32)
    else:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, (20 + len(tcp) + len(body)) & 0xFFFF,
                         rng.getrandbits(16), 0x4000, 64, 6, 0) + rng.randbytes(8)
    start = len(front) + 2 + len(ip)
    cut = rng.random() < 0.8
    gso = (offloads.TCPV6 if six else offloads.TCPV4) | (offloads.ECN if rng.random() < 0.1 else 0)
    size = rng.choice((48, 536, 1448, 1460, 9000))
    wire = offloads.WIRE.pack(offloads.NEEDS_CSUM, gso if cut else 0,
                              rng.choice((0, start + 20 + options, 9999)), size if cut else 0,
                              start, 16)
    return wire, front + (b"\x86\xdd" if six else b"\x08\x00") + ip + tcp + body
