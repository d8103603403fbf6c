# SPDX-License-Identifier: Apache-2.0
"""The hook as libvirt runs it: arguments, XML, exit status."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.unit.hooks.hook_rig import Bed, Run
from vif_uswitch.hooks import qemu, settings


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setenv(settings.PATH_VARIABLE, str(tmp_path / "libvirt.conf"))
    return Bed(tmp_path)


@pytest.fixture
def run(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(operation: str, xml: str | bytes = "") -> int:
        text = xml or bed.xml()
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return qemu.main(["vm1", operation, "begin", "-"])

    return call
