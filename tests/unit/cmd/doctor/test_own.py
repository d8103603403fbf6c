# SPDX-License-Identifier: Apache-2.0
"""A user's own switch: no group is asked for, and its unit is the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import DAEMON_PID, STRANGER, VHOST, FakeRoot
from vif_uswitch.exceptions import DaemonUnreachable

UNIT = "systemd/user/uswitchd.service"


@pytest.fixture
def own(host: FakeRoot, monkeypatch: pytest.MonkeyPatch) -> FakeRoot:
    """The daemon was started with --user, by whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
    host.process(DAEMON_PID, "python3", "/opt/uswitch/bin/uswitchd", "--user", uid=os.geteuid())
    host.at(VHOST).chmod(0o700)
    return host


def test_sockets_need_no_group(own: FakeRoot, expect: Expect) -> None:
    assert "own switch" in expect("SOCK-01", "PASS").text
    assert "qemu:///session" in expect("SOCK-02", "PASS").text
    expect("SOCK-03", "PASS")


def test_everybody_may_still_not_write(own: FakeRoot, expect: Expect) -> None:
    own.at(VHOST).chmod(0o777)
    assert "everybody" in expect("SOCK-01", "FAIL").text


def test_one_that_does_not_run_is_known_by_its_socket(
    own: FakeRoot, expect: Expect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "mine"))
    own.client.path = str(tmp_path / "mine/uswitch/control.sock")
    own.client.error = DaemonUnreachable("uswitchd", None, "closed the connection")
    assert "systemctl --user restart uswitchd" in expect("CTL-01", "FAIL").todo


def test_its_unit(own: FakeRoot, expect: Expect) -> None:
    own.at("/run/systemd/system").mkdir(parents=True, exist_ok=True)
    assert "no user unit" in (found := expect("UNIT-01", "WARN")).text
    assert "/home/me/.config/systemd/user" in found.todo
    own.put(f"/home/me/.config/{UNIT}")
    assert "is not enabled" in expect("UNIT-01", "WARN").text
    own.put("/home/me/.config/systemd/user/default.target.wants/uswitchd.service")
    assert "enable-linger" in expect("UNIT-01", "WARN").todo
    own.put(f"/var/lib/systemd/linger/{own.scene().host.me.name}")
    assert "lingers" in expect("UNIT-01", "PASS").text


def test_the_unit_of_somebody_else(own: FakeRoot, expect: Expect) -> None:
    own.at("/run/systemd/system").mkdir(parents=True, exist_ok=True)
    own.process(DAEMON_PID, "python3", "/opt/uswitch/bin/uswitchd", "--user", uid=STRANGER)
    assert "Ask as" in expect("UNIT-01", "SKIP").todo
