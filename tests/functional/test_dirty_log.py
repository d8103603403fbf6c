# SPDX-License-Identifier: Apache-2.0
"""Live migration as a front-end sees it: dirty pages and announcements, polite and not (L6, M3).

Memory is compared as a whole: the test knows which pages differ, and asks for
the bits of exactly those.  Whole guests migrate in test_migration.py.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

import pytest

from testbed.daemons import Switch

from .conftest import Guest, Lab, Stream, Witnesses, frame
from .frontend import messages as m
from .frontend.dirty import DirtyLog
from .frontend.peer import RX, TX, PeerClosed
from .frontend.virtq import make_eventfd

KILLS = True
BROADCAST = b"\xff" * 6


@pytest.fixture
def lab(switch: Switch) -> Iterator[Lab]:
    """Without the check that no process was replaced: some are killed here."""
    own = Lab(switch)
    yield own
    own.close()


@pytest.fixture
def pair(lab: Lab) -> tuple[Guest, Guest]:
    a, b = lab.guest("migrating"), lab.guest("migrating")
    for src, dst in ((a, b), (b, a)):
        src.send(BROADCAST, [b"hello"])
        dst.front.recv_frames(1)
    return a, b


def receive_some(a: Guest, b: Guest, tag: bytes, count: int = 20) -> None:
    """Frames from a into b, without b's driver writing anything while they come."""
    payloads = [tag + bytes([i]) + os.urandom(1200) for i in range(count)]
    a.send(b, payloads)
    ring = b.front.rings[RX]
    end = time.monotonic() + 30
    while (ring.used_idx() - ring.last_used) & 0xFFFF < count:
        assert time.monotonic() < end, "the frames do not arrive"


