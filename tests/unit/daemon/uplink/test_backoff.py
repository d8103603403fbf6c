# SPDX-License-Identifier: Apache-2.0
"""Pauses between attempts, on a clock of our own."""

from __future__ import annotations

from vif_uswitch.daemon.uplink.backoff import LAST_S, STEADY_S, Backoff


def test_pauses_double_up_to_a_minute() -> None:
    backoff, now, seen = Backoff(), 1000.0, []
    for _ in range(9):
        pause = backoff.pause(now)
        seen.append(pause)
        now += pause + 0.5
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60, 60] and seen[-1] == LAST_S


def test_who_worked_for_a_while_starts_anew() -> None:
    backoff = Backoff()
    assert [backoff.pause(0.0), backoff.pause(1.0)] == [1, 2]
    assert backoff.pause(3.0 + STEADY_S - 1) == 4
    assert backoff.pause(2 * STEADY_S + 10) == 1
