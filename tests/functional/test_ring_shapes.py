# SPDX-License-Identifier: Apache-2.0
"""Rings of every size, buffers of every shape, frames from 60 bytes to 64 KiB with segmentation.

What the device writes beside the frame is checked too: num_buffers, used
lengths, that every buffer but the last is full, and that nothing is written
beyond them (virtio 1.2 §5.1.6.4).
"""

from __future__ import annotations

import math
import os
import struct

import pytest

from .conftest import Guest, Lab, frame
from .frontend import GuestRam, Req
from .frontend import messages as m
from .frontend.peer import POLITE, RX, TX

BROADCAST = b"\xff" * 6
JUMBO = 9216  # bytes of the longest frame with an MTU of 9202
GSO_SIZE = 1448
UNTOUCHED = 0xA5

BASE = POLITE & ~(m.F_EVENT_IDX | m.F_MRG_RXBUF | m.F_VERSION_1)
COMBINATIONS = {
    "modern, mergeable": m.F_VERSION_1 | m.F_MRG_RXBUF,
    "modern": m.F_VERSION_1,
    "legacy, mergeable": m.F_MRG_RXBUF,
    "legacy": 0,
}


def tcp_frame(dst: bytes, src: bytes, payload: bytes) -> bytes:
    """IPv4 and TCP, as a sender leaves it that wants checksum and segments from the device."""
    length = 40 + len(payload)
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, length, 1, 0x4000, 64, 6, 0, 10 << 24, 11 << 24)
    tcp = struct.pack(">HHIIBBHHH", 1234, 80, 1, 1, 0x50, 0x10, 500, 0, 0)
    return dst + src + b"\x08\x00" + ip + tcp + payload


def tcp_header(length: int) -> bytes:
    """The virtio-net header of a TCP frame to be cut into segments; num_buffers is zero."""
    assert length > 54 + GSO_SIZE
    return struct.pack("<BBHHHHH", 1, 1, 54, GSO_SIZE, 34, 16, 0)


class Receiver:
    """Posts buffers one by one and looks at all that a frame does to them."""

    def __init__(self, guest: Guest, size: int, count: int) -> None:
        self.front, self.size = guest.front, size
        self.buffers: dict[int, int] = {}
        ring, ram = self.front.rings[RX], self.front.ram
        for _ in range(count):
            gpa = ram.alloc(size + 16, 1)  # of any alignment, with a guard behind it
            ram.write(gpa, bytes([UNTOUCHED]) * (size + 16))
            self.buffers[ring.add([(gpa, size, True)])] = gpa
        ring.publish()
        ring.kick()

    def take(self, expected: int, hdr_len: int, length: int) -> tuple[bytes, bytes]:
        """Header and frame out of ``expected`` buffers, none of them written past its end."""
        done = self.front.rings[RX].wait_used(expected)
        assert len(done) == expected
        data = b""
        for i, (head, written) in enumerate(done):
            gpa = self.buffers.pop(head)
            last = i == expected - 1
            assert written == (hdr_len + length - i * self.size if last else self.size)
            behind = self.front.ram.read(gpa + written, self.size + 16 - written)
            assert behind == bytes([UNTOUCHED]) * len(behind)
            data += self.front.ram.read(gpa, written)
        return data[:hdr_len], data[hdr_len:]


def ready(lab: Lab, wanted: int, ring_size: int) -> Guest:
    guest = lab.guest(
        "shapes", ram=GuestRam(32 << 20), wanted=wanted, ring_size=ring_size, start=False, mtu=9202
    )
    guest.front.start(rx_buffers=0)
    return guest


@pytest.fixture(scope="module")
def sender(lab_module: Lab) -> Guest:
    guest = lab_module.guest("shapes", ram=GuestRam(32 << 20), start=False, mtu=9202)
    guest.front.start(rx_buffers=8)
    return guest


