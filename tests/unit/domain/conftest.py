# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the domain room's tests: a real control socket, and a client of it."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch.client import Client


@pytest.fixture
def control() -> Iterator[Control]:
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        with Control(pathlib.Path(name).resolve()).serving() as running:
            yield running


@pytest.fixture
def client(control: Control) -> Iterator[Client]:
    with Client(control.path) as connected:
        connected.segment_add("blue")
        yield connected
