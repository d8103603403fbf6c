# SPDX-License-Identifier: Apache-2.0
"""The load: frames that circulate between two guest-like ports, through the switch and back.

Both ports belong to one dpdk-testpmd in io mode: what comes in at one goes out at the other, its
addresses unchanged, so the switch carries it the same way again.  Each frame in flight thus makes
the switch work as soon as the generator has turned it round, no ring ever overflows, and the rate
is that of the slower of the two.  Which one that is, their own cycle counts tell.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError
from testbed.testpmd import Cycles, Settings, Testpmd, VirtioUser

from . import quiet
from .cases import Case
from .contenders import MACS, Contender

BURST = 32


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


class Generator:
    """A running load; create it when the switch listens."""

    def __init__(self, directory: Path, case: Case, contender: Contender, cpu: int) -> None:
        self._case = case
        self._contender = contender
        ports = [VirtioUser(path, mac, queue_size=case.ring, options=case.options)
                 for path, mac in zip(contender.paths, MACS, strict=True)]
        # Kept frames (no flush) are what a load in one direction is made of, see start().
        settings = Settings(mode="io", pin=(cpu,), descriptors=case.ring,
                            peers=((0, MACS[1]), (1, MACS[0])),
                            options=(f"--txpkts={case.size}", "--no-flush-rx",
                                     f"--burst={BURST}"))
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
        bursts = self._case.in_flight // BURST
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
        threads = self.threads()
        noise = quiet.read(threads)
        before = self._work()
        first, started = self._packets(), time.monotonic()
        time.sleep(seconds)
        last, ended = self._packets(), time.monotonic()
        after = self._work()
        disturbed = quiet.disturbance(noise, quiet.read(threads))
        if last == first:
            raise TestbedError(f"nothing comes through {self._contender.name}: "
                               f"{self._contender.drops() or 'no drops either'}")
        generator, switch = (Work.between(b, a) for b, a in zip(before, after, strict=True))
        ceiling = after[0][1].mhz * 1e6 / generator.cycles if generator.cycles else 0.0
        return Window((last - first) / (ended - started), switch, generator, ceiling, disturbed)

    def _work(self) -> tuple[tuple[float, Cycles], tuple[float, Cycles]]:
        """Generator's and switch's readings."""
        mine = (time.monotonic(), self._testpmd.cycles())
        return mine, (time.monotonic(), self._contender.cycles())

    def lost(self) -> int:
        """Frames the generator itself could not send; ends the load."""
        return sum(counters.tx_dropped for counters in self._testpmd.stop().values())

    def _packets(self) -> int:
        return sum(counters.rx_packets for counters in self._testpmd.stats().values())
