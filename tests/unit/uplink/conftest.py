# SPDX-License-Identifier: Apache-2.0
"""One host, with one adapter that may be taken."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from tests.unit.uplink.fake_host import FakeHost
from vif_uswitch.uplink import checks


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(checks, "GROUP", grp.getgrgid(os.getgid()).gr_name)
    made = FakeHost(tmp_path)
    made.nic()
    return made
