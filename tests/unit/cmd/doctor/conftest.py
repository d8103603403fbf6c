# SPDX-License-Identifier: Apache-2.0
"""Fixtures: an empty host and a healthy one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cmd.doctor.fake_root import FakeRoot
from vif_uswitch.cmd.doctor import command
from vif_uswitch.cmd.doctor.model import Finding, Status

Expect = Callable[[str, str], Finding]


@pytest.fixture
def empty(tmp_path: Path) -> FakeRoot:
    return FakeRoot(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> FakeRoot:
    return FakeRoot(tmp_path).healthy()


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> Expect:
    """Runs one check on the test's host, demands that status, and returns what was found."""
    name = "host" if "host" in request.fixturenames else "empty"
    fake: FakeRoot = request.getfixturevalue(name)

    def run(ident: str, status: str) -> Finding:
        (check,) = [one for one in command.CHECKS if one.ident == ident]
        finding = fake.run(check)
        assert finding.status is Status(status), finding
        assert "\n" not in finding.text and "could not be checked" not in finding.text
        assert finding.todo or finding.status in (Status.PASS, Status.SKIP)
        return finding

    return run
