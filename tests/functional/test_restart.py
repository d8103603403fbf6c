# SPDX-License-Identifier: Apache-2.0
"""Either process may be killed at any instant (design law 1 and 6).

The guests here never reconnect and never set anything up again: whatever
happens, it happens behind the connection they already have.  Each test has a
switch of its own.
"""

from __future__ import annotations

import functools
import itertools
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from testbed.daemons import Switch

from .conftest import Guest, Lab, Stream
from .frontend import PeerClosed, Req
from .frontend import messages as m
from .frontend.peer import POLITE, RX, TX

BROADCAST = b"\xff" * 6
KILLS = True


@pytest.fixture(params=["split", "packed"])
def pair(switch: Switch, request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Guest, Guest]]:
    lab = Lab(switch)
    wanted = POLITE & ~m.F_EVENT_IDX | (m.F_RING_PACKED if request.param == "packed" else 0)
    # A packed ring may have any size, and one that is odd wraps everywhere.
    size = 251 if request.param == "packed" else 256
    a = lab.guest("pair", wanted=wanted, ring_size=size)
    b = lab.guest("pair", mode="server", wanted=wanted, ring_size=size)
    b.send(BROADCAST, [b"hello"])
    assert len(a.front.recv_frames(1)) == 1
    yield lab, a, b
    lab.close()


def test_killed_daemon_costs_no_frame(pair: tuple[Lab, Guest, Guest]) -> None:
    lab, a, b = pair
    dataplane = lab.switch.dataplane_pid
    with Stream(a, b) as stream:
        time.sleep(0.3)
        lab.switch.kill_daemon()
        before = stream.sent
        time.sleep(0.5)
        assert stream.sent > before, "frames must flow without uswitchd"
        lab.switch.restart_daemon()
        time.sleep(0.3)
    assert stream.arrived == list(range(stream.sent))
    assert lab.switch.dataplane_pid == dataplane
    shown = {port["name"]: port["link"] for port in lab.switch.client.port_list()}
    assert shown == {a.name: "up", b.name: "up"}


def test_new_daemon_goes_on_with_the_conversation(pair: tuple[Lab, Guest, Guest]) -> None:
    """The next uswitchd answers on the old connections and still knows every promise."""
    lab, a, b = pair
    for sig in (signal.SIGKILL, signal.SIGTERM):
        lab.switch.restart_daemon(sig)
        for guest in (a, b):
            guest.front.sync()
            before = guest.front.stop_ring(TX)
            assert before == guest.front.rings[TX].avail_idx
            guest.front.setup_ring(TX, base=before)
            guest.front.sync()
        assert a.send(b, [b"one"]) == 1
        assert len(b.front.recv_frames(1)) == 1
        front = a.front
        place = (sig + 1) << 32
        extra = front.ram.add_region(1 << 20, place, 0x7000_0000_0000 + place)
        region = bytes(8) + m.pack_region(extra.gpa, extra.size, extra.uva, 0)
        assert front.acked(Req.ADD_MEM_REG, region, [extra.fd]) == 0
        lab.settle()
    assert b.send(a, [b"two"]) == 1
    assert len(a.front.recv_frames(1)) == 1


def test_messages_sent_while_no_daemon_lives_are_answered_later(
    pair: tuple[Lab, Guest, Guest],
) -> None:
    lab, a, _ = pair
    lab.switch.kill_daemon()
    a.front.send(Req.GET_FEATURES)
    a.front.send(Req.GET_PROTOCOL_FEATURES)
    time.sleep(0.2)
    lab.switch.restart_daemon()
    assert [a.front.recv()[0] for _ in range(2)] == [1, 15]


def test_killed_dataplane_is_replaced_and_rings_resume(pair: tuple[Lab, Guest, Guest]) -> None:
    lab, a, b = pair
    with Stream(a, b) as stream:
        for _ in range(3):
            time.sleep(0.3)
            lab.switch.wait_replaced(lab.switch.kill_dataplane())
            lab.wait(functools.partial(stream.beyond, stream.sent + 64), "traffic goes on")
    # A frame may come twice (the burst in flight is sent again) or be lost with the process that
    # held it; order is kept and every buffer comes back.
    missing = set(range(stream.sent)) - set(stream.arrived)
    assert len(missing) <= 3 * 64
    assert len(stream.arrived) - len(set(stream.arrived)) <= 3 * 64
    assert not a.front._tx_used
    for guest in (a, b):
        guest.front.sync()  # the same connection as ever
    assert b.send(a, [b"back"]) == 1
    assert len(a.front.recv_frames(1)) == 1


