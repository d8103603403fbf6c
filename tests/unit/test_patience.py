# SPDX-License-Identifier: Apache-2.0
"""What is asked again, what is not, and what the operator reads in the end."""

from __future__ import annotations

import grp
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.scripted_uswitchd import Scripted
from vif_uswitch import patience
from vif_uswitch.client import Client
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    DaemonUnreachable,
    Forbidden,
    InvalidInput,
    TimedOut,
    Unavailable,
    USwitchError,
)

if TYPE_CHECKING:
    from vif_uswitch.client import Json


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        yield f"{name}/s"


def who(path: str, call_s: float = 60) -> patience.Caller:
    return patience.Caller(path, call_s, "nova-compute", "os_vif_uswitch")


def ask(client: Client) -> Json:
    return client.version()


def failing_first(errors: list[USwitchError]) -> Any:
    """An answer that raises those, one after the other, before it answers."""

    def answer(method: str, params: dict[str, Any]) -> Any:
        if errors:
            raise errors.pop(0)
        return {"version": "1"}

    return answer


@pytest.mark.parametrize("kind", [Busy, Unavailable])
def test_what_passes_is_asked_again(
    path: str, kind: type[USwitchError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors = [kind("dataplane", None, "is not there yet") for _ in range(2)]
    with Scripted(path, failing_first(errors)) as daemon:
        assert patience.insist(who(path), ask, 20, "port p")["version"] == "1"
        assert len(daemon.asked) == 3
    first, last = caplog.messages
    assert first == "port p: dataplane: is not there yet. Trying again for up to 20 s."
    assert last == "port p: uswitchd answers"


@pytest.mark.parametrize("kind", [InvalidInput, Conflict])
def test_what_does_not_pass_is_not(path: str, kind: type[USwitchError]) -> None:
    with Scripted(path, failing_first([kind("port", "p", "is wrong", "Mend it.")])) as daemon:
        with pytest.raises(USwitchError, match=r"port p: is wrong\. Mend it\.$"):
            patience.insist(who(path), ask, 20, "port p")
        assert len(daemon.asked) == 1


def test_a_uswitchd_that_comes_is_waited_for(path: str) -> None:
    daemon = Scripted(path, failing_first([]))
    timer = threading.Timer(0.3, daemon.__enter__)
    timer.start()
    try:
        assert patience.insist(who(path), ask, 20, "port p")["version"] == "1"
    finally:
        timer.join()
        daemon.__exit__()


def test_one_that_does_not_come(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DaemonUnreachable) as caught:
        patience.insist(who(path), ask, 0.5, "port p")
    assert str(caught.value) == (
        f"control socket {path}: is not there: uswitchd is not running, or listens elsewhere"
        " (tried for 0.5 s). Start uswitchd and see its log, or set control_socket in"
        " [os_vif_uswitch] to where it listens."
    )
    assert len(caplog.messages) == 1, "told once, however often it was tried"


def test_no_descriptors_left(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an error of ours in form; still one that says what it is about, and it may pass."""

    def no_socket(*_: object) -> None:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr("vif_uswitch.client.socket.socket", no_socket)
    with pytest.raises(Unavailable, match=r"control socket .*Too many open files \(tried for"):
        patience.insist(who(path), ask, 0.3, "port p")


def test_one_that_is_silent(path: str) -> None:
    hold = threading.Event()

    def answer(method: str, params: dict[str, Any]) -> Any:
        hold.wait(20)
        return {}

    with Scripted(path, answer):
        with pytest.raises(TimedOut, match=r"no answer within 0\.3 s\. .*timeout in \[os_vif_us"):
            patience.insist(who(path), ask, 0.3, "port p")
        with pytest.raises(TimedOut, match=r"no answer within 0\.2 s"):
            patience.insist(who(path, call_s=0.2), ask, 60, "port p")
        hold.set()


def test_the_daemon_refuses_this_user(path: str) -> None:
    refusal = Forbidden("control socket", None, "uid 42 may not use it", "Ask.")
    with Scripted(path, failing_first([refusal])), pytest.raises(Forbidden) as caught:
        patience.insist(who(path), ask, 20, "port p")
    text = str(caught.value)
    assert text.startswith(f"control socket {path}: user ")
    assert "(groups " in text and ", mode 0" in text and "control_group" in text


def advice(path: str) -> str:
    """What a user whom the daemon refuses is told to do."""
    refusal = Forbidden("control socket", None, "uid 42 may not use it", "Ask.")
    return patience.explained(who(path), refusal, 1).todo


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another group")
def test_the_advice_names_user_group_and_service(path: str) -> None:
    Path(path).touch(mode=0o660)
    assert advice(path) == (
        "Set control_group in uswitchd.conf and restart uswitchd; make user root a member of that"
        " group and restart nova-compute."
    )
    os.chown(path, -1, grp.getgrnam("daemon").gr_gid)
    assert advice(path) == (
        "Make user root a member of group daemon, the control_group of uswitchd, and restart"
        " nova-compute."
    )
    os.chown(path, 4_000_000_000, -1)  # a user without a name
    assert advice(path).startswith("Set control_group")
    assert advice("/nonexistent/x").startswith("Set control_group")


def test_a_denial_that_the_modes_do_not_explain(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a security module; or uswitchd has just made the socket, and it passes."""

    def denied(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    Path(path).touch(mode=0o666)
    monkeypatch.setattr("vif_uswitch.client.socket.socket.connect", denied)
    with pytest.raises(DaemonUnreachable, match=r"tried for 0\.3 s.*AppArmor"):
        patience.insist(who(path), ask, 0.3, "port p")


@pytest.mark.parametrize("blocked", ["directory", "socket"])
def test_no_permission_names_user_group_mode_and_path(
    path: str, blocked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = os.path.dirname(path)
    Path(path).touch(mode=0o640)
    os.chmod(directory, 0o750)
    at = directory if blocked == "directory" else path
    monkeypatch.setattr(os, "access", lambda name, mode: name != at)
    owner, group = Path(at).owner(), Path(at).group()
    mode = "0750" if at == directory else "0640"
    verb = "enter" if at == directory else "write"
    found = patience.obstacle(path)
    assert found.endswith(f" may not {verb} {at} ({owner}:{group}, mode {mode})")
    with pytest.raises(Forbidden, match="control_group") as caught:
        patience.insist(who(path), ask, 20, "port p")
    assert patience.me() in str(caught.value)
    enter = "Let user " in caught.value.todo and " enter that directory" in caught.value.todo
    assert enter == (blocked == "directory")


def test_ids_without_a_name() -> None:
    assert patience._user(4_000_000_000) == "4000000000"
    assert patience._group(4_000_000_000) == "4000000000"
    assert patience.owner("/nonexistent/x") == "whose user is unknown"
    assert patience.described("/nonexistent/x") == "/nonexistent/x (No such file or directory)"
