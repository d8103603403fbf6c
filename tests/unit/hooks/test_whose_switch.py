# SPDX-License-Identifier: Apache-2.0
"""Which switch the hook speaks to, for users who may have one of their own beside the host's."""

from __future__ import annotations

import os

import pytest

from tests.unit.hooks.hook_rig import Bed, Run
from vif_uswitch import client, places
from vif_uswitch.hooks import qemu


@pytest.fixture
def user(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Bed:
    """Of somebody who is not root: the directories are those of the own switch."""
    run_dir = bed.directory / "uswitch"
    run_dir.mkdir()
    bed.vhost, bed.control = run_dir / "vhost", str(run_dir / "control.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(places, "_unfit", lambda _: "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(bed.directory))
    monkeypatch.delenv("USWITCH_SOCKET", raising=False)
    (bed.directory / "libvirt.conf").unlink()
    return bed


@pytest.mark.parametrize("hosts", [False, True])
def test_a_user_whose_own_uswitchd_is_down(
    user: Bed, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    hosts: bool,
) -> None:
    """The host's switch is there, or is not, and has nothing to do with it."""
    if hosts:
        (user.directory / "system").touch()
        monkeypatch.setattr(client, "DEFAULT_SOCKET", str(user.directory / "system"))
    user.configure_host(f"deadline_s = 0.5\nvhost_socket_dir = {user.directory}/host")
    assert run("prepare") == 1
    assert f"gets no port: control socket {user.control}: is not there" in capsys.readouterr().err
    with user.uswitchd() as uswitchd:
        assert run("prepare") == 0
    _, params = uswitchd.asked[-1]
    assert params["port"]["external_ids"]["uri"] == "qemu:///session"


def test_a_users_guest_on_the_hosts_switch(user: Bed, run: Run) -> None:
    """Its socket is where the host's are: the settings say which switch that is."""
    own, host = user.control, str(user.directory / "host.sock")
    there = user.directory / "host"
    user.configure_host(f"control_socket = {host}\nvhost_socket_dir = {there}")
    user.control = host
    with user.uswitchd() as uswitchd:
        assert run("prepare", user.xml(f"{there}/a.sock")) == 0
    assert uswitchd.asked[-1][0] == "port.ensure" and not os.path.exists(own)


def test_a_user_who_may_not_use_the_hosts_switch_is_told(
    user: Bed, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The own switch is there, and the guest's socket is among the host's."""
    host = str(user.directory / "host" / "control.sock")
    monkeypatch.setattr(qemu, "DEFAULT_SOCKET", host)
    monkeypatch.setattr(client, "DEFAULT_SOCKET", host)
    user.configure_host("deadline_s = 0.5")
    with user.uswitchd() as uswitchd:
        assert run("prepare", user.xml(f"{user.directory}/host/vhost/a.sock")) == 1
    assert f"gets no port: control socket {host}" in capsys.readouterr().err
    assert uswitchd.asked == []


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_switch_that_is_named_is_taken(
    user: Bed, run: Run, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    user.control = str(user.directory / "named.sock")
    monkeypatch.setenv("USWITCH_SOCKET", user.control)
    with user.uswitchd() as uswitchd:
        assert run("prepare") == 0
    assert uswitchd.asked[-1][0] == "port.ensure"
