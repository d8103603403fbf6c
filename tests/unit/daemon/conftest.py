# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of the control plane."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from tests.unit.daemon.control_rig import Control


@pytest.fixture
def short_dir() -> Iterator[pathlib.Path]:
    """A directory whose path leaves room for a socket's name (pytest's own are too long)."""
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        yield pathlib.Path(name).resolve()


@pytest.fixture
def control(short_dir: pathlib.Path) -> Iterator[Control]:
    with Control(short_dir).serving() as running:
        yield running
