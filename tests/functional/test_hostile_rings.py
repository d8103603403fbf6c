# SPDX-License-Identifier: Apache-2.0
"""Guests that lie in their rings (test ids G1..G10): the real dataplane, no polite driver.

The rule: a frame whose chain is malformed is dropped under a name and its
buffer comes back; a ring whose indexes cannot be right fences its own port.
Either way the witnesses on the same worker lose nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from .conftest import Guest, Lab, Witnesses, frame
from .frontend import GuestRam
from .frontend.dirty import DirtyLog
from .frontend.peer import RX, TX
from .frontend.virtq import DESC, INDIRECT, NEXT, WRITE

BROADCAST = b"\xff" * 6
LAYOUTS = ["split", "packed"]
RAM = 8 << 20


@pytest.fixture(params=["plain", "logged"])
def pair(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Guest, Guest]]:
    """A liar and somebody who would receive what it sends; with dirty pages logged as well (L6)."""
    liar, other = lab.guest("liars"), lab.guest("liars")
    liar.send(BROADCAST, [b"hello"])
    other.front.recv_frames(1)
    with contextlib.ExitStack() as logs:
        if request.param == "logged":
            for guest in (liar, other):
                logs.enter_context(DirtyLog(guest.front)).turn_on()
        yield liar, other


def push(guest: Guest, head: int) -> None:
    ring = guest.front.rings[TX]
    ring.put_avail(head)
    ring.publish()
    ring.kick()


def dropped(lab: Lab, guest: Guest, reason: str, count: int = 1) -> None:
    lab.wait(lambda: lab.drops(guest.name).get(reason, 0) >= count, f"a drop called {reason}")
    assert lab.drops(guest.name) == {reason: count}


def still_works(liar: Guest, other: Guest, witnesses: Witnesses) -> None:
    """The port stayed up, and nobody else noticed."""
    assert liar.front.send_frames([frame(other.mac, liar.mac, b"sane again")]) == 1
    assert other.front.recv_frames(1)[0][1][14:24] == b"sane again"
    witnesses.check()


def good_frame(liar: Guest, other: Guest, length: int = 100) -> bytes:
    return bytes(12) + frame(other.mac, liar.mac).ljust(length, b"\xaa")


BAD_BUFFERS: dict[str, Callable[[int], tuple[int, int]]] = {
    "one byte past the end": lambda size: (RAM - size + 1, size),
    "far outside": lambda size: (1 << 40, size),
    "address wraps": lambda size: (2**64 - 8, size),
    "length wraps": lambda size: (RAM - 8, 0xFFFFFFFF),
}


@pytest.mark.parametrize("case", BAD_BUFFERS)
@pytest.mark.parametrize("where", ["first", "second"])
def test_g1_buffer_outside_memory(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str, where: str
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    addr, length = BAD_BUFFERS[case](128)
    good = liar.front.ram.alloc(128)
    liar.front.ram.write(good, good_frame(liar, other))
    if where == "first":
        ring.write_desc(200, addr, length)
    else:
        ring.write_desc(200, good, 112, NEXT, 201)
        ring.write_desc(201, addr, length)
    push(liar, 200)
    assert ring.wait_used(1) == [(200, 0)]
    lab.wait(lambda: bool(lab.drops(liar.name)), "a drop")
    assert set(lab.drops(liar.name)) <= {"chain_addr", "frame_long"}
    still_works(liar, other, witnesses)


def test_g1_buffer_that_ends_exactly_at_the_end(lab: Lab, pair: tuple[Guest, Guest]) -> None:
    liar, other = pair
    data = good_frame(liar, other)
    liar.front.ram.write(RAM - len(data), data)
    liar.front.rings[TX].write_desc(200, RAM - len(data), len(data))
    push(liar, 200)
    assert other.front.recv_frames(1)[0][1] == data[12:]


def test_g1_buffer_across_two_regions(lab: Lab, witnesses: Witnesses) -> None:
    """Adjacent for the guest, apart for us: the bytes must be the guest's."""
    ram = GuestRam(RAM)
    ram.add_region(1 << 20, RAM, 0x7E00_0000_0000)
    liar, other = lab.guest("across", ram=ram, start=False), lab.guest("across")
    liar.front.start(rx_buffers=0)
    body = frame(BROADCAST, liar.mac) + os.urandom(900)
    data = bytes(12) + body
    for cut in (1, 12, 20, 100, 500, len(data) - 1):
        ram.write(RAM - cut, data[:cut])
        ram.write(RAM, data[cut:])
        liar.front.rings[TX].write_desc(200, RAM - cut, len(data))
        push(liar, 200)
        assert other.front.recv_frames(1)[0][1] == body
    # And to receive: a buffer that lies across the border.
    rx = liar.front.rings[RX]
    rx.add([(RAM - 100, 2048, True)])
    rx.publish()
    body = frame(liar.mac, other.mac) + os.urandom(900)
    other.front.send_frames([body])
    ((_, written),) = rx.wait_used(1)
    assert ram.read(RAM - 88, 88) + ram.read(RAM, written - 100) == body
    witnesses.check()


