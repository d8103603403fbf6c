# SPDX-License-Identifier: Apache-2.0
"""One host, with one adapter that may be taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.uplink.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    made.nic()
    return made
