# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one nested host for the whole suite, its adapters and the cables outside.

Booting takes as long as several tests, so all share one host; each leaves its adapter as it was.
What the IOMMU stopped and what the kernel complained of is looked at after every test.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed import TestbedError, echo, netns, stream, unprivileged, vfio_guest
from testbed.cache import Cache
from testbed.netns import Namespace
from testbed.qemu import Network
from testbed.vfio_guest import USER, Adapter, Model, Neighbours, Nested
from testbed.wire import Peer, Wire

LOGS = "USWITCH_VFIO_LOGS"  # a directory for the nested host's logs, kept after the run
QUEUES = 2  # of the igb
VID = 5
OUTSIDE, INSIDE = "10.9.0.1", "10.9.0.2"
_numbers = itertools.count(1)
ADAPTERS: dict[str, tuple[Model, tuple[str, ...]]] = {
    "igb": ("igb", ()),
    "virtio": ("virtio", ()),  # one queue: QEMU's dgram cable has no more
    "virtio-packed": ("virtio", ("packed=on",)),
    "spare": ("igb", ()),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of it is the suite of "make check-vfio"."""
    missing = netns.available()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vfio)
            item.add_marker(pytest.mark.timeout(600))
            if missing is not None:
                item.add_marker(pytest.mark.skip(reason=missing))


@dataclass(frozen=True, slots=True)
class Card:
    """An adapter of the nested host with its cable."""

    slot: int
    model: str
    mac: str
    address: str  # PCI, in the nested host
    wire: Wire


@dataclass(frozen=True, slots=True)
class Lab:
    """The nested host, and what is plugged into it."""

    host: Nested
    directory: Path
    cards: dict[str, Card]
    neighbours: tuple[str, str, str]  # PCI addresses: see vfio_guest.Neighbours
    started: Future[Any]  # both daemons, while the first tests run

    @contextlib.contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """An adapter on vfio-pci, for the switch's user; afterwards the kernel has it as before."""
        before = self.host.driver(address)
        self.host.bind(address)
        try:
            yield
        finally:
            self.host.give_back(address)
        assert self.host.driver(address) in (before, ""), "the kernel did not get it back"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Booted, with all adapters still with the kernel's drivers."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="uswitch-vfio-"))
        stack.callback(_keep_logs, directory)
        unprivileged.own(directory, unprivileged.identity())
        bed = vfio_guest.prepare(Cache(), print)
        wires = [stack.enter_context(Wire(directory / f"n{slot}")) for slot in range(len(ADAPTERS))]
        host = Nested("host", bed.machine, directory)
        stack.enter_context(host)
        macs = [f"52:54:00:00:02:{slot + 1:02x}" for slot in range(len(ADAPTERS))]
        host.boot([*(Adapter(model, wire.path, mac, options) for (model, options), wire, mac
                     in zip(ADAPTERS.values(), wires, macs, strict=True)), Neighbours()])
        host.wait_ready()
        stack.callback(_collect, host, directory)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        started = pool.submit(Switch(host).do, "start", options={"dataplane": {"workers": 1}})
        cards = {name: Card(slot, model, macs[slot], host.addresses(slot)[0], wires[slot])
                 for slot, (name, (model, _)) in enumerate(ADAPTERS.items())}
        first, second, third = host.addresses(len(ADAPTERS))
        yield Lab(host, directory, cards, (first, second, third), started)


def _collect(host: Nested, directory: Path) -> None:
    """What is lost with the host: the kernel's whole log, and those of all programs."""
    with contextlib.suppress(TestbedError):
        (directory / "apic.log").write_text(host.interrupt_state())
        (directory / "kernel.log").write_text(host.kernel_log())
        for path in host.run("ls /run/switch-*/*.log /tmp/inside.out").output.split():
            name = Path(path).with_suffix(".log").name
            (directory / name).write_text(host.run(f"tail -c 200000 {path}").output)


def _keep_logs(directory: Path) -> None:
    kept = os.environ.get(LOGS)
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.suffix in (".log", ".out", ".pcap"):
                shutil.copy(path, kept)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def host(lab: Lab) -> Iterator[Nested]:
    """The nested host; a test that makes the IOMMU stop something calls forget_faults().

    An uplink of several tests is taken down between them, which must be as silent.
    """
    assert lab.host.forget_faults() == [], "since the last test"
    yield lab.host
    assert lab.host.forget_faults() == [], "the IOMMU had to stop an adapter"


@dataclass(frozen=True, slots=True)
class Switch:
    """Both daemons in the nested host, as an ordinary user."""

    host: Nested

    def do(self, step: str, /, timeout: float = 150.0, **arguments: Any) -> Any:
        """One of the functions in steps.py."""
        return self.host.call("tests.vfio.steps", step, timeout, **arguments)

    def api(self, verb: str, /, **params: Any) -> Any:
        """A request that has to be granted."""
        answer = self.do("api", verb=verb, params=params)
        assert "refused" not in answer, answer
        return answer

    def per_queue(self, name: str) -> dict[int, int]:
        """Frames that came in by each queue of a port."""
        found: dict[int, int] = {}
        for worker in self.api("worker.list")["workers"]:
            for row in self.api("worker.show", index=worker["index"])["queues"]:
                if row["port"] == name:
                    found[row["queue"]] = found.get(row["queue"], 0) + row["frames"]
        return found


@pytest.fixture(scope="session")
def switch(lab: Lab) -> Iterator[Switch]:
    """Its log must tell of no surprise at the end, nor the kernel's."""
    running = Switch(lab.host)
    who = lab.started.result()
    uid = int(lab.host.must(f"id -u {USER}"))
    assert {process["uid"] for process in who.values()} == {uid}, "not as the ordinary user"
    yield running
    left = [row["port"]["name"] for row in running.api("uplink.list")["uplinks"]]
    log = running.do("stop")
    assert left == [], "a test left its uplink"
    assert "Traceback" not in log, log[-4000:]
    assert lab.host.forget_faults() == [], "when the switch was stopped"


@dataclass(frozen=True, slots=True)
class Uplink:
    """An uplink of the switch, its adapter bound to VFIO and its link up."""

    switch: Switch
    card: Card
    name: str

    def show(self) -> dict[str, Any]:
        """What the API says, with the hardware's counters."""
        detail: dict[str, Any] = self.switch.api("uplink.show", name=self.name)["uplink"]
        return detail

    def settled(self) -> dict[str, Any]:
        """The same, once traffic has come to rest."""
        detail: dict[str, Any] = self.switch.do("wait_balanced", name=self.name)
        return detail

    def wait(self, link: str) -> dict[str, Any]:
        """Until its link is in that state."""
        uplink: dict[str, Any] = self.switch.do("wait_uplink", name=self.name, link=link)
        return uplink


@contextlib.contextmanager
def added(lab: Lab, switch: Switch, card: Card, **settings: Any) -> Iterator[Uplink]:
    """An uplink with untagged frames in segment "red", VLAN 5 in "blue"."""
    name = f"wire-{card.slot}"
    wanted = {"name": name, "pci": card.address, "segment": "red", "mtu": 9000,
              "trunk": [{"vid": VID, "segment": "blue"}], **settings}
    with lab.taken(card.address):
        switch.api("uplink.ensure", uplink=wanted, create_segments=True)
        try:
            uplink = Uplink(switch, card, name)
            uplink.wait("up")
            yield uplink
        finally:
            switch.do("api", verb="uplink.delete", params={"name": name})


@dataclass(frozen=True, slots=True)
class Joined:
    """A kernel at the wire and one behind a TAP port of the switch, in one segment."""

    switch: Switch
    outside: Namespace
    inside: str

    def ping(self, size: int = echo.SIZE, count: int = 10) -> None:
        """Both ways, unfragmented; no echo may be missing."""
        out = echo.ping(self.outside, INSIDE, count, size=size)
        assert (out.sent, out.lost) == (count, 0), f"from the wire: {out}"
        back = self.switch.do("ping", namespace=self.inside, address=OUTSIDE, count=count,
                              size=size)
        assert (back["sent"], back["missing"]) == (count, []), f"from the switch: {back}"

    def stream(self, size: int) -> None:
        """TCP both ways, byte for byte; neither kernel may find a damaged segment."""
        self.stream_in(size)
        self.stream_out(size)
        assert stream.bad_checksums(self.outside) == 0
        assert self.switch.do("bad_checksums", namespace=self.inside) == 0

    def stream_in(self, size: int) -> None:
        """From the wire."""
        port = self.switch.do("listen", namespace=self.inside, address=INSIDE)
        sent = stream.send(self.outside, INSIDE, port, size)
        assert self.switch.do("heard", namespace=self.inside) == sent

    def stream_out(self, size: int) -> str:
        """To the wire; returns the SHA-256 of what was sent."""
        with stream.Listener(self.outside, OUTSIDE) as listener:
            sent = self.switch.do("send", namespace=self.inside, address=OUTSIDE,
                                  port=listener.port, size=size)
            assert listener.digest() == sent
        return str(sent)


@contextlib.contextmanager
def joined(uplink: Uplink, *, vid: int | None = None, mtu: int = 1500) -> Iterator[Joined]:
    """Both kernels, with addresses of one network."""
    number = next(_numbers)
    inside = f"in{number}"
    settings = {"segment": "red" if vid is None else "blue", "mtu": 9000}
    uplink.switch.do("add_host", name=inside, settings=settings, ip=f"{INSIDE}/24", mtu=mtu)
    try:
        with Namespace(f"usw-{os.getpid()}-{number}") as outside, \
                Peer(uplink.card.wire, outside, f"usw{os.getpid() % 100000}w{number}",
                     Network(ip=f"{OUTSIDE}/24", mtu=mtu), vid=vid):
            yield Joined(uplink.switch, outside, inside)
    finally:
        uplink.switch.do("remove_host", name=inside)