def used_pages(guest: Guest, index: int) -> set[int]:
    ring = guest.front.rings[index]
    return set(range(ring.used // 4096, (ring.used + 4 + 8 * ring.size) // 4096 + 1))


@pytest.mark.timeout(60)
def test_every_changed_page_is_marked(pair: tuple[Guest, Guest], witnesses: Witnesses) -> None:
    a, b = pair
    with DirtyLog(b.front) as log:
        log.turn_on()
        for i in range(10):
            log.clear()
            before = log.snapshot()
            receive_some(a, b, b"round%d" % i)
            changed = log.changed(before)
            assert len(changed) >= 10
            assert changed <= log.dirty()
            assert len(log.dirty()) <= len(changed) + 4, "it marks what it writes, not everything"
            assert used_pages(b, RX) & log.dirty()
            b.front.recv_frames(20)
        # The transmit ring: used elements come back.
        log.clear()
        b.send(a, [b"answer"])
        assert used_pages(b, TX) & log.dirty()
        a.front.recv_frames(1)
        log.turn_off()
        log.clear()
        receive_some(a, b, b"off")
        assert log.dirty() == set()
    witnesses.check()


def test_on_and_off_under_traffic(lab: Lab, pair: tuple[Guest, Guest]) -> None:
    """No frame is lost by it, and none comes twice or late."""
    a, b = pair
    with DirtyLog(b.front) as log, Stream(a, b) as stream:
        for i in range(15):
            goal = stream.sent + 64
            lab.wait(lambda goal=goal: stream.beyond(goal), "traffic")  # type: ignore[misc]
            log.turn_on() if i % 2 == 0 else log.turn_off()
            assert lab.show(b.name)["port"]["link"] == "up"
        log.turn_off()
    assert stream.arrived == list(range(stream.sent))


def test_copy_under_traffic(pair: tuple[Guest, Guest]) -> None:
    """What a migration does, in rounds: the copy is the memory at the end."""
    a, b = pair
    ram = b.front.ram.regions[0]
    with DirtyLog(b.front) as log:
        log.turn_on()
        copy = bytearray(ram.map[:])

        def collect() -> None:
            pages = log.dirty()
            log.clear()  # nobody else is setting bits: a waits for its buffers in send()
            for page in pages:
                copy[page * 4096 : page * 4096 + 4096] = ram.map[page * 4096 : page * 4096 + 4096]

        for i in range(20):
            snapshot = bytes(ram.map[:])
            receive_some(a, b, b"copy%d" % i)
            pages = [slice(at, at + 4096) for at in range(0, len(snapshot), 4096)]
            differs = [at for at in pages if ram.map[at] != snapshot[at]]
            collect()
            for at in differs:
                assert copy[at] == ram.map[at]
            b.front.recv_frames(20)


@pytest.mark.parametrize("victim", ["dataplane", "daemon"])
def test_killed_while_logging(
    switch: Switch, lab: Lab, pair: tuple[Guest, Guest], victim: str
) -> None:
    a, b = pair
    with DirtyLog(b.front) as log:
        log.turn_on()
        receive_some(a, b, b"before")
        b.front.recv_frames(20)
        log.clear()
        if victim == "dataplane":
            switch.wait_replaced(switch.kill_dataplane())
            switch.wait_link(b.name)
            lab.wait(lambda: bool(used_pages(b, RX) <= log.dirty()), "the whole used ring marked")
        else:
            lab.settle()
            switch.restart_daemon()
        log.clear()
        before = log.snapshot()
        receive_some(a, b, b"after")
        changed = log.changed(before)
        assert changed <= log.dirty()
        assert len(changed) >= 10
        b.front.recv_frames(20)
        # The next uswitchd or dataplane can also switch it off.
        log.turn_off()
        log.clear()
        receive_some(a, b, b"off")
        assert log.dirty() == set()


def test_get_vring_base_is_the_last_write(pair: tuple[Guest, Guest]) -> None:
    """Under full traffic: when a ring's base is told, its memory and its log stand still."""
    a, b = pair
    with DirtyLog(b.front) as log:
        log.turn_on()
        for _ in range(5):
            n = a.front.send_frames(
                [frame(b.mac, a.mac, os.urandom(500)) for _ in range(64)], wait=False
            )
            b.front.stop_ring(RX)
            log.clear()
            before = log.snapshot()
            a.front.reap_tx(n)
            assert log.changed(before) == set()
            # The other ring goes on; a worker that goes to sleep asks there for a kick.
            assert log.dirty() <= used_pages(b, TX)
            base = b.front.rings[RX].used_idx()
            b.front.setup_ring(RX, base)
            assert log.set_ring(RX, True) == 0
            b.front.recv_frames(64, timeout=0.5, quiet=0.1)


def test_log_truncated_under_traffic(lab: Lab, pair: tuple[Guest, Guest],
                                     witnesses: Witnesses) -> None:  # fmt: skip
    a, b = pair
    with DirtyLog(b.front) as log:
        log.turn_on()
        os.ftruncate(log.fd, 0)
        a.send(b, [b"into the void"])
        lab.fenced(b.name, "log of dirty pages")
        witnesses.check()
        os.ftruncate(log.fd, log.size)


CORNERS = [0, 1, 4095, 4096, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@pytest.mark.parametrize("size", CORNERS)
def test_m3_corner_pairs(lab: Lab, witnesses: Witnesses, size: int) -> None:
    """Sizes and offsets at the edges: the session ends, or they lie in the file."""
    for offset in CORNERS:
        guest = lab.guest("m3")
        with DirtyLog(guest.front) as log:
            os.ftruncate(log.fd, 4096)
            payload = struct.pack("<QQ", size, offset)
            if size and size + offset <= 4096:
                guest.front.ask(m.Req.SET_LOG_BASE, payload, [log.fd])
                continue
            with pytest.raises(PeerClosed):
                guest.front.ask(m.Req.SET_LOG_BASE, payload, [log.fd])
    witnesses.check()


def test_f1_what_is_no_log(lab: Lab, witnesses: Witnesses) -> None:
    read, write = os.pipe()
    kinds = [make_eventfd(), read, write, os.open("/dev/zero", os.O_RDWR),
             os.open("/proc/self/exe", os.O_RDONLY)]  # fmt: skip
    for fd in kinds:
        guest = lab.guest("f1")
        with pytest.raises(PeerClosed):
            guest.front.ask(m.Req.SET_LOG_BASE, struct.pack("<QQ", 256, 0), [fd])
        os.close(fd)
    witnesses.check()


def test_a_log_too_small_is_refused(pair: tuple[Guest, Guest]) -> None:
    _, b = pair
    with DirtyLog(b.front) as log:
        log.set_base(log.size - 1)
        assert log.set_features(True) == 1
        log.set_base()
        assert log.set_features(True) == 0
        top = log.pages * 4096 - (6 + 8 * b.front.rings[RX].size)
        assert log.set_ring(RX, True, top) == 0
        assert log.set_ring(RX, True, top + 1) == 1
        assert log.set_ring(RX, True, 2**64 - 1) == 1


# ---- announcements ----


def announce(guest: Guest, mac: bytes) -> int:
    return guest.front.acked(m.Req.SEND_RARP, mac + b"\0\0")


def rarp(mac: bytes) -> bytes:
    body = b"\x80\x35\0\1\x08\0\6\4\0\3" + mac + bytes(4) + mac + bytes(4)
    return (BROADCAST + mac + body).ljust(60, b"\0")


def test_rarp_moves_the_address(lab: Lab, witnesses: Witnesses) -> None:
    """A frame from the port in the guest's name: everybody in the segment sees it and learns."""
    here, there, peer = (lab.guest("rarp") for _ in range(3))
    here.send(BROADCAST, [b"I am here"])
    peer.front.recv_frames(1)
    there.front.recv_frames(1)
    assert announce(there, here.mac) == 0
    assert [f for _, f in peer.front.recv_frames(1)] == [rarp(here.mac)]
    assert [f for _, f in here.front.recv_frames(1)] == [rarp(here.mac)]
    peer.send(here.mac, [b"follow me"])
    assert there.front.recv_frames(1)[0][1][14:23] == b"follow me"
    assert here.front.recv_frames(1, timeout=1, quiet=0.2) == []
    witnesses.check()


def test_rarp_stays_in_its_segment(lab: Lab) -> None:
    """Untagged, as the guest's own would be; a port that is cut off announces nothing."""
    trunk = lab.guest("native", trunk={5: "other"})
    native, other = lab.guest("native"), lab.guest("other")
    assert announce(trunk, trunk.mac) == 0
    assert [f for _, f in native.front.recv_frames(1)] == [rarp(trunk.mac)]
    assert other.front.recv_frames(1, timeout=1, quiet=0.2) == []
    cut_off = lab.guest(None)
    assert announce(cut_off, cut_off.mac) == 0
    lab.settled_drops(cut_off.name, "no_segment", 1)


@pytest.mark.parametrize("mac", [bytes(6), BROADCAST, b"\1\0\x5e\0\0\1"])
def test_rarp_for_nobody(pair: tuple[Guest, Guest], mac: bytes) -> None:
    a, b = pair
    assert announce(a, mac) == 1
    assert a.send(b, [b"still here"]) == 1


def test_rarp_does_not_take_a_pinned_address(lab: Lab, pair: tuple[Guest, Guest]) -> None:
    a, b = pair
    owner = lab.guest("migrating", macs=["52:54:00:aa:bb:cc"])
    pinned = bytes.fromhex("525400aabbcc")
    announce(a, pinned)
    b.front.recv_frames(1, timeout=2, quiet=0.2)
    b.send(pinned, [b"for the owner"])
    got = [f[14:27] for _, f in owner.front.recv_frames(8, timeout=2, quiet=0.3)]
    assert b"for the owner" in got


def test_a_pinned_address_follows_its_guest(lab: Lab, pair: tuple[Guest, Guest]) -> None:
    """Out of the port that its guest leaves: as soon as its rings have stopped with its memory
    copied, whoever announces it has it.  With a guest it is pinned again."""
    peer, there = pair
    here = lab.guest("migrating", macs=["52:54:00:aa:bb:cc"])
    pinned = bytes.fromhex("525400aabbcc")

    def who_gets(text: bytes) -> list[Guest]:
        announce(there, pinned)
        peer.send(pinned, [text])
        return [one for one in (here, there)
                if any(text in frame for _, frame in one.front.recv_frames(8, timeout=2, quiet=0.3))
                ]  # fmt: skip

    assert who_gets(b"it is pinned") == [here]
    with DirtyLog(here.front) as log:
        log.turn_on()
        assert who_gets(b"it is copied") == [here]
        bases = [here.front.stop_ring(ring) for ring in (RX, TX)]
        assert who_gets(b"it has left") == [there]
        log.turn_off()
        for ring, base in zip((RX, TX), bases, strict=True):
            here.front.setup_ring(ring, base)
        here.front.enable()
        here.front.sync()
        assert who_gets(b"it is back") == [here]


def test_rarp_flood(lab: Lab, witnesses: Witnesses) -> None:
    """10^4 of them: charged to the port's own flooding budget, and nobody else notices."""
    noisy = lab.guest("noise")
    for i in range(10_000):
        noisy.front.send(m.Req.SEND_RARP, b"\x52\x54" + struct.pack(">I", i) + b"\0\0")
        if i % 100 == 0:
            noisy.front.sync()
    noisy.front.sync()
    witnesses.check()
    assert lab.show(noisy.name)["port"]["link"] == "up"
