# SPDX-License-Identifier: Apache-2.0
"""Rings and ports that come and go, alone and under traffic (test ids L1..L9, R2, R3)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import struct
import threading
import time

import pytest

from .conftest import Guest, Lab, Stream, Witnesses, frame
from .frontend import PeerClosed, Req, pack_state
from .frontend import messages as m
from .frontend.peer import RX, TX

BROADCAST = b"\xff" * 6
LAYOUTS = ["split", "packed"]


@pytest.fixture
def pair(lab: Lab) -> tuple[Guest, Guest]:
    a, b = lab.guest("life"), lab.guest("life")
    b.send(BROADCAST, [b"hello"])
    assert len(a.front.recv_frames(1)) == 1
    return a, b


def test_l1_harmless_messages_under_traffic_cost_no_frame(
    pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    """What QEMU sends to a running device: call fds, memory tables, features, status."""
    a, b = pair
    with Stream(a, b) as stream:
        for i in range(60):
            for guest in (a, b):
                front = guest.front
                for ring in (RX, TX):
                    fd = front.rings[ring].call_fd
                    front.send(Req.SET_VRING_CALL, struct.pack("<Q", ring), [fd])
                front.set_mem_table()
                front.send(Req.SET_FEATURES, struct.pack("<Q", front.features))
                front.send(Req.SET_STATUS, struct.pack("<Q", m.STATUS_DRIVER_OK))
                place = (1 << 33) + (i << 20)
                more = front.ram.add_region(1 << 16, place, 0x6000_0000_0000 + place)
                region = bytes(8) + m.pack_region(more.gpa, more.size, more.uva, 0)
                assert front.acked(Req.ADD_MEM_REG, region, [more.fd]) == 0
                assert front.acked(Req.REM_MEM_REG, region) == 0
                front.ram.regions.pop().close()
    assert stream.arrived == list(range(stream.sent))
    assert stream.sent > 100
    witnesses.check()


def test_l1_rings_stopped_and_started_under_traffic(
    pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    """A transmit ring stopped in mid-stream goes on where it was: nothing lost, nothing twice."""
    a, b = pair
    with Stream(a, b) as stream:
        for _ in range(40):
            base = a.front.stop_ring(TX)
            a.front.setup_ring(TX, base=base)
            a.front.enable(rings=(TX,))
            a.front.enable(False, rings=(TX,))
            a.front.enable(rings=(TX,))
            a.front.sync()
    assert stream.arrived == list(range(stream.sent))
    witnesses.check()


def test_l2_many_sessions_leave_nothing(lab: Lab, witnesses: Witnesses) -> None:
    guest = lab.guest("l2", start=False)
    front = guest.front
    for _ in range(150):
        front.reset()
        front.start(rx_buffers=4)
        assert guest.send(BROADCAST, [b"x"]) == 1
        front.disconnect()
    lab.wait(lambda: lab.show(guest.name)["port"]["link"] == "waiting", "the last session ended")
    assert lab.show(guest.name)["sessions"] == 150
    witnesses.check()


def test_l5_kick_between_state_changes_is_not_lost(pair: tuple[Guest, Guest]) -> None:
    """A frame made available while its ring is disabled or stopped leaves without another kick."""
    a, b = pair
    for how in ("disabled", "stopped") * 10:
        base = 0
        if how == "disabled":
            a.front.enable(False, rings=(TX,))
            a.front.sync()
        else:
            base = a.front.stop_ring(TX)
        assert a.front.send_frames([frame(b.mac, a.mac, how.encode())], wait=False) == 1
        assert b.front.recv_frames(1, timeout=5, quiet=0.02) == []
        if how == "stopped":
            a.front.setup_ring(TX, base=base)
        a.front.enable(rings=(TX,))
        assert b.front.recv_frames(1)[0][1][14 : 14 + len(how)] == how.encode()
        assert len(a.front.reap_tx(1)) == 1


def test_l7_plug_and_unplug_cost_others_no_frame(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    a, b = pair
    with Stream(a, b) as stream:
        for _ in range(15):
            visitor = lab.guest("visitors", trunk={100: "life"})
            visitor.send(BROADCAST, [b"hi"], vid=100)
            visitor.front.close()
            lab.client.port_delete(visitor.name)
            lab.forget(visitor)
    assert stream.arrived == list(range(stream.sent))
    witnesses.check()


@pytest.mark.layouts("split")
def test_l8_base_is_honoured_across_the_wrap(lab: Lab) -> None:
    """Rings that start near 2^16, as after a long life: indexes wrap, frames flow."""
    a, b = lab.guest("l8", start=False), lab.guest("l8")
    front = a.front.connect()
    front.negotiate()
    front.set_mem_table()
    for index in (RX, TX):
        ring = front.rings[index]
        ring.avail_idx = ring.last_used = 65530
        ring.publish()
        front.ram.write(ring.used + 2, struct.pack("<H", 65530))
        front.setup_ring(index, base=65530)
    front.enable()
    front.sync()
    front.post_rx(64)
    for i in range(40):
        assert a.send(BROADCAST, [bytes([i])]) == 1
        assert b.send(BROADCAST, [bytes([i])]) == 1
    assert len(a.front.recv_frames(40)) == 40
    assert len(b.front.recv_frames(40)) == 40
    assert front.stop_ring(TX) == (65530 + 40) & 0xFFFF


def test_l8_base_that_cannot_be(lab: Lab, witnesses: Witnesses) -> None:
    """A split ring's is believed until the ring is looked at; a packed ring has no such place."""
    a = lab.guest("l8", start=False)
    front = a.front.connect()
    front.negotiate()
    front.set_mem_table()
    for index in (RX, TX):
        front.setup_ring(index, base=12345)
    front.enable()
    front.rings[TX].kick()
    if lab.packed:
        lab.wait(lambda: "does not start" in lab.show(a.name)["port"]["reason"], "a reason")
        assert lab.show(a.name)["port"]["link"] != "up"
    else:
        lab.wait(lambda: lab.show(a.name)["port"]["link"] == "broken", "the ring is fenced")
    witnesses.check()