@pytest.mark.parametrize("size", [13, 14, 64, 1001, 1526, 4096, 9228, 65549 + 12])
@pytest.mark.parametrize("features", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_num_buffers(lab: Lab, sender: Guest, features: int, size: int) -> None:
    """Every combination of layouts, with buffers that a frame fits into, and that it does not."""
    guest = ready(lab, BASE | features, 8192)
    hdr_len = 12 if features else 10
    lengths = (60, 1514, JUMBO, 65549)
    room = sum(math.ceil((hdr_len + n) / size) for n in lengths)
    receiver = Receiver(guest, size, min(room + 8, 8192) if features & m.F_MRG_RXBUF else 8)
    left = 0
    for length in lengths:
        if length > JUMBO:
            sent = tcp_frame(guest.mac, sender.mac, os.urandom(length - 54))
            header = tcp_header(length)
        else:
            sent = frame(guest.mac, sender.mac, os.urandom(length - 14))
            header = bytes(12)
        assert sender.front.send_frames([sent], header=header) == 1
        needed = math.ceil((hdr_len + length) / size)
        if needed > 1 and not features & m.F_MRG_RXBUF:
            left += 1
            assert lab.settled_drops(guest.name, "ring_small", left) == left
            continue
        got, data = receiver.take(needed, hdr_len, length)
        assert data == sent
        assert got[:10] == header[:10], "nothing was lost of what the sender asked for"
        if hdr_len == 12:  # 5.1.6.4.1: 1 without mergeable buffers
            assert struct.unpack("<H", got[10:])[0] == needed
    assert lab.drops(guest.name) == ({"ring_small": left} if left else {})


@pytest.mark.parametrize("power", range(1, 16))
def test_every_ring_size(lab: Lab, sender: Guest, power: int) -> None:
    """2 to 32768, with buffers in all of its descriptors, several times around the short ones."""
    size = 1 << power
    guest = ready(lab, BASE | m.F_VERSION_1, size)
    front, ring = guest.front, guest.front.rings[RX]
    gpa = front.ram.alloc(2048)
    for _ in range(size):
        front.rx_buffers[ring.add([(gpa, 2048, True)])] = (gpa, 2048)
    ring.publish()
    ring.kick()
    for i in range(20):
        sent = frame(guest.mac, sender.mac, bytes([i]) * 900)
        assert sender.front.send_frames([sent]) == 1
        assert [f for _, f in front.recv_frames(1)] == [sent]
        back = frame(sender.mac, guest.mac, bytes([i]) * 300)
        assert front.send_frames([back]) == 1
        assert [f for _, f in sender.front.recv_frames(1)] == [back]
    assert [r["size"] for r in lab.show(guest.name)["rings"]] == [size, size]
    assert front.stop_ring(TX) == 20
    assert lab.drops(guest.name) == {}


@pytest.mark.parametrize("size", [0, 1, 3, 32767, 32769, 65536, 1 << 31])
def test_m7_ring_sizes_that_are_refused(lab: Lab, size: int) -> None:
    guest = lab.guest("shapes", start=False)
    guest.front.connect()
    guest.front.negotiate()
    assert guest.front.acked(Req.SET_VRING_NUM, m.pack_state(RX, size)) != 0


def test_mtu_is_one_number(lab: Lab) -> None:
    """What the API says, what a VMM may tell its guest, and what passes."""
    guest, other = lab.guest("mtu"), lab.guest("mtu", mtu=9202)
    assert lab.show(guest.name)["port"]["mtu"] == 1500
    assert guest.front.ask_u64(Req.GET_FEATURES) & m.F_MTU
    for mtu in (1500, 9202, 1280):
        lab.client.port_set(guest.name, {"mtu": mtu})
        assert guest.front.acked(Req.NET_SET_MTU, struct.pack("<Q", mtu)) == 0
        assert guest.front.acked(Req.NET_SET_MTU, struct.pack("<Q", mtu + 1)) != 0
        longest = frame(BROADCAST, other.mac, os.urandom(mtu))
        other.front.send_frames([longest[:-1], longest] + [longest + b"x"] * (mtu < 9202))
        assert [f for _, f in guest.front.recv_frames(2)] == [longest[:-1], longest]
        longest = frame(BROADCAST, guest.mac, os.urandom(mtu))
        guest.front.send_frames([longest + b"x", longest])
        assert [f for _, f in other.front.recv_frames(1)] == [longest]
    assert lab.drops(guest.name) == {"mtu": 2, "frame_long": 3}
