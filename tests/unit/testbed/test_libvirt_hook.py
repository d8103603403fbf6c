# SPDX-License-Identifier: Apache-2.0
"""The hook as the test bed installs it is the shipped one, with this environment's Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from testbed import TestbedError, libvirt_hook
from testbed.libvirt import Libvirt
from vif_uswitch.hooks import settings


def test_it_is_the_shipped_script(tmp_path: Path) -> None:
    config = libvirt_hook.install(Libvirt(tmp_path), default_segment="lan")
    made = tmp_path / "etc/hooks/qemu.d/50-uswitch"
    assert os.access(made, os.X_OK)
    shipped = libvirt_hook.SHIPPED.read_text().splitlines()
    lines = made.read_text().splitlines()
    assert f"PATH={tmp_path}/opt/bin:$PATH" in lines
    changed = [line.replace(f"{tmp_path}/opt", "/opt/uswitch") for line in lines]
    assert [line for line in changed if line not in shipped] == [
        f"export USWITCH_LIBVIRT_CONF={config}"]
    python = tmp_path / "opt/bin/python3"
    code = "import vif_uswitch.hooks.qemu, sys; print('msgspec' in sys.modules)"
    assert subprocess.check_output([python, "-I", "-c", code], text=True) == "False\n"
    assert settings.load(str(config)).default_segment == "lan"


def test_settings_change(tmp_path: Path) -> None:
    config = libvirt_hook.install(Libvirt(tmp_path), default_segment="lan")
    libvirt_hook.configure(config, deadline_s=1)
    assert settings.load(str(config)) == settings.HostSettings(deadline_s=1)


def test_a_script_that_cannot_be_moved_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    monkeypatch.setattr(libvirt_hook, "SHIPPED", tmp_path / "hook")
    with pytest.raises(TestbedError, match="does not name"):
        libvirt_hook.install(Libvirt(tmp_path / "lv"))
