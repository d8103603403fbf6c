# SPDX-License-Identifier: Apache-2.0
"""The switches that are compared: each has two ports for guests and one core to forward on.

A contender starts in a directory of its own, says where its sockets are and, when asked, how many
cycles it has spent on how many frames, by its own account.  To add one, write a class with the
members of ``Contender`` and name it in CONTENDERS; the first is ours, the second the reference.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Protocol

from testbed.daemons import Switch
from testbed.testpmd import Cycles, Settings, Testpmd, Vhost

from .cases import Case

MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")


class Contender(Protocol):
    """A running switch."""

    name: str
    about: str
    paths: tuple[Path, Path]

    def __init__(self, directory: Path, case: Case, cpu: int) -> None: ...

    def __enter__(self) -> Contender: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...

    def ready(self) -> None:
        """Wait until both ports are up and frames may come."""

    def cycles(self) -> Cycles:
        """Spent on frames so far."""

    def thread(self) -> int:
        """Id of the thread that forwards."""

    def drops(self) -> dict[str, int]:
        """Frames not delivered, by reason."""

    def features(self) -> str:
        """What it negotiated with the first port, in hexadecimal."""


class Uswitch:
    """This project's switch: uswitchd and its dataplane, one worker."""

    name = "uswitch"
    about = "uswitchd, one worker, two vhost-user ports in a segment, addresses pinned"

    def __init__(self, directory: Path, case: Case, cpu: int) -> None:
        del case
        self._switch = Switch(directory, options={"dataplane": {"workers": 1, "cpus": cpu}})
        self.paths = (directory / "vhost/p0", directory / "vhost/p1")

    def __enter__(self) -> Uswitch:
        self._switch.__enter__()
        # Nothing is unknown, so nothing is flooded: the reference does not flood either.
        first, second = (self._switch.add_port(f"p{i}", segment="bench", macs=[MACS[i]])
                         for i in (0, 1))
        self.paths = (first, second)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._switch.__exit__(kind, error, trace)

    def ready(self) -> None:
        for i in (0, 1):
            self._switch.wait_link(f"p{i}")

    def cycles(self) -> Cycles:
        answer = self._switch.call("worker.list")
        worker = answer["workers"][0]
        return Cycles(worker["busy_cycles"], worker["frames"], answer["tsc_khz"] // 1000)

    def thread(self) -> int:
        tid: int = self._switch.call("worker.list")["workers"][0]["tid"]
        return tid

    def drops(self) -> dict[str, int]:
        return {f"{port} {direction} {reason}": frames
                for port, direction, reason, frames in self._switch.drops()}

    def features(self) -> str:
        found: str = self._switch.call("port.show", name="p0")["virtio_features"]
        return found


class TestpmdVhost:
    """DPDK's example forwarder between two vhost ports: no lookup, no address, no policy."""

    __test__ = False
    name = "testpmd"
    about = "dpdk-testpmd, two net_vhost ports, io mode, one forwarding core"

    def __init__(self, directory: Path, case: Case, cpu: int) -> None:
        self.paths = (directory / "v0", directory / "v1")
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

    def drops(self) -> dict[str, int]:
        return {f"port {port} TX-dropped": counters.tx_dropped
                for port, counters in self._testpmd.stop().items() if counters.tx_dropped}

    def features(self) -> str:
        self._testpmd.poll()
        found = re.findall(r"negotiated Virtio features: (0x[0-9a-f]+)", self._log.read_text())
        return found[0] if found else "?"


CONTENDERS: dict[str, type[Contender]] = {kind.name: kind for kind in (Uswitch, TestpmdVhost)}