def test_g1_indirect_table_outside_memory(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    for i, (addr, length) in enumerate([(RAM - 16, 32), (1 << 50, 16), (2**64 - 16, 32)]):
        ring.write_desc(200 + i, addr, length, INDIRECT)
        push(liar, 200 + i)
        assert ring.wait_used(1) == [(200 + i, 0)]
    lab.wait(lambda: sum(lab.drops(liar.name).values()) == 3, "three drops")
    assert set(lab.drops(liar.name)) <= {"chain_indirect", "chain_addr"}
    still_works(liar, other, witnesses)


def test_g2_zero_length_descriptor_with_wild_address(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, other = pair
    data = good_frame(liar, other)
    good = liar.front.ram.alloc(128)
    liar.front.ram.write(good, data)
    ring = liar.front.rings[TX]
    ring.write_desc(200, 2**63, 0, NEXT, 201)
    ring.write_desc(201, good, len(data), NEXT, 202)
    ring.write_desc(202, 2**64 - 1, 0)
    push(liar, 200)
    assert ring.wait_used(1) == [(200, 0)]
    arrived = other.front.recv_frames(1, timeout=5, quiet=0.3)
    assert [f for _, f in arrived] == [data[12:]] or set(lab.drops(liar.name)) == {"chain_addr"}
    still_works(liar, other, witnesses)


@pytest.mark.layouts("split")
def test_g3_fields_that_change_while_we_read(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    """A thread flips address, length, flags and next under the switch: only named drops."""
    liar, other = pair
    ring, ram = liar.front.rings[TX], liar.front.ram
    data = good_frame(liar, other, 400)
    good = ram.alloc(512)
    ram.write(good, data)
    sane = DESC.pack(good, len(data), 0, 0)
    lies = [
        DESC.pack(2**63, len(data), 0, 0),
        DESC.pack(good, 0xFFFFFFFF, 0, 0),
        DESC.pack(good, 3, 0, 0),
        DESC.pack(good, len(data), NEXT, 0xFFFF),
        DESC.pack(good, len(data), WRITE, 0),
        DESC.pack(good, 17, INDIRECT, 0),
        DESC.pack(good, len(data), NEXT, 200),
    ]
    stop = threading.Event()

    def flip() -> None:
        i = 0
        while not stop.is_set():
            ram.write(ring.desc + 16 * 200, lies[i % len(lies)])
            ram.write(ring.desc + 16 * 200, sane)
            i += 1

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        done = 0
        for _ in range(300):
            for _ in range(32):
                ring.put_avail(200)
            ring.publish()
            ring.kick()
            done += len(ring.wait_used(32))
            other.front.recv_frames(64, timeout=1, quiet=0.0)
    finally:
        stop.set()
        thread.join()
    assert done == 300 * 32
    assert lab.show(liar.name)["port"]["link"] == "up"
    other.front.recv_frames(10**6, timeout=5, quiet=0.2)
    still_works(liar, other, witnesses)


@pytest.mark.parametrize("total", [*range(13), 25])
def test_g4_chain_shorter_than_header_and_frame(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, total: int
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    ring.write_desc(200, liar.front.ram.alloc(64), total)
    push(liar, 200)
    assert ring.wait_used(1) == [(200, 0)]
    dropped(lab, liar, "hdr_short" if total < 12 else "frame_short")
    still_works(liar, other, witnesses)


def test_g4_header_split_byte_by_byte(lab: Lab, pair: tuple[Guest, Guest]) -> None:
    liar, other = pair
    data = good_frame(liar, other)
    base = liar.front.ram.alloc(128)
    liar.front.ram.write(base, data)
    ring = liar.front.rings[TX]
    for i in range(12):
        ring.write_desc(180 + i, base + i, 1, NEXT, 181 + i)
    ring.write_desc(192, base + 12, len(data) - 12)
    push(liar, 180)
    assert other.front.recv_frames(1)[0][1] == data[12:]


LOOPS: dict[str, tuple[list[tuple[int, int, int]], str]] = {
    # descriptor index, flags, next
    "next outside": ([(200, NEXT, 256)], "chain_next"),
    "next far outside": ([(200, NEXT, 0xFFFF)], "chain_next"),
    "self loop": ([(200, NEXT, 200)], "chain_loop"),
    "two-cycle": ([(200, NEXT, 201), (201, NEXT, 200)], "chain_loop"),
}
MALFORMED: dict[str, tuple[list[tuple[int, int, int]], str]] = {
    "indirect with next": ([(200, INDIRECT | NEXT, 201), (201, 0, 0)], "chain_indirect"),
    "writable": ([(200, WRITE, 0)], "chain_direction"),
}


def comes_back(lab: Lab, liar: Guest, descs: list[tuple[int, int, int]], reason: str) -> None:
    ring = liar.front.rings[TX]
    buffer = liar.front.ram.alloc(64)
    for index, flags, next_ in descs:
        ring.write_desc(index, buffer, 16, flags, next_)
    push(liar, 200)
    assert ring.wait_used(1) == [(200, 0)]
    dropped(lab, liar, reason)


@pytest.mark.layouts("split")
@pytest.mark.parametrize("case", LOOPS)
def test_g5_chains_that_lead_nowhere(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str
) -> None:
    comes_back(lab, pair[0], *LOOPS[case])
    still_works(*pair, witnesses)


@pytest.mark.parametrize("case", MALFORMED)
def test_g5_malformed_chains(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str
) -> None:
    comes_back(lab, pair[0], *MALFORMED[case])
    still_works(*pair, witnesses)


@pytest.mark.layouts("split")
@pytest.mark.parametrize("case", ["loop", "next outside"])
def test_g5_indirect_tables_that_lead_nowhere(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str
) -> None:
    bad_table(lab, pair[0], case)
    still_works(*pair, witnesses)


@pytest.mark.parametrize("case", ["nested", "empty", "odd length"])
def test_g5_malformed_indirect_tables(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str
) -> None:
    bad_table(lab, pair[0], case)
    still_works(*pair, witnesses)


def bad_table(lab: Lab, liar: Guest, case: str) -> None:
    ring, ram = liar.front.rings[TX], liar.front.ram
    table, buffer = ram.alloc(64, 16), ram.alloc(64)
    entries = {
        "loop": [(buffer, 16, NEXT, 1), (buffer, 16, NEXT, 0)],
        "nested": [(buffer, 16, NEXT, 1), (table, 16, INDIRECT, 0)],
        "next outside": [(buffer, 16, NEXT, 2), (buffer, 16, 0, 0)],
        "empty": [],
        "odd length": [(buffer, 16, 0, 0)],
    }[case]
    for i, entry in enumerate(entries):
        ram.write(table + 16 * i, ring.entry(*entry))
    ring.write_desc(200, table, 17 if case == "odd length" else 16 * len(entries), INDIRECT)
    push(liar, 200)
    assert ring.wait_used(1) == [(200, 0)]
    lab.wait(lambda: bool(lab.drops(liar.name)), "a drop")
    assert set(lab.drops(liar.name)) <= {"chain_indirect", "chain_loop", "chain_next"}


@pytest.mark.layouts("split")
@pytest.mark.parametrize("case", ["self loop", "next outside"])
def test_g5_receive_chains_that_lead_nowhere(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str
) -> None:
    bad_receiver(lab, pair[0], case)
    witnesses.check()


@pytest.mark.parametrize("case", ["readable", "outside memory"])
def test_g5_malformed_receive_chains(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, case: str
) -> None:
    bad_receiver(lab, pair[0], case)
    witnesses.check()


def bad_receiver(lab: Lab, sender: Guest, case: str) -> None:
    """The same on the receiving side: the sender and everybody else go on."""
    victim = lab.guest("liars", start=False)
    victim.front.start(rx_buffers=0)
    ring = victim.front.rings[RX]
    buffer = victim.front.ram.alloc(2048)
    addr, flags, next_ = {
        "self loop": (buffer, NEXT | WRITE, 200),
        "next outside": (buffer, NEXT | WRITE, 256),
        "readable": (buffer, 0, 0),
        "outside memory": (1 << 40, WRITE, 0),
    }[case]
    # Buffers so short that even the longest legal chain of them could not hold the frame.
    ring.write_desc(200, addr, 3 if "loop" in case or "next" in case else 2048, flags, next_)
    ring.put_avail(200)
    ring.publish()
    victim.front.send_frames([frame(BROADCAST, victim.mac)])
    sender.front.recv_frames(1)
    for _ in range(3):
        sender.front.send_frames([frame(victim.mac, sender.mac, bytes(900))])
    lab.wait(lambda: sum(lab.drops(victim.name).values()) >= 3, "three frames lost to the liar")
    assert set(lab.drops(victim.name)) <= {"out_chain", "ring_full", "broken", "no_receiver"}
    victim.front.disconnect()


@pytest.mark.layouts("packed")
def test_g5_chain_without_an_end(lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses) -> None:
    """It fills the ring, and where the next one begins nobody knows."""
    liar, _ = pair
    liar.front.rings[TX].write_desc(200, 0x1000, 1, NEXT, 200)
    push(liar, 200)
    lab.fenced(liar.name, "longer than the ring")
    witnesses.check()


def signalled(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


@pytest.mark.layouts("split")
def test_g6_avail_index_too_far_ahead_fences_until_reset(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    ring.publish(ring.avail_idx + ring.size + 1)
    ring.kick()
    lab.fenced(liar.name, "avail")
    lab.wait(lambda: signalled(ring.err_fd), "the front-end hears of it by the err eventfd")
    assert not signalled(liar.front.rings[RX].err_fd)
    witnesses.check()
    other.front.send_frames([frame(liar.mac, other.mac)])
    assert lab.drops(liar.name).get("broken") == 1
    # The guest's driver starts over: both rings stopped, then set up anew on the same connection.
    for index in (RX, TX):
        liar.front.stop_ring(index)
    liar.front.reset()
    for index in (RX, TX):
        liar.front.setup_ring(index)
    liar.front.enable()
    liar.front.sync()
    liar.front.post_rx(16)
    assert lab.show(liar.name)["port"]["link"] == "up"
    assert liar.front.send_frames([frame(other.mac, liar.mac, b"sane again")]) == 1
    assert other.front.recv_frames(1)[0][1][14:24] == b"sane again"


def test_g6_more_pending_than_the_ring_is_long_takes_no_memory(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    """A full ring of one frame, again and again: exactly what was offered comes out."""
    liar, other = pair
    ring = liar.front.rings[TX]
    data = good_frame(liar, other, 60)
    base = liar.front.ram.alloc(128)
    liar.front.ram.write(base, data)
    ring.write_desc(200, base, len(data))
    for _ in range(20):
        for _ in range(ring.size):
            ring.put_avail(200)
        ring.publish()
        ring.kick()
        assert len(ring.wait_used(ring.size)) == ring.size
        other.front.recv_frames(10**6, timeout=2, quiet=0.02)
    still_works(liar, other, witnesses)


def test_g7_frame_longer_than_anything(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    base = liar.front.ram.alloc(1 << 20)
    liar.front.ram.write(base, good_frame(liar, other))
    for i, length in enumerate((1515 + 12, 65563 + 12, 1 << 20)):
        ring.write_desc(200 + i, base, length)
        push(liar, 200 + i)
        assert ring.wait_used(1) == [(200 + i, 0)]
    dropped(lab, liar, "frame_long", 3)
    still_works(liar, other, witnesses)


def test_g8_four_gigabyte_descriptors_cost_nothing(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    for i in range(64):
        ring.write_desc(100 + i, 0x1000, 0xFFFFFFFF, NEXT, 101 + i)
    ring.write_desc(164, 0x1000, 0xFFFFFFFF)
    count = ring.size // 65 if lab.packed else 200  # a packed ring holds the descriptors of each
    for _ in range(count):
        ring.put_avail(100)
    ring.publish()
    ring.kick()
    assert len(ring.wait_used(count)) == count
    lab.wait(lambda: sum(lab.drops(liar.name).values()) == count, f"{count} drops")
    assert set(lab.drops(liar.name)) <= {"chain_addr", "frame_long"}
    still_works(liar, other, witnesses)


def test_g9_the_same_head_again_and_again(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, other = pair
    ring = liar.front.rings[TX]
    data = good_frame(liar, other)
    base = liar.front.ram.alloc(128)
    liar.front.ram.write(base, data)
    ring.write_desc(200, base, len(data))
    for _ in range(40):
        ring.put_avail(200)
    ring.publish()
    ring.kick()
    assert ring.wait_used(40) == [(200, 0)] * 40
    assert [f for _, f in other.front.recv_frames(40)] == [data[12:]] * 40
    still_works(liar, other, witnesses)


@pytest.mark.layouts("split")
def test_g9_head_outside_the_ring_fences(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    liar, _ = pair
    push(liar, 256)
    lab.fenced(liar.name, "avail")
    witnesses.check()


def test_g10_full_bursts_of_jumbo_frames(lab: Lab, witnesses: Witnesses) -> None:
    a = lab.guest("g10", ram=GuestRam(64 << 20), mtu=9000)
    b = lab.guest("g10", ram=GuestRam(64 << 20), mtu=9000, start=False)
    b.front.start(rx_buffers=250, buffer_size=9600)
    b.send(BROADCAST, [b"hello"])
    a.front.recv_frames(1)
    frames = [b.mac + a.mac + b"\x88\xb5" + os.urandom(8000 + i) for i in range(100)]
    assert a.front.send_frames(frames) == 100
    assert [f for _, f in b.front.recv_frames(100)] == frames
    witnesses.check()


def test_n1_lies_in_the_virtio_net_header(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    """flags, gso_type, hdr_len, gso_size, csum_start, csum_offset against a frame of 100 bytes."""
    liar, other = pair
    cases = {
        "vnet_csum": [
            (1, 0, 0, 0, 99, 0),
            (1, 0, 0, 0, 98, 1),
            (1, 0, 0, 0, 0xFFFF, 0xFFFF),
            (1, 0, 0, 0, 40, 0xFFFF),
            (1, 0, 0, 0, 0, 0),
        ],
        "vnet_gso": [
            (1, 1, 54, 0, 34, 16),
            (1, 4, 54, 1, 34, 16),
            (0, 1, 54, 1400, 34, 16),
            (1, 3, 54, 1400, 34, 6),
            (1, 2, 54, 1400, 34, 16),
            (1, 0x7F, 54, 1400, 34, 16),
        ],
    }
    for reason, headers in cases.items():
        for fields in headers:
            header = struct.pack("<BBHHHHH", *fields, 0)
            liar.front.send_frames([frame(other.mac, liar.mac).ljust(100, b"\0")], header=header)
        dropped = lab.settled_drops(liar.name, reason, len(headers))
        assert dropped == len(headers), reason
    assert set(lab.drops(liar.name)) == set(cases)
    still_works(liar, other, witnesses)


def test_m7_ring_sizes_legal_and_not(lab: Lab, witnesses: Witnesses) -> None:
    for size in (2, 4, 1024, 4096):
        a = lab.guest("sizes7", ring_size=size, start=False)
        b = lab.guest("sizes7")
        a.front.start(rx_buffers=min(size, 32))
        b.send(BROADCAST, [b"in"])
        assert len(a.front.recv_frames(1)) == 1
        assert a.send(BROADCAST, [b"out"]) == 1
        assert b.front.recv_frames(1)[0][1][14:17] == b"out"
        a.front.disconnect()
        b.front.disconnect()
    witnesses.check()