def test_ring_stopped_while_no_dataplane_lives(pair: tuple[Lab, Guest, Guest]) -> None:
    """GET_VRING_BASE right after the kill: the state page knows the position."""
    lab, a, b = pair
    assert a.send(b, [b"x"] * 5) == 5
    lab.switch.kill_dataplane()
    assert a.front.stop_ring(TX) == a.front.rings[TX].avail_idx
    a.front.setup_ring(TX, base=a.front.rings[TX].avail_idx)
    a.front.sync()
    lab.wait(lambda: lab.client.show()["dataplane"]["running"], "a new dataplane")
    b.front.recv_frames(5)
    assert a.send(b, [b"again"]) == 1
    assert b.front.recv_frames(1)[0][1][14:19] == b"again"


def test_both_killed_guests_reconnect(pair: tuple[Lab, Guest, Guest]) -> None:
    """Everything lost: the vhost-user reconnect does it, with the rings where they were."""
    lab, a, b = pair
    assert a.send(b, [b"x"] * 3) == 3
    b.front.recv_frames(3)
    dataplane = lab.switch.dataplane_pid
    lab.switch.kill_daemon()
    _kill(dataplane)
    for guest in (a, b):
        _forget_signals(guest)  # as if it had died between used ring and signal
    lab.switch.restart_daemon()
    for guest in (a, b):
        front = guest.front
        front.disconnect()
        front.connect()
        front.negotiate()
        front.set_mem_table()
        for index in (RX, TX):
            front.setup_ring(index, base=front.rings[index].used_idx())
        front.enable()
        front.sync()
        for index in (RX, TX):
            call_fd = front.rings[index].call_fd
            assert select.select([call_fd], [], [], 5)[0], f"ring {index}: the guest sleeps on"
    assert a.send(b, [b"reborn"]) == 1
    assert b.front.recv_frames(1)[0][1][14:20] == b"reborn"


def _forget_signals(guest: Guest) -> None:
    for ring in guest.front.rings:
        with suppress(BlockingIOError):
            os.eventfd_read(ring.call_fd)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_desired_state_survives_everything(switch: Switch) -> None:
    lab = Lab(switch)
    names = [
        lab.port(segment=f"s{i}", trunk={100 + i: "common"}, mtu=2000 + i)[0] for i in range(5)
    ]
    before = {name: lab.client.port_show(name)["port"] for name in names}
    for how in itertools.islice(itertools.cycle(["daemon", "dataplane", "both"]), 6):
        dataplane = switch.dataplane_pid
        if how != "dataplane":
            switch.kill_daemon()
        if how != "daemon":
            _kill(dataplane)
        if how != "dataplane":
            switch.restart_daemon()
        gone = 0 if how == "daemon" else dataplane
        switch.wait_replaced(gone)
        assert {name: lab.client.port_show(name)["port"] for name in names} == before
    for name in names:
        assert lab.client.port_delete(name)


def test_request_half_done_at_death_closes_only_its_connection(
    pair: tuple[Lab, Guest, Guest],
) -> None:
    """Killed between taking a request in and answering it: that peer has to reconnect."""
    lab, a, b = pair
    for _ in range(10):
        for _ in range(200):
            a.front.send(Req.SET_VRING_CALL, bytes([TX, *bytes(7)]), [a.front.rings[TX].call_fd])
        a.front.send(Req.GET_FEATURES)
        os.kill(lab.switch.daemon_pid, signal.SIGKILL)
        lab.switch.restart_daemon()
        b.front.sync()  # the other one never notices
        try:
            assert a.front.recv()[0] == Req.GET_FEATURES
        except PeerClosed:
            a.front.disconnect()
            a.front.reset()
            a.front.start()
    assert a.send(b, [b"well"]) == 1
    assert b.front.recv_frames(1)[0][1][14:18] == b"well"
