# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the command line's tests: a real control socket, and what runs a command."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from tests.unit.cmd.ctl_rig import Ctl
from tests.unit.daemon.control_rig import Control


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        with Control(pathlib.Path(name).resolve()).serving() as running:
            monkeypatch.setenv("USWITCH_SOCKET", running.path)
            yield running


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(capsys)
