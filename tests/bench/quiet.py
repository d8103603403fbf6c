# SPDX-License-Identifier: Apache-2.0
"""Whether the machine left us alone while we measured.

A thread that spins has a processor all the time, or somebody else had it.  The kernel counts both:
how long each thread ran and how long it was runnable and waited.  The hypervisor's share ("steal")
is counted for the machine.  A figure that was taken while others had the processors says more
about them than about the switch, so ``rounds.py`` measures again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reading:
    """Nanoseconds by thread, and ticks of the machine's processors (all states, stolen)."""

    ran: tuple[int, ...]
    waited: tuple[int, ...]
    ticks: int
    stolen: int


def read(threads: Sequence[int]) -> Reading:
    """Now, for threads given by id."""
    pairs = []
    for thread in threads:
        words = Path(f"/proc/{thread}/schedstat").read_text().split()
        pairs.append((int(words[0]), int(words[1])))
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return Reading(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), sum(ticks), ticks[7])


def disturbance(before: Reading, after: Reading) -> float:
    """Share of the time that one of the threads wanted to run and could not, at worst."""
    worst = 0.0
    for ran, waited in zip(
            (b - a for a, b in zip(before.ran, after.ran, strict=True)),
            (b - a for a, b in zip(before.waited, after.waited, strict=True)), strict=True):
        worst = max(worst, waited / (ran + waited) if ran + waited else 0.0)
    ticks = after.ticks - before.ticks
    return worst + ((after.stolen - before.stolen) / ticks if ticks else 0.0)


def prefer(threads: Sequence[int]) -> None:
    """Highest ordinary priority (root).  The kernel weighs automatic groups of sessions first."""
    for thread in threads:
        os.setpriority(os.PRIO_PROCESS, thread, -20)
        group = Path(f"/proc/{thread}/autogroup")
        if group.exists():
            group.write_text("-20")


def two_cpus() -> list[int]:
    """CPUs we may use, one thread of each core first."""
    allowed = sorted(os.sched_getaffinity(0))
    first: list[int] = []
    siblings: list[int] = []
    seen: set[str] = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = path.read_text().strip() if path.exists() else str(cpu)
        (siblings if core in seen else first).append(cpu)
        seen.add(core)
    return [*first, *siblings][:2]
