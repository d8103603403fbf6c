# SPDX-License-Identifier: Apache-2.0
"""tools/run_checks.py: every check is run once, in an order that suits who waits for whom."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tools import run_checks, stage
from tools.aside import Check

NAMES = {check.name for check in run_checks.checks()}
FUNCTIONAL, UNIT = "functional tests", "Python unit tests, layering, properties"
OPENSTACK = "real Nova, Neutron, os-vif and libvirtd"


class Ran:
    """What was started, in order; what is in ``broken`` fails."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.broken: set[str] = set()

    def execute(self, log: pathlib.Path, command: Any, title: str = "") -> tuple[int, float]:
        del command, title
        self.names.append(log.stem)
        log.touch()
        return int(log.stem in self.broken), 0.0

    def pytest(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        name = (OPENSTACK if command[0] == "make"
                else FUNCTIONAL if "tests/functional" in command else UNIT)
        self.names.append(name)
        return subprocess.CompletedProcess(command, int(name in self.broken))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ran]:
    ran = Ran()
    monkeypatch.setattr(stage, "execute", ran.execute)
    monkeypatch.setattr(subprocess, "run", ran.pytest)
    yield ran


def run(ran: Ran, logs: pathlib.Path, *broken: str) -> list[str]:
    ran.broken = set(broken)
    return run_checks.Run(run_checks.checks(), logs).all()


def test_lanes_name_checks() -> None:
    in_lanes = [name for lane in run_checks.LANES for name in lane]
    assert set(in_lanes) <= NAMES and len(in_lanes) == len(set(in_lanes))


def test_all_of_it_once(ran: Ran, tmp_path: pathlib.Path) -> None:
    assert run(ran, tmp_path) == []
    assert sorted(ran.names) == sorted([*NAMES, FUNCTIONAL, UNIT, OPENSTACK])
    order = ran.names.index
    assert order("c-build") < order("c-check") and order("fuzz-bugs") < order("fuzz")
    assert order("openstack-venv") < order(OPENSTACK)
    assert ran.names[-1] == UNIT


@pytest.mark.parametrize("name", sorted({*NAMES, FUNCTIONAL, UNIT, OPENSTACK}))
def test_each_failure_is_one_and_stops_nothing(
    ran: Ran, tmp_path: pathlib.Path, name: str
) -> None:
    assert run(ran, tmp_path, name) == [name]
    unless = {OPENSTACK} if name == "openstack-venv" else set()
    assert set(ran.names) == {*NAMES, FUNCTIONAL, UNIT, OPENSTACK} - unless


def test_groups_that_were_not_asked_for(ran: Ran, tmp_path: pathlib.Path) -> None:
    chosen = [check for check in run_checks.checks() if check.group == "docs"]
    assert run_checks.Run(chosen, tmp_path).all() == []
    assert ran.names == ["docs", FUNCTIONAL, UNIT]


def test_a_lane_has_its_share_of_the_processors() -> None:
    check = Check("c", "x", "x", ("make", run_checks.JOBS, "check"))
    assert run_checks.in_lane(check).command == ("make", run_checks.LANE_JOBS, "check")
    assert 1 <= int(run_checks.LANE_JOBS[2:]) <= run_checks.PROCESSORS
