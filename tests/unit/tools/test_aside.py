# SPDX-License-Identifier: Apache-2.0
"""tools/aside.py: one after the other, in the idle class; told once, and every failure is."""

from __future__ import annotations

import os
import pathlib

import pytest

from tools.aside import Check, Lane


def shell(name: str, script: str) -> Check:
    return Check("group", name, f"title of {name}", ("sh", "-c", script))


def test_one_after_the_other(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace"
    lane = Lane([shell("a", f"echo a >> {trace}; sleep 0.2; echo A >> {trace}; exit 3"),
                 shell("b", f"echo b >> {trace}")], tmp_path)
    assert lane.names == ["a", "b"] and "a" in lane and "c" not in lane
    assert lane.wait("b") == 0
    assert trace.read_text(encoding="utf-8").split() == ["a", "A", "b"]
    assert "title of a" not in capsys.readouterr().out, "nobody has waited for it"
    assert lane.wait("a") == 3
    shown = capsys.readouterr().out
    assert "title of a" in shown and "FAILED with status 3" in shown
    assert lane.names == [] and "a" not in lane


def test_in_the_idle_class(tmp_path: pathlib.Path) -> None:
    lane = Lane([shell("a", "chrt -p $$")], tmp_path)
    assert lane.wait("a") == 0
    assert "SCHED_IDLE" in (tmp_path / "a.log").read_text(encoding="utf-8")


def test_cancelled(tmp_path: pathlib.Path) -> None:
    """What runs is not killed (its terminal does that); what has not begun does not begin."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    lane = Lane([shell("a", f"read line < {gate}"), shell("b", f"echo > {tmp_path}/b")], tmp_path)
    with gate.open("w") as stream:  # opens when the first one reads
        lane.cancel()
        stream.write("go\n")
    assert lane.wait("a") == 0
    lane._thread.join()
    assert not (tmp_path / "b").exists()


def test_an_empty_lane(tmp_path: pathlib.Path) -> None:
    assert Lane([], tmp_path).names == []


def test_a_log_that_cannot_be_written(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It failed, and nobody waits for ever; the next one is run all the same."""
    (tmp_path / "a.log").mkdir()
    lane = Lane([shell("a", "true"), shell("b", "true")], tmp_path)
    assert lane.wait("a") == 1 and "a.log" in capsys.readouterr().out
    assert lane.wait("b") == 0
