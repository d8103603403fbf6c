# SPDX-License-Identifier: Apache-2.0
"""The load: frames that circulate between two guest-like ports, through the switch and back.

The ports of all pairs belong to one dpdk-testpmd in io mode: what comes in at one goes out at the
other, its addresses unchanged, so the switch carries it the same way again.  Each frame in flight
thus makes the switch work as soon as the generator has turned it round, no ring ever overflows, and
the rate is that of the slower of the two.  Which one that is, their own cycle counts tell.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from testbed import TestbedError
from testbed.testpmd import Cycles, Settings, Testpmd, VirtioUser

from . import quiet
from .cases import Case
from .contenders import Contender, mac


@dataclass(frozen=True, slots=True)
class Work:
    """What one side did in a window: cycles a packet, and the share of the time it had work."""

    cycles: float
    busy: float

    @classmethod
    def between(cls, before: tuple[float, Cycles], after: tuple[float, Cycles]) -> Work:
        """From two readings and when they were made."""
        (started, first), (ended, last) = before, after
        spent, packets = last.busy - first.busy, last.packets - first.packets
        return cls(spent / packets if packets else 0.0,
                   min(1.0, spent / ((ended - started) * last.mhz * 1e6)))


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement: packets a second at the far ends, and who did what."""

    rate: float
    switch: Work
    generator: Work
    ceiling: float  # packets a second the generator could turn round if it had no time to wait
    disturbed: float


class Load(Protocol):
    """A running load: testpmd's here, or that of the load program (``load.py``)."""

    def __enter__(self) -> Load: ...

    def __exit__(self, *_: object) -> None: ...

    def start(self) -> None:
        """Put the frames into circulation."""

    def threads(self) -> list[int]:
        """The two that must never wait for a processor: the switch's and the load's."""

    def measure(self, seconds: float) -> Window:
        """Over the next seconds."""

    def lost(self) -> int:
        """Frames that did not come back; ends the load."""


class Generator:
    """dpdk-testpmd as the load; create it when the switch listens."""

    def __init__(self, directory: Path, case: Case, contender: Contender, cpu: int) -> None:
        self._case = case
        self._contender = contender
        ports = [VirtioUser(path, mac(i), queue_size=case.ring, options=case.options)
                 for i, path in enumerate(contender.paths)]
        # Kept frames (no flush) are what a load in one direction is made of, see start().
        settings = Settings(mode="io", pin=(cpu,), descriptors=case.ring, mbufs=8192 * case.pairs,
                            peers=tuple((i, mac(i ^ 1)) for i in range(case.ports)),
                            options=(f"--txpkts={case.size}", "--no-flush-rx",
                                     f"--burst={case.burst}"))
        self._testpmd = Testpmd("generator", directory, ports, settings)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self._testpmd.close()

    def start(self) -> None:
        """Put the frames into circulation."""
        self._testpmd.wait()
        self._contender.ready()
        self._testpmd.command("set record-core-cycles on")
        bursts = self._case.in_flight // self._case.burst
        if self._case.both_ways:
            self._testpmd.start(tx_first=bursts)
            return
        # Out of port 0 only; they wait in port 1's ring until it is listened to.
        self._testpmd.command("set portlist 0")
        self._testpmd.start(tx_first=bursts)
        self._testpmd.command("stop")
        self._testpmd.command("set portlist 0,1")
        self._testpmd.start()

    def threads(self) -> list[int]:
        """The two that must never wait for a processor: the switch's and ours."""
        return [self._contender.thread(), *self._testpmd.forwarders()]

    def measure(self, seconds: float) -> Window:
        """Over the next seconds."""
        return measure(self, self._contender, seconds)

    def work(self) -> Cycles:
        """The generator's own."""
        return self._testpmd.cycles()

    def packets(self) -> int:
        """Received at all ports."""
        return sum(counters.rx_packets for counters in self._testpmd.stats().values())

    def lost(self) -> int:
        """Frames the generator itself could not send; ends the load."""
        return sum(counters.tx_dropped for counters in self._testpmd.stop().values())


class Counting(Protocol):
    """What measure() reads of a load."""

    def threads(self) -> list[int]: ...

    def work(self) -> Cycles: ...

    def packets(self) -> int: ...


def measure(load: Counting, contender: Contender, seconds: float) -> Window:
    """Rate and cycles of a load and of the switch it goes through."""

    def work() -> tuple[tuple[float, Cycles], tuple[float, Cycles]]:
        mine = (time.monotonic(), load.work())
        theirs = (time.monotonic(), contender.cycles())
        if theirs[1].mhz:
            return mine, theirs
        return mine, (theirs[0], replace(theirs[1], mhz=mine[1].mhz))

    threads = load.threads()
    noise = quiet.read(threads)
    before = work()
    first, started = load.packets(), time.monotonic()
    time.sleep(seconds)
    last, ended = load.packets(), time.monotonic()
    after = work()
    disturbed = quiet.disturbance(noise, quiet.read(threads))
    if last == first:
        raise TestbedError(f"nothing comes through {contender.name}: "
                           f"{contender.drops() or 'no drops either'}")
    generator, switch = (Work.between(b, a) for b, a in zip(before, after, strict=True))
    ceiling = after[0][1].mhz * 1e6 / generator.cycles if generator.cycles else 0.0
    return Window((last - first) / (ended - started), switch, generator, ceiling, disturbed)
