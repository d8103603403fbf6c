# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional suite: a running switch, ports on it, and a pair of witnesses.

One switch serves a whole test module, as it would a host: what one test breaks
must not disturb the next.  The witnesses are two polite guests on a segment of
their own; a test that misbehaves asks them afterwards whether they lost a
frame, and the module's end checks that both processes are still the first ones.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from testbed.daemons import Switch
from tests.watched import watched_switch

from .frontend import Frontend
from .frontend.messages import F_EVENT_IDX, F_RING_PACKED, F_VERSION_1
from .frontend.peer import POLITE

_names = itertools.count(1)


def mac(n: int) -> bytes:
    """A locally administered unicast address."""
    return bytes([0x52, 0x54, 0, (n >> 16) & 255, (n >> 8) & 255, n & 255])


def frame(dst: bytes, src: bytes, payload: bytes = b"", vid: int | None = None) -> bytes:
    """An Ethernet frame of at least 60 bytes with an experimental EtherType."""
    tag = b"" if vid is None else b"\x81\x00" + vid.to_bytes(2, "big")
    return (dst + src + tag + b"\x88\xb5" + payload).ljust(60, b"\0")


@dataclass
class Guest:
    """A port of the switch and the polite front-end on it."""

    name: str
    mac: bytes
    front: Frontend

    def send(self, to: Guest | bytes, payloads: list[bytes], vid: int | None = None) -> int:
        dst = to if isinstance(to, bytes) else to.mac
        return self.front.send_frames([frame(dst, self.mac, p, vid) for p in payloads])


class Lab:
    """Makes ports and guests on one switch and cleans them up."""

    def __init__(self, switch: Switch, packed: bool = False) -> None:
        self.switch = switch
        self.packed = packed
        self.client = switch.client
        self._guests: list[Guest] = []

    def port(
        self,
        name: str | None = None,
        *,
        mode: str = "client",
        segment: str | None = None,
        trunk: dict[int, str] | None = None,
        **spec: Any,
    ) -> tuple[str, str]:
        """Create a port; returns (name, socket path).  Mode client: the switch listens."""
        name = name or f"p{next(_names)}"
        rows = [{"vid": vid, "segment": other} for vid, other in (trunk or {}).items()]
        port = {"name": name, "mode": mode, "segment": segment, "trunk": rows, **spec}
        added = self.client.port_add(port, create_segments=True)
        return name, added["port"]["path"]

    def guest(
        self,
        segment: str | None = None,
        *,
        mode: str = "client",
        start: bool = True,
        ram: Any = None,
        wanted: int | None = None,
        ring_size: int = 256,
        pairs: int = 1,
        **spec: Any,
    ) -> Guest:
        """A port with a polite guest on it; its rings are the lab's unless it is a legacy guest."""
        number = next(_names)
        name, path = self.port(f"g{number}", mode=mode, segment=segment, **spec)
        bits = POLITE & ~F_EVENT_IDX if wanted is None else wanted
        if self.packed and bits & F_VERSION_1:
            bits |= F_RING_PACKED
        front = Frontend(
            path, listen=mode == "server", ram=ram, ring_size=ring_size, pairs=pairs, wanted=bits
        )
        guest = Guest(name, mac(number), front)
        self._guests.append(guest)
        if start:
            front.start()
            self.settle()
        return guest

    def settle(self) -> None:
        """Wait until uswitchd has forgotten what it was asked last.

        A reply leaves before the port's busy flag falls.  Who kills uswitchd in between makes the
        peer connect again, and on a busy host that may be milliseconds.
        """
        self.client.show()

    def show(self, name: str) -> dict[str, Any]:
        return self.client.port_show(name)

    def drops(self, name: str) -> dict[str, int]:
        """Drops of a port by reason, both directions together."""
        total: dict[str, int] = {}
        for drop in self.show(name)["drops"]:
            total[drop["reason"]] = total.get(drop["reason"], 0) + drop["frames"]
        return total

    def settled_drops(self, name: str, reason: str, count: int, timeout: float = 5.0) -> int:
        """Wait until a reason has at least ``count`` drops; returns how many there are."""
        self.wait(lambda: self.drops(name).get(reason, 0) >= count, f"drops: {reason}", timeout)
        return self.drops(name)[reason]

    def fenced(self, name: str, reason: str) -> None:
        """Wait until the port is fenced, for this reason."""
        self.wait(lambda: self.show(name)["port"]["link"] == "broken", f"{name} is fenced")
        assert reason in self.show(name)["port"]["reason"]

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited {timeout:g} s in vain: {what}"
            time.sleep(0.02)

    def forget(self, guest: Guest) -> None:
        """The test has cleaned this one up itself."""
        self._guests.remove(guest)

    def close(self) -> None:
        for guest in self._guests:
            guest.front.close()
            self.client.port_delete(guest.name)
        self._guests.clear()


