# SPDX-License-Identifier: Apache-2.0
"""From samples to figures: medians of each contender, ratios of neighbours in time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .cases import Case
from .figure import Figure
from .rounds import Measured, Sample


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one case."""

    case: Case
    contender: str
    rate: Spread  # packets a second, both far ends together
    bits: float  # a second, of frames without preamble, gap and checksum
    cycles: float  # of the switch, a packet
    busy: float  # share of the time the switch had packets
    generator_cycles: float
    generator_busy: float
    ceiling: float  # packets a second the generator could do
    disturbed: float  # worst sample that counts
    lost: int
    drops: dict[str, int]
    features: str

    @property
    def generator_limits(self) -> bool:
        """Whether the switch waited for the generator more than the other way round."""
        return self.generator_busy > self.busy


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contender against the reference: its rate, and the cycles it needs, in multiples."""

    case: Case
    contender: str
    reference: str
    rate: Spread
    cycles: Spread


def rows(samples: Sequence[Sample]) -> list[Row]:
    """In the order in which they were measured."""
    return [_row(group) for group in _groups(samples).values()]


def ratios(samples: Sequence[Sample], reference: str) -> list[Ratio]:
    """Of each round's pair: both halves of a pair saw the same machine, more or less."""
    groups = _groups(samples)
    found = []
    for (case, contender), group in groups.items():
        base = {sample.round: sample.window for sample in groups.get((case, reference), [])}
        pairs = [(sample.window, base[sample.round]) for sample in group if sample.round in base]
        if contender == reference or not pairs:
            continue
        found.append(Ratio(group[0].case, contender, reference,
                           Spread.of([a.rate / b.rate for a, b in pairs]),
                           Spread.of([_divide(a.switch.cycles, b.switch.cycles)
                                      for a, b in pairs])))
    return found


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure over all rounds, and what it is to be."""

    name: str
    subject: str
    value: Spread
    unit: str
    wanted: str  # the limit in words, "" if there is none
    found: str  # the ratio, where the limit is one
    verdict: str  # ok, short, or "" if nothing is wanted or the other one is missing


def figure_rows(measured: Sequence[Measured]) -> list[FigureRow]:
    """One row a limit, or one without."""
    groups: dict[tuple[str, str], dict[int, Figure]] = {}
    for one in measured:
        groups.setdefault((one.figure.name, one.figure.subject), {})[one.round] = one.figure
    found = []
    for (name, subject), by_round in groups.items():
        first = next(iter(by_round.values()))
        value = Spread.of([figure.value for figure in by_round.values()])
        for limit in first.limits or (None,):
            if limit is None:
                found.append(FigureRow(name, subject, value, first.unit, "", "", ""))
                continue
            word = ">=" if limit.at_least else "<="
            other = groups.get((name, limit.of), {})
            values = ([by_round[n].value / other[n].value for n in by_round if n in other]
                      if limit.of else [value.median])
            if not values:
                continue
            middle = statistics.median(values)
            good = middle >= limit.value if limit.at_least else middle <= limit.value
            wanted = f"{word} {limit.value:g}" + (f"x {limit.of}" if limit.of else "")
            ratio = f"{middle:.2f}x" if limit.of else ""
            found.append(FigureRow(name, subject, value, first.unit, wanted, ratio,
                                   "ok" if good else "short"))
    return found


def _divide(value: float, by: float) -> float:
    return value / by if by else 0.0


def _groups(samples: Sequence[Sample]) -> dict[tuple[str, str], list[Sample]]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.case.name, sample.contender), []).append(sample)
    return groups


def _row(group: Sequence[Sample]) -> Row:
    def median(pick: Callable[[Sample], float]) -> float:
        return statistics.median(pick(sample) for sample in group)

    rate = Spread.of([sample.window.rate for sample in group])
    drops: dict[str, int] = {}
    for sample in group:
        for reason, frames in sample.drops.items():
            drops[reason] = drops.get(reason, 0) + frames
    return Row(
        group[0].case, group[0].contender, rate, rate.median * group[0].case.size * 8,
        median(lambda s: s.window.switch.cycles), median(lambda s: s.window.switch.busy),
        median(lambda s: s.window.generator.cycles), median(lambda s: s.window.generator.busy),
        median(lambda s: s.window.ceiling), max(s.window.disturbed for s in group),
        sum(s.lost for s in group), drops, group[0].features)
