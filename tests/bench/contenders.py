# SPDX-License-Identifier: Apache-2.0
"""The switches that are compared: each has ports for guests and one core to forward on.

A contender starts in a directory of its own, says where its sockets are and, when asked, how many
cycles it has spent on how many frames, by its own account.  To add one, write a class with the
members of ``Contender`` and name it in CONTENDERS; the first is ours, the others its peers.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from testbed.daemons import Switch
from testbed.testpmd import Cycles, Settings, Testpmd, Vhost

from . import ovs
from .cases import Case


def mac(port: int) -> str:
    """Of a guest-like port; the load program has the same, its last three bytes number flows."""
    return f"52:54:{port:02x}:00:00:00"


class Contender(Protocol):
    """A running switch."""

    name: str
    about: str
    paths: tuple[Path, ...]

    def __init__(self, directory: Path, case: Case, cpu: int) -> None: ...

    def __enter__(self) -> Contender: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...

    def ready(self) -> None:
        """Wait until all ports are up and frames may come."""

    def cycles(self) -> Cycles:
        """Spent on frames so far; 0 MHz if it does not know the rate of its clock."""

    def thread(self) -> int:
        """Id of the thread that forwards."""

    def pids(self) -> list[int]:
        """Of all its processes."""

    def drops(self) -> dict[str, int]:
        """Frames not delivered, by reason."""

    def features(self) -> str:
        """What it negotiated with the first port, in hexadecimal."""


class Uswitch:
    """This project's switch: uswitchd and its dataplane, one worker."""

    name = "uswitch"
    about = "uswitchd, one worker, ports in one segment, addresses pinned (flows: learned)"

    def __init__(self, directory: Path, case: Case, cpu: int, *, poll_us: int | None = None,
                 limits: dict[str, int] | None = None) -> None:
        """``poll_us`` and ``limits`` (of every port) replace the defaults."""
        dataplane: dict[str, object] = {"workers": 1, "cpus": cpu, "fdb_buckets": 65536}
        if poll_us is not None:
            dataplane["poll_us"] = poll_us
        self.switch = Switch(directory, options={"dataplane": dataplane})
        self._case = case
        self._limits = limits or {}
        self.paths = tuple(directory / f"vhost/p{i}" for i in range(case.ports))

    def __enter__(self) -> Uswitch:
        self.switch.__enter__()
        try:
            self.paths = tuple(self._add(i) for i in range(self._case.ports))
        except BaseException:
            self.switch.stop()
            raise
        return self

    def _add(self, number: int) -> Path:
        """Without flows nothing is unknown and so nothing flooded, as in the reference."""
        settings: dict[str, Any] = dict(self._limits)
        if self._case.flows > 1:
            settings |= {"fdb_quota": 200000, "flood_rate": 0}
        else:
            settings["macs"] = [mac(number)]
        return self.switch.add_port(f"p{number}", segment="bench", **settings)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.switch.__exit__(kind, error, trace)

    def ready(self) -> None:
        for i in range(self._case.ports):
            self.switch.wait_link(f"p{i}")

    def cycles(self) -> Cycles:
        answer = self.switch.call("worker.list")
        worker = answer["workers"][0]
        return Cycles(worker["busy_cycles"], worker["frames"], answer["tsc_khz"] // 1000)

    def thread(self) -> int:
        tid: int = self.switch.call("worker.list")["workers"][0]["tid"]
        return tid

    def pids(self) -> list[int]:
        return [self.switch.daemon_pid, self.switch.dataplane_pid]

    def drops(self) -> dict[str, int]:
        return {f"{port} {direction} {reason}": frames
                for port, direction, reason, frames in self.switch.drops()}

    def features(self) -> str:
        found: str = self.switch.call("port.show", name="p0")["virtio_features"]
        return found


class TestpmdVhost:
    """DPDK's example forwarder between two vhost ports: no lookup, no address, no policy."""

    __test__ = False
    name = "testpmd"
    about = "dpdk-testpmd, net_vhost ports in pairs, io mode, one forwarding core"

    def __init__(self, directory: Path, case: Case, cpu: int) -> None:
        self.paths = tuple(directory / f"v{i}" for i in range(case.ports))
        self._log = directory / "reference.log"
        self._testpmd = Testpmd("reference", directory, [Vhost(path) for path in self.paths],
                                Settings(mode="io", pin=(cpu,), descriptors=case.ring))

    def __enter__(self) -> TestpmdVhost:
        self._testpmd.wait()
        self._testpmd.command("set record-core-cycles on")
        self._testpmd.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._testpmd.close()

    def ready(self) -> None:
        """The generator waits for its own ports, which is enough here."""

    def cycles(self) -> Cycles:
        return self._testpmd.cycles()

    def thread(self) -> int:
        return self._testpmd.forwarders()[0]

    def pids(self) -> list[int]:
        return [self._testpmd.pid]

    def drops(self) -> dict[str, int]:
        return {f"port {port} TX-dropped": counters.tx_dropped
                for port, counters in self._testpmd.stop().items() if counters.tx_dropped}

    def features(self) -> str:
        self._testpmd.poll()
        found = re.findall(r"negotiated Virtio features: (0x[0-9a-f]+)", self._log.read_text())
        return found[0] if found else "?"


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind for kind in (Uswitch, ovs.OvsDpdk, TestpmdVhost)}
