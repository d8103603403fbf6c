# SPDX-License-Identifier: Apache-2.0
"""Guests with several queue pairs, on two workers: spread, order, and pairs that come and go.

The front-end keeps every receive ring apart, so a frame in a ring that should
have got none is seen.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Guest, Lab, Witnesses, frame
from .frontend import PeerClosed, Req, pack_state
from .frontend import messages as m
from .frontend.peer import POLITE, Frontend

BROADCAST = b"\xff" * 6
OPTIONS = {"dataplane": {"workers": 2}, "port_defaults": {"ring_reset": True}}
KILLS = True
WANTED = POLITE & ~m.F_EVENT_IDX | m.F_RING_RESET


def stations(guest: Guest, count: int) -> list[bytes]:
    """Addresses behind a guest: each is a flow of its own."""
    return [guest.mac[:3] + bytes([guest.mac[5], 1, i]) for i in range(count)]


def collect(guest: Guest, count: int, timeout: float = 10.0) -> dict[int, list[bytes]]:
    """Frames by receive ring, until there are so many in all."""
    got: dict[int, list[bytes]] = {ring: [] for ring in guest.front.rx_rings}
    end = time.monotonic() + timeout
    while sum(map(len, got.values())) < count and time.monotonic() < end:
        for ring in got:
            got[ring] += [f for _, f in guest.front.recv_frames(1 << 20, 0.02, index=ring)]
    return got


def meet(a: Guest, b: Guest) -> None:
    for src, dst in ((a, b), (b, a)):
        src.send(BROADCAST, [b"hello"])
        assert sum(map(len, collect(dst, 1).values())) == 1


class Talk:
    """Numbered frames of many flows from one guest to another; the order within each is checked."""

    def __init__(self, src: Guest, dst: Guest, flows: int = 32) -> None:
        self.src, self.dst = src, dst
        self.sources = stations(src, flows)
        self.numbers = {mac: itertools.count() for mac in self.sources}
        self.expected = dict.fromkeys(self.sources, 0)
        self.ring_of: dict[bytes, int] = {}
        self.sent = 0

    def send(self, rounds: int = 1) -> int:
        """``rounds`` frames of every flow, each by the pair that it always takes."""
        for _ in range(rounds):
            for tx, batch in self.batches().items():
                self.sent += self.src.front.send_frames(batch, index=tx)
        return rounds * len(self.sources)

    def batches(self) -> dict[int, list[bytes]]:
        """The next frame of every flow, by transmit ring."""
        rings = range(1, len(self.src.front.rings), 2)
        return {
            tx: [
                frame(self.dst.mac, mac, next(self.numbers[mac]).to_bytes(4, "big"))
                for mac in self.sources[i :: len(rings)]
            ]
            for i, tx in enumerate(rings)
        }

    def check(self, count: int, rings: set[int] | None = None, moved: bool = False) -> None:
        """``count`` frames arrive, in all the given rings, each flow in order and in one ring."""
        got = collect(self.dst, count)
        assert sum(map(len, got.values())) == count
        if moved:
            self.ring_of.clear()
        for ring, frames in got.items():
            for data in frames:
                source = data[6:12]
                assert int.from_bytes(data[14:18], "big") == self.expected[source]
                self.expected[source] += 1
                assert self.ring_of.setdefault(source, ring) == ring, "a flow has one ring"
        assert rings is None or {ring for ring, frames in got.items() if frames} == rings


@pytest.fixture
def pair(lab: Lab) -> tuple[Guest, Guest]:
    a = lab.guest("mq", pairs=4, wanted=WANTED)
    b = lab.guest("mq", pairs=8, wanted=WANTED, mode="server")
    meet(a, b)
    return a, b


def rings(lab: Lab, guest: Guest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.show(guest.name)["rings"]
    return found


def test_all_pairs_carry_frames_and_flows_stay_in_order(
    pair: tuple[Guest, Guest], lab: Lab, witnesses: Witnesses
) -> None:
    a, b = pair
    # Before there is a load by which they could be placed anew.
    assert all(worker["queues"] >= 4 for worker in lab.client.worker_list()["workers"])
    there, back = Talk(a, b, 64), Talk(b, a, 64)
    for _ in range(5):
        there.check(there.send(3), set(range(0, 16, 2)))
        back.check(back.send(3), set(range(0, 8, 2)))
    counted = {ring["index"]: ring["frames"] for ring in rings(lab, b)}
    assert sorted(counted) == list(range(16)) and all(counted.values())
    assert sum(n for i, n in counted.items() if i % 2) == back.sent + 1
    assert [r["index"] for r in rings(lab, a)] == list(range(8))
    assert lab.drops(a.name) == lab.drops(b.name) == {}
    witnesses.check()


def test_every_flow_of_one_address_is_spread(pair: tuple[Guest, Guest]) -> None:
    """TCP and UDP connections between two addresses, over IPv4 and IPv6."""
    a, b = pair
    v4 = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0x4000, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2")
    v6 = struct.pack(">IHBB16s16s", 6 << 28, 20, 6, 64, b"\xfd" + bytes(15), b"\xfd" + bytes(15))
    for ethertype, ip in ((b"\x08\x00", v4), (b"\x86\xdd", v6)):
        sent = [
            b.mac + a.mac + ethertype + ip + struct.pack(">HH", port, 80) + bytes(16)
            for port in range(40000, 40128)
        ]
        assert a.front.send_frames(sent) == 128
        got = collect(b, 128)
        assert sorted(itertools.chain(*got.values())) == sorted(sent)
        assert min(map(len, got.values())) >= 4, "each of 8 rings has some of 128 connections"


def test_guest_changes_its_number_of_queues_under_traffic(
    pair: tuple[Guest, Guest], lab: Lab, witnesses: Witnesses
) -> None:
    """What "ethtool -L" does: pairs go off and on, no frame is lost, no closed ring is used."""
    a, b = pair
    talk = Talk(a, b)
    for n in (8, 1, 2, 7, 3, 8, 5, 1, 8):
        off = [ring for ring in range(16) if ring // 2 >= n]
        b.front.enable(True, [ring for ring in range(16) if ring // 2 < n])
        b.front.enable(False, off)
        b.front.sync()
        talk.check(talk.send(2), None if n > 4 else set(range(0, 2 * n, 2)), moved=True)
        assert not any(b.front.recv_frames(1, 0.01, index=ring) for ring in off if not ring % 2)
        assert lab.show(b.name)["port"]["link"] == "up"
        assert [r["enabled"] for r in rings(lab, b)] == [i // 2 < n for i in range(16)]
    assert lab.drops(b.name) == {}
    witnesses.check()


def test_sending_pair_switched_off_waits(pair: tuple[Guest, Guest]) -> None:
    """What lies in a transmit ring that is off is sent when it is on again."""
    a, b = pair
    a.front.enable(False, [2, 3])
    a.front.sync()
    assert a.front.send_frames([frame(b.mac, a.mac, b"late")], wait=False, index=3) == 1
    assert a.front.send_frames([frame(b.mac, a.mac, b"now")], index=5) == 1
    first = collect(b, 1)
    assert [f[14:17] for f in itertools.chain(*first.values())] == [b"now"]
    a.front.enable(True, [2, 3])
    assert len(a.front.reap_tx(1, index=3)) == 1
    assert [f[14:18] for f in itertools.chain(*collect(b, 1).values())] == [b"late"]


def test_ring_reset_leaves_the_others_running(
    pair: tuple[Guest, Guest], lab: Lab, witnesses: Witnesses
) -> None:
    """Of both directions, to other sizes; the other rings take over meanwhile."""
    a, b = pair
    assert b.front.features & m.F_RING_RESET
    talk = Talk(a, b)
    talk.check(talk.send())
    for index, size in ((0, 64), (6, 512), (0, 1024), (14, 128)):
        b.front.stop_ring(index)
        talk.check(talk.send(2), moved=True)
        assert b.front.recv_frames(1, 0.01, index=index) == []
        b.front.reset_ring(index, size)
        b.front.post_rx(64, index=index)
        talk.check(talk.send(2), moved=True)
    for index, size in ((1, 64), (3, 1024)):
        a.front.reset_ring(index, size)
        talk.check(talk.send(2))
    assert [r["size"] for r in rings(lab, a)] == [256, 64, 256, 1024, *[256] * 4]
    assert [r["size"] for r in rings(lab, b)[::2]] == [1024, 256, 256, 512, *[256] * 3, 128]
    assert lab.drops(b.name) == {}
    witnesses.check()


@pytest.mark.parametrize("pairs", [1, 3])
def test_port_with_fewer_queues(lab: Lab, pairs: int) -> None:
    guest = lab.guest("few", start=False, queues=pairs)
    guest.front.connect()
    features = guest.front.ask_u64(Req.GET_FEATURES)
    assert bool(features & m.F_MQ) == (pairs > 1)
    guest.front.negotiate()
    assert guest.front.ask_u64(Req.GET_QUEUE_NUM) == pairs
    assert guest.front.acked(Req.SET_VRING_NUM, pack_state(2 * pairs - 1, 256)) == 0
    assert guest.front.acked(Req.SET_VRING_NUM, pack_state(2 * pairs, 256)) != 0
    lab.client.port_set(guest.name, {"queues": 8})
    assert guest.front.ask_u64(Req.GET_QUEUE_NUM) == pairs, "what a peer was told stays"
    guest.front.disconnect()
    guest.front.connect()
    assert guest.front.ask_u64(Req.GET_QUEUE_NUM) == 8


def test_one_ring_of_a_pair_alone(lab: Lab, witnesses: Witnesses) -> None:
    """It may be strange, but it is a ring: it works, and the link is not up."""
    one = lab.guest("alone", pairs=2, start=False)
    other = lab.guest("alone")
    one.front.connect()
    one.front.negotiate()
    one.front.set_mem_table()
    one.front.setup_ring(2)
    one.front.enable(True, [2])
    one.front.sync()
    one.front.post_rx(8, index=2)
    other.send(BROADCAST, [b"to one"])
    assert one.front.recv_frames(1, index=2)[0][1][14:20] == b"to one"
    assert lab.show(one.name)["port"]["link"] == "negotiating"
    assert [r["index"] for r in rings(lab, one)] == [2]
    one.front.setup_ring(1)
    one.front.enable(True, [1])
    one.front.sync()
    assert lab.show(one.name)["port"]["link"] == "up"
    assert one.front.send_frames([frame(BROADCAST, one.mac, b"from one")]) == 1
    assert other.front.recv_frames(1)[0][1][14:22] == b"from one"
    witnesses.check()


@pytest.mark.parametrize("ring", range(1, 16, 2))
def test_g9_any_of_eight_pairs_fences_its_own_port(
    lab: Lab, witnesses: Witnesses, ring: int
) -> None:
    """A head outside the ring, in each pair: named with its ring, told by its err eventfd."""
    liar = lab.guest("liars", pairs=8)
    bad = liar.front.rings[ring]
    bad.put_avail(bad.size)
    bad.publish()
    bad.kick()
    lab.wait(lambda: lab.show(liar.name)["port"]["link"] == "broken", "fenced")
    assert f"ring {ring}," in lab.show(liar.name)["port"]["reason"]
    witnesses.check()


def test_m2_m4_sessions_of_sixteen_rings_leave_nothing(
    lab: Lab, witnesses: Witnesses, fd_count: Callable[[], tuple[int, int]]
) -> None:
    name, path = lab.port(segment="many")
    witnesses.check()
    before = fd_count()
    for i in range(12):
        front = Frontend(path, pairs=8)
        front.start(rx_buffers=4)
        for index in range(16):
            front.send(Req.SET_VRING_CALL, struct.pack("<Q", index), [front.rings[index].call_fd])
            front.send(Req.SET_VRING_KICK, struct.pack("<Q", index), [front.rings[index].kick_fd])
        front.sync()
        for index in (16, 17, 255):
            assert front.acked(Req.SET_VRING_NUM, pack_state(index, 256)) != 0
        if i % 2:
            with pytest.raises(PeerClosed):
                front.ask(Req.GET_VRING_BASE, pack_state(16, 0))
        front.close()
        lab.wait(lambda: lab.show(name)["port"]["link"] == "waiting", "gone")
        lab.wait(lambda: lab.show(name)["rings"] == [], "forgotten")
    lab.wait(lambda: fd_count() == before, "file descriptors are back")
    lab.client.port_delete(name)
    witnesses.check()


def test_memory_slots_come_and_go_under_traffic(pair: tuple[Guest, Guest], lab: Lab) -> None:
    """Up to all 64, added and removed one by one, while buffers lie in the newest."""
    a, b = pair
    talk = Talk(a, b)
    ram = b.front.ram
    added = []
    for i in range(63):
        region = ram.add_region(1 << 16, (1 << 33) + (i << 20), 0x6000_0000_0000 + (i << 20))
        body = bytes(8) + m.pack_region(region.gpa, region.size, region.uva, 0)
        assert b.front.acked(Req.ADD_MEM_REG, body, [region.fd]) == 0
        added.append((region, body))
        # The next frame of ring 0 goes into it.
        ring, buffers = b.front.rings[0], b.front.rx_of[0]
        buffers[ring.add([(region.gpa + 100, 2048, True)])] = (region.gpa + 100, 2048)
        ring.publish()
        talk.check(talk.send())
    extra = bytes(8) + m.pack_region(1 << 40, 4096, 1 << 46, 0)
    assert b.front.acked(Req.ADD_MEM_REG, extra, [ram.regions[0].fd]) != 0, "65 are too many"
    assert lab.show(b.name)["memory_regions"] == 64
    used = [gpa for gpa, _ in b.front.rx_of[0].values()]
    assert any(gpa >= 1 << 33 for gpa in used), "buffers were posted again where they lay"
    b.front.reset_ring(0, 256)  # takes the buffers back
    b.front.post_rx(64)
    for region, body in reversed(added):
        assert b.front.acked(Req.REM_MEM_REG, body) == 0
        ram.regions.remove(region)
        region.close()
        talk.check(talk.send(), moved=True)
    assert lab.show(b.name)["memory_regions"] == 1
    assert lab.drops(b.name) == {}


@pytest.mark.parametrize("who", ["daemon", "dataplane"])
def test_killed_process_and_all_pairs_go_on(lab_module: Lab, who: str) -> None:
    lab = Lab(lab_module.switch)
    a, b = lab.guest("kill", pairs=4), lab.guest("kill", pairs=8)
    meet(a, b)
    talk = Talk(a, b)
    talk.check(talk.send())
    b.front.enable(False, [14, 15])
    b.front.sync()
    talk.check(talk.send(), moved=True)
    batches = talk.batches()
    if who == "daemon":
        lab.settle()
        lab.switch.kill_daemon()
    else:
        lab.switch.kill_dataplane()
    for tx, batch in batches.items():
        a.front.send_frames(batch, index=tx, wait=False)
    if who == "daemon":
        lab.switch.restart_daemon()
    for tx, batch in batches.items():
        assert len(a.front.reap_tx(len(batch), 30, index=tx)) == len(batch)
    shown = {r["index"]: r["enabled"] for r in rings(lab, b)}
    assert shown == {i: i < 14 for i in range(16)}
    b.front.enable(True, [14, 15])
    b.front.sync()
    if who == "daemon":
        talk.check(32)
        dropped = {}
    else:
        # A new dataplane has one port before the other; what it could not deliver, it counted.
        arrived = sum(map(len, collect(b, 32, 3).values()))
        dropped = {"link_down": 32 - arrived} if arrived < 32 else {}
        talk = Talk(b, a)
        talk.check(talk.send())
        talk = Talk(a, b)
        talk.numbers = {mac: itertools.count(3) for mac in talk.sources}
        talk.expected = dict.fromkeys(talk.sources, 3)
    talk.check(talk.send(4), moved=True)
    assert lab.drops(b.name) == dropped
    lab.close()
