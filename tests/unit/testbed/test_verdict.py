# SPDX-License-Identifier: Apache-2.0
"""The demo's verdict must be able to fail: each kind of missing frame is a fault of its own."""

from __future__ import annotations

import pytest

from testbed.traffic import Ping
from testbed.verdict import CONGESTION, PortCount, balance, faults

A = PortCount(10, 7, 10, 7)
B = PortCount(7, 10, 7, 10)


def test_equal_counters_are_no_fault() -> None:
    assert balance({"a": A, "b": B}) == []


@pytest.mark.parametrize(("a", "b", "says"), [
    (PortCount(11, 7, 10, 7), B, "a sent 11 frames, the switch took 10"),
    (A, PortCount(7, 9, 7, 10), "gave 10 frames to b, which received 9"),
    (PortCount(11, 7, 11, 7), B, "of 11 frames from a 10 went to b and 0 were dropped"),
])
def test_a_missing_frame_is_named(a: PortCount, b: PortCount, says: str) -> None:
    assert any(says in fault for fault in balance({"a": a, "b": b}))


def test_a_counted_drop_adds_up_and_is_still_a_fault() -> None:
    b = PortCount(7, 9, 7, 9, {("out", "ring_full"): 1})
    assert balance({"a": A, "b": b}) == ["1 frames dropped at b, out: ring_full"]
    assert balance({"a": A, "b": b}, CONGESTION) == []


def test_a_drop_on_the_way_in_belongs_to_the_sender() -> None:
    a = PortCount(10, 7, 10, 7, {("in", "flood_budget"): 2})
    b = PortCount(7, 8, 7, 8)
    assert balance({"a": a, "b": b}) == ["2 frames dropped at a, in: flood_budget"]


def test_difference_forgets_old_drops() -> None:
    before = PortCount(1, 1, 1, 1, {("out", "ring_full"): 5})
    after = PortCount(2, 3, 2, 3, {("out", "ring_full"): 5, ("in", "policy"): 1})
    assert after.minus(before) == PortCount(1, 2, 1, 2, {("in", "policy"): 1})


def test_lost_and_doubled_pings_are_faults() -> None:
    counts = {"a": A, "b": B}
    assert faults({"p": Ping(5, 5, 0, 1, 1, 1)}, counts, counts) == []
    assert faults({"p": Ping(5, 4, 0, 1, 1, 1)}, counts, counts) == ["p: 1 of 5 lost"]
    assert faults({"p": Ping(5, 5, 1, 1, 1, 1)}, counts, counts) == ["p: 1 duplicates"]
