# SPDX-License-Identifier: Apache-2.0
"""The order of things: each round runs every case through every contender, one after the other.

Switch and generator are started anew each time, so that where their memory happens to lie is part
of the spread and not of the result.  The first moments are thrown away.  A window in which other
processes took part of our processors is measured again, a few times; the least disturbed one
counts, for all contenders alike.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError, unprivileged

from . import quiet
from .cases import Case
from .contenders import Contender
from .figure import Figure, Setting
from .figures import EXPERIMENTS, ONCE
from .generator import Generator, Load, Window
from .load import Guests

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int = 5
    seconds: float = 0.7
    warm_up: float = 0.3
    tries: int = 4  # windows, until one is quiet
    quiet: float = 0.05  # share of the time a thread may have waited for its processor
    cpus: tuple[int, int] = (0, 1)  # of the switch, of the generator
    priority: bool = False  # both ahead of everything else on the machine


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender's result in one round."""

    case: Case
    contender: str
    round: int
    window: Window
    windows: int
    lost: int  # frames the generator could not send
    drops: dict[str, int]  # frames the switch did not deliver
    features: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure and its round."""

    round: int
    figure: Figure


@contextmanager
def directory() -> Iterator[Path]:
    """Short, since a socket's path has at most 107 bytes; kept for its logs if something fails."""
    path = Path(tempfile.mkdtemp(prefix="uswitch-bench-"))
    unprivileged.own(path, unprivileged.identity())
    try:
        yield path
    except KeyboardInterrupt:  # nothing failed
        shutil.rmtree(path)
        raise
    shutil.rmtree(path)


def _load(where: Path, case: Case, contender: Contender, cpu: int) -> Load:
    if case.flows:
        return Guests(where, contender, cpu, case)
    return Generator(where, case, contender, cpu)


def _sample(case: Case, kind: type[Contender], number: int, plan: Plan
            ) -> Sample | None:
    with directory() as where:
        switch_cpu, generator_cpu = plan.cpus
        with (kind(where, case, switch_cpu) as contender,
              _load(where, case, contender, generator_cpu) as load):
            load.start()
            if plan.priority:
                quiet.prefer(load.threads())
            time.sleep(plan.warm_up)
            windows: list[Window] = []
            while len(windows) < plan.tries:
                windows.append(load.measure(plan.seconds))
                if windows[-1].disturbed <= plan.quiet:
                    break
            best = min(windows, key=lambda window: window.disturbed)
            features = contender.features()
            if case.wants_packed and not packed(features):
                load.lost()
                return None
            return Sample(case, kind.name, number, best, len(windows), load.lost(),
                          contender.drops(), features)


def packed(features: str) -> bool:
    """Whether VIRTIO_F_RING_PACKED (bit 34) is among them."""
    return features.startswith("0x") and bool(int(features, 16) >> 34 & 1)


def run(cases: Sequence[Case], kinds: Sequence[type[Contender]], plan: Plan, say: Say
        ) -> list[Sample]:
    """Everything, with a line for each step."""
    samples: list[Sample] = []
    steps = plan.rounds * len(cases) * len(kinds)
    done = 0
    without: set[tuple[str, str]] = set()  # packed rings
    started = time.monotonic()
    for number in range(1, plan.rounds + 1):
        for case in cases:
            for kind in kinds:
                done += 1
                if (case.name, kind.name) in without:
                    continue
                try:
                    sample = _sample(case, kind, number, plan)
                except TestbedError as error:  # one of hundreds: the others still count
                    say(f"round {number}/{plan.rounds}  {case.name}, {kind.name}: left out: "
                        f"{error}")
                    continue
                left = (time.monotonic() - started) / done * (steps - done)
                start = f"round {number}/{plan.rounds}  {case.name:>14}  {kind.name:<9}"
                if sample is None:
                    without.add((case.name, kind.name))
                    say(f"{start} left out: no packed ring (feature bit 34) was negotiated")
                    continue
                samples.append(sample)
                say(f"{start}{sample.window.rate / 1e6:7.2f} Mpps   disturbed "
                    f"{sample.window.disturbed:4.0%} (window {sample.windows} of at most "
                    f"{plan.tries})   about {left:.0f} s left")
    return samples


def figures(names: Sequence[str], plan: Plan, programs: Path, say: Say) -> list[Measured]:
    """The experiments, round by round; one that cannot be done here says why and is left out."""
    found: list[Measured] = []
    broken: set[str] = set()
    for number in range(1, plan.rounds + 1):
        for name in names:
            if name in broken or (number > 1 and name.startswith(ONCE)):
                continue
            try:
                with directory() as where:
                    setting = Setting(where, plan.cpus, plan.seconds, plan.priority, programs)
                    for figure in EXPERIMENTS[name](setting):
                        found.append(Measured(number, figure))
                        say(f"round {number}/{plan.rounds}  {figure.name}, {figure.subject}: "
                            f"{figure.value:.3g} {figure.unit}")
            except TestbedError as error:
                broken.add(name)
                say(f"{name}: left out: {error}")
    return found