class Witnesses:
    """Two polite guests; ``check`` fails if they lose a single frame."""

    def __init__(self, lab: Lab) -> None:
        self.a = lab.guest("witness")
        self.b = lab.guest("witness")
        self._round = itertools.count(1)
        self.b.send(b"\xff" * 6, [b"learn"])
        assert len(self.a.front.recv_frames(1)) == 1

    def check(self, frames: int = 40) -> None:
        tag = next(self._round).to_bytes(4, "big")
        payloads = [tag + i.to_bytes(4, "big") for i in range(frames)]
        assert self.a.send(self.b, payloads) == frames
        got = [f[14:22] for _, f in self.b.front.recv_frames(frames)]
        assert got == payloads, f"witnesses lost frames: {len(got)} of {frames} arrived"


class Stream:
    """Numbered frames from one guest to another, sent and received by one thread."""

    def __init__(self, src: Guest, dst: Guest) -> None:
        self.src, self.dst = src, dst
        self.sent = 0
        self.arrived: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def beyond(self, count: int) -> bool:
        return self.sent >= count

    def _run(self) -> None:
        while not self._stop.is_set():
            numbers = range(self.sent, self.sent + 8)
            self.src.front.send_frames(
                [frame(self.dst.mac, self.src.mac, n.to_bytes(4, "big")) for n in numbers],
                wait=False,
            )
            self.sent += 8
            self.src.front.reap_tx(8, timeout=30)
            self._collect(8, 1.0)
        self._collect(64, 1.0)

    def _collect(self, count: int, timeout: float) -> None:
        for _, data in self.dst.front.recv_frames(count, timeout=timeout):
            if data[6:12] == self.src.mac:
                self.arrived.append(int.from_bytes(data[14:18], "big"))


@pytest.fixture(scope="module")
def switch(request: pytest.FixtureRequest) -> Iterator[Switch]:
    with watched_switch(request.module, "uswitch-test-") as running:
        yield running


@pytest.fixture(scope="module")
def lab_module(switch: Switch) -> Iterator[Lab]:
    lab = Lab(switch)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def witnesses(lab_module: Lab) -> Witnesses:
    return Witnesses(lab_module)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Two modules at a time, where the command line says so."""
    if config.getoption("dist") != "loadfile":
        return None
    from .groups import Groups
    return Groups(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says ``LAYOUTS`` runs its tests with guests of each layout of rings."""
    layouts = getattr(metafunc.module, "LAYOUTS", ())
    if layouts and "layout" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("layouts")
        if mark:
            layouts = mark.args
        metafunc.parametrize("layout", layouts, indirect=True)


@pytest.fixture
def layout(request: pytest.FixtureRequest) -> str:
    """The rings of this test's guests: split or packed."""
    name: str = getattr(request, "param", "split")
    return name


@pytest.fixture
def lab(switch: Switch, layout: str) -> Iterator[Lab]:
    """Ports that go away with the test; the module's switch and processes must outlive it."""
    before = switch.dataplane_pid, switch.daemon_pid
    own = Lab(switch, layout == "packed")
    yield own
    own.close()
    assert (switch.dataplane_pid, switch.daemon_pid) == before, "a process was replaced"


@pytest.fixture
def fd_count(switch: Switch) -> Callable[[], tuple[int, int]]:
    """How many fds (uswitchd, dataplane) hold now."""

    def count() -> tuple[int, int]:
        pids = switch.daemon_pid, switch.dataplane_pid
        a, b = (len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
        return a, b

    return count
