# SPDX-License-Identifier: Apache-2.0
"""Prints what was found: a table for people, CSV and JSON for programs, a picture if possible."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import summary
from .machine import Machine
from .rounds import Measured, Plan, Sample

HEAD = ("case", "switch", "Mpps", "min..max", "Gbit/s", "cycles/pkt", "busy",
        "gen. cycles/pkt", "gen. busy", "gen. ceiling")


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """Everything one run found."""

    machine: Machine
    plan: Plan
    samples: list[Sample]
    ours: str
    peers: tuple[str, ...]
    measured: list[Measured]

    @property
    def rows(self) -> list[summary.Row]:
        """By case and switch."""
        return summary.rows(self.samples)

    @property
    def ratios(self) -> list[summary.Ratio]:
        """Ours against each peer."""
        return [ratio for peer in self.peers for ratio in summary.ratios(self.samples, peer)
                if ratio.contender == self.ours]


def aligned(lines: Sequence[Sequence[str]], left: int = 2) -> str:
    """Columns; the first ``left`` are flush left, the others right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(
        word.ljust(width) if i < left else word.rjust(width)
        for i, (word, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines)


def table(result: Result) -> str:
    """The whole report as text."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in result.rows:
        rate = row.rate
        lines.append((
            row.case.name, row.contender, f"{rate.median / 1e6:.2f}",
            f"{rate.low / 1e6:.2f}..{rate.high / 1e6:.2f}", f"{row.bits / 1e9:.2f}",
            f"{row.cycles:.0f}", f"{row.busy:.0%}", f"{row.generator_cycles:.0f}",
            f"{row.generator_busy:.0%}", f"{row.ceiling / 1e6:.2f} Mpps"))
    parts = [_about(result)]
    if len(lines) > 1:
        parts.append(aligned(lines))
    ratios: list[tuple[str, ...]] = [("case", "", "rate", "min..max", "expected", "",
                                      "cycles/pkt", "min..max")]
    for ratio in result.ratios:
        wanted, verdict = expected(ratio)
        ratios.append((ratio.case.name, f"{ratio.contender} / {ratio.reference}",
                       f"{ratio.rate.median:.2f}x",
                       f"{ratio.rate.low:.2f}..{ratio.rate.high:.2f}", wanted, verdict,
                       f"{ratio.cycles.median:.2f}x",
                       f"{ratio.cycles.low:.2f}..{ratio.cycles.high:.2f}"))
    if len(ratios) > 1:
        parts.append(aligned(ratios))
    values: list[tuple[str, ...]] = [("figure", "of", "value", "min..max", "unit", "expected",
                                      "ratio", "")]
    values += [(row.name, row.subject, f"{row.value.median:.2f}",
                f"{row.value.low:.2f}..{row.value.high:.2f}", row.unit, row.wanted, row.found,
                row.verdict) for row in summary.figure_rows(result.measured)]
    if len(values) > 1:
        parts.append(aligned(values))
    return "\n\n".join([*parts, "\n".join(_notes(result))])


def expected(ratio: summary.Ratio) -> tuple[str, str]:
    """What is wanted of a ratio, and whether it is reached; both empty if nothing is."""
    for wanted in ratio.case.expected:
        if wanted.peer == ratio.reference:
            return (f">= {wanted.ratio:.1f}x",
                    "ok" if ratio.rate.median >= wanted.ratio else "short")
    return "", ""


def _about(result: Result) -> str:
    machine, plan = result.machine, result.plan
    return (f"{machine.cpu}, {machine.cpus} CPUs, Linux {machine.kernel}, {machine.dpdk}\n"
            f"switch on CPU {plan.cpus[0]}, generator on CPU {plan.cpus[1]}; {plan.rounds} rounds "
            f"of {plan.seconds:g} s; load average {machine.load_before} before, "
            f"{machine.load_after} after")


def _notes(result: Result) -> list[str]:
    notes = ["Mpps: frames received at both far ends. busy: share of the time with frames to move."]
    for row in result.rows:
        where = f"{row.case.name}, {row.contender}"
        if row.case.cycles and row.contender == result.ours:
            verdict = "ok" if row.cycles <= row.case.cycles else "short"
            notes.append(f"{where}: {row.cycles:.0f} cycles a packet, expected at most "
                         f"{row.case.cycles:.0f}: {verdict}.")
        if row.generator_limits:
            notes.append(f"{where}: the generator limits the rate (busy {row.generator_busy:.0%}, "
                         f"switch {row.busy:.0%}); compare cycles a packet.")
        if row.disturbed > 2 * result.plan.quiet:
            notes.append(f"{where}: disturbed by other processes, up to {row.disturbed:.0%} of "
                         "the time; run it again on a quieter machine.")
        if row.lost:
            notes.append(f"{where}: the generator could not send {row.lost} frames.")
        notes += [f"{where}: {frames} frames dropped, {reason}."
                  for reason, frames in row.drops.items()]
    features = {(row.contender, row.case.options): row.features for row in result.rows}
    notes += [f"negotiated by {name}{' with ' + ' '.join(options) if options else ''}: {bits}"
              for (name, options), bits in features.items()]
    return notes


def as_json(result: Result) -> str:
    """Everything, samples included."""
    document: dict[str, Any] = {
        "machine": dataclasses.asdict(result.machine), "plan": dataclasses.asdict(result.plan),
        "peers": result.peers,
        "rows": [{**dataclasses.asdict(row), "generator_limits": row.generator_limits}
                 for row in result.rows],
        "ratios": [dataclasses.asdict(ratio) for ratio in result.ratios],
        "figures": [dataclasses.asdict(row) for row in summary.figure_rows(result.measured)],
        "samples": [dataclasses.asdict(sample) for sample in result.samples],
    }
    return json.dumps(document, indent=2)


def write_csv(result: Result, path: Path) -> None:
    """One line a sample."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("case", "size", "switch", "round", "packets_per_second",
                         "cycles_per_packet", "busy", "generator_cycles_per_packet",
                         "generator_busy", "disturbed"))
        for sample in result.samples:
            window = sample.window
            writer.writerow((
                sample.case.name, sample.case.size, sample.contender, sample.round,
                round(window.rate), round(window.switch.cycles, 1), round(window.switch.busy, 3),
                round(window.generator.cycles, 1), round(window.generator.busy, 3),
                round(window.disturbed, 3)))


def write_picture(result: Result, path: Path) -> str:
    """Bars with their spread; says why there is none."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return "no picture: Python package matplotlib is missing"
    rows = result.rows
    if not rows:
        return "no picture: no case was measured"
    cases = list(dict.fromkeys(row.case.name for row in rows))
    names = list(dict.fromkeys(row.contender for row in rows))
    figure, axes = pyplot.subplots(figsize=(max(7.0, 0.8 * len(cases) + 3), 5), dpi=120)
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        mine = [row for row in rows if row.contender == name]
        middle = [row.rate.median / 1e6 for row in mine]
        error = [[(row.rate.median - row.rate.low) / 1e6 for row in mine],
                 [(row.rate.high - row.rate.median) / 1e6 for row in mine]]
        axes.bar([cases.index(row.case.name) + i * width for row in mine], middle, width,
                 yerr=error, capsize=2, label=name, error_kw={"linewidth": 0.8})
    axes.set_xticks([i + width * (len(names) - 1) / 2 for i in range(len(cases))], cases,
                    rotation=35, ha="right")
    axes.set_ylabel("million packets a second")
    axes.set_title(f"{result.machine.cpu}, one core for the switch, "
                   f"{result.machine.date}\nmedian, least and greatest of {result.plan.rounds} "
                   "rounds", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return f"picture: {path}"
