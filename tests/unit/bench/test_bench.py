# SPDX-License-Identifier: Apache-2.0
"""What the benchmark reads from others, and what it concludes."""

from __future__ import annotations

import pytest

from testbed import TestbedError
from tests.bench import report, summary
from tests.bench.cases import CASES, Case, Expected
from tests.bench.figure import Figure, Limit
from tests.bench.generator import Window, Work
from tests.bench.load import parse_answer
from tests.bench.ovs import parse_pmd, parse_queues
from tests.bench.rounds import Measured, Sample, packed

PMD = """pmd thread numa_id 0 core_id 0:
  packets received: 1200
  emc hits: 1100
  idle cycles: 7000 (70.00%)
  processing cycles: 3000 (30.00%)
main thread:
  packets received: 5
  processing cycles: 99 (1.00%)
"""

QUEUES = """pmd thread numa_id 0 core_id 0:
  isolated : false
  port: v0                queue-id:  0 (enabled)   pmd usage:  0 %
  port: v1                queue-id:  0 (disabled)  pmd usage:  0 %
"""


def test_only_the_forwarding_thread_of_open_vswitch_counts() -> None:
    assert parse_pmd(PMD) == (3000, 1200)
    assert parse_pmd("main thread:\n  packets received: 5\n") == (0, 0)


def test_a_port_of_open_vswitch_without_its_guest_is_not_served() -> None:
    assert parse_queues(QUEUES) == {"v0"}


def test_answers_of_the_load_program() -> None:
    assert parse_answer("rc=0 bytes=12\n") == {"rc": 0, "bytes": 12}
    for bad in ("", "Segmentation fault\n", "rc=-11\n", "error=-22\n"):
        with pytest.raises(TestbedError):
            parse_answer(bad)


def test_packed_rings_are_feature_bit_34() -> None:
    assert packed("0x400000000")
    assert not packed("0x950008000")
    assert not packed("?")


def _sample(name: str, number: int, rate: float) -> Sample:
    case = Case("c", 64, expected=(Expected("peer", 2.0),))
    window = Window(rate, Work(100, 1.0), Work(50, 0.5), 9e6, 0.0)
    return Sample(case, name, number, window, 1, 0, {}, "0x0")


def test_ratios_are_taken_within_a_round() -> None:
    """The peer's second round is missing: the first and third are what can be compared."""
    samples = [_sample("ours", n, rate) for n, rate in ((1, 4e6), (2, 9e6), (3, 6e6))]
    samples += [_sample("peer", n, rate) for n, rate in ((1, 2e6), (3, 2e6))]
    ratio, = summary.ratios(samples, "peer")
    assert (ratio.rate.low, ratio.rate.median, ratio.rate.high) == (2.0, 2.5, 3.0)
    assert report.expected(ratio) == (">= 2.0x", "ok")


def test_a_ratio_below_what_is_expected_is_short() -> None:
    ratio, = summary.ratios([_sample("ours", 1, 3e6), _sample("peer", 1, 2e6)], "peer")
    assert report.expected(ratio) == (">= 2.0x", "short")


def test_figures_against_a_limit_and_against_another_one() -> None:
    limits = (Limit(1.1, "kernel"), Limit(50.0), Limit(0.8, "absent"))
    rows = summary.figure_rows([
        Measured(1, Figure("trip", "ours", 60, "us", limits)),
        Measured(1, Figure("trip", "kernel", 80, "us")),
    ])
    assert [(row.subject, row.found, row.verdict) for row in rows] == [
        ("ours", "0.75x", "ok"), ("ours", "", "short"), ("kernel", "", "")]


def test_a_ring_holds_all_frames_of_a_case() -> None:
    for case in CASES.values():
        assert case.in_flight <= case.ring, case.name
        assert case.in_flight % case.burst == 0, case.name