@pytest.mark.parametrize("request_", [Req.RESET_OWNER, Req.RESET_DEVICE])
def test_l9_nothing_moves_after_a_reset(
    lab: Lab, pair: tuple[Guest, Guest], witnesses: Witnesses, request_: Req
) -> None:
    a, b = pair
    with contextlib.suppress(PeerClosed):
        a.front.send(request_)
        a.front.sync()
    a.front.send_frames([frame(BROADCAST, a.mac, b"ghost")], wait=False)
    if request_ == Req.RESET_DEVICE:
        assert b.front.recv_frames(1, timeout=5, quiet=0.2) == []
    witnesses.check()
    a.front.disconnect()
    a.front.reset()
    a.front.start()
    assert a.send(b, [b"alive"]) == 1
    b.front.recv_frames(1)


def test_l9_stopped_receiver_gets_nothing_more(pair: tuple[Guest, Guest], lab: Lab) -> None:
    a, b = pair
    assert a.send(b, [b"x"]) == 1
    b.front.recv_frames(1)
    b.front.stop_ring(RX)
    before = b.front.rings[RX].used_idx()
    assert a.send(b, [b"x"] * 5) == 5
    assert b.front.rings[RX].used_idx() == before
    assert lab.drops(b.name) == {"link_down": 5}


def test_r2_a_noisy_peer_cannot_fill_the_log(lab: Lab, witnesses: Witnesses) -> None:
    guest = lab.guest("r2", start=False)
    started = time.monotonic()
    while time.monotonic() - started < 3:
        with contextlib.suppress(PeerClosed, OSError):
            guest.front.connect(1)
            guest.front.send_raw(b"garbage" * 10)
            assert guest.front.sock is not None
            guest.front.sock.recv(1)
        guest.front.disconnect()
    elapsed = time.monotonic() - started
    lines = re.findall(rf".*port {guest.name}\b.*", lab.switch.log.read_text())
    assert len(lines) <= 10 * (elapsed + 1), f"{len(lines)} lines in {elapsed:.1f} s"
    witnesses.check()


@pytest.mark.layouts("split")
def test_r3_a_ring_that_is_always_full_leaves_room_for_others(
    pair: tuple[Guest, Guest], witnesses: Witnesses
) -> None:
    """One guest offers a full ring of the same frame as fast as it can."""
    liar, other = pair
    ring, ram = liar.front.rings[TX], liar.front.ram
    data = bytes(12) + frame(other.mac, liar.mac)
    base = ram.alloc(128)
    ram.write(base, data)
    ring.write_desc(200, base, len(data))
    for i in range(ring.size):
        ram.write(ring.avail + 4 + 2 * i, struct.pack("<H", 200))
    stop = threading.Event()

    def spam() -> None:
        while not stop.is_set():
            ring.publish(ring.used_idx() + ring.size)
            ring.kick()

    thread = threading.Thread(target=spam)
    thread.start()
    try:
        for _ in range(5):
            witnesses.check()
    finally:
        stop.set()
        thread.join()


def test_stop_of_a_ring_that_never_was(lab: Lab, witnesses: Witnesses) -> None:
    """GET_VRING_BASE from an empty session: an answer or the end, never silence."""
    guest = lab.guest("never", start=False)
    front = guest.front.connect()
    with contextlib.suppress(PeerClosed):
        assert len(front.ask(Req.GET_VRING_BASE, pack_state(TX, 0))) == 8
    witnesses.check()


def test_a_new_call_fd_is_signalled(pair: tuple[Guest, Guest]) -> None:
    """A guest that missed one on the old one would wait for ever: it asks for one at a time."""
    a, b = pair
    for index in (RX, TX):
        ring = b.front.rings[index]
        unheard = os.eventfd(0, os.EFD_NONBLOCK)
        b.front.send(Req.SET_VRING_CALL, struct.pack("<Q", index), [unheard])
        b.front.sync()
        os.eventfd_read(unheard)
        assert a.send(b, [b"unheard"]) == 1
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(ring.call_fd)
        b.front.send(Req.SET_VRING_CALL, struct.pack("<Q", index), [ring.call_fd])
        b.front.sync()
        assert select.select([ring.call_fd], [], [], 5)[0], f"ring {index}: the guest sleeps on"
        os.close(unheard)
    assert len(b.front.recv_frames(2)) == 2
