# SPDX-License-Identifier: Apache-2.0
"""Where a user's own switch lives, and what the environment may say wrongly about it."""

from __future__ import annotations

import os
import pathlib

import pytest

from vif_uswitch import places
from vif_uswitch.exceptions import InvalidInput


@pytest.fixture
def runtime(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


def test_as_the_environment_says(
    runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    assert places.run_dir() == f"{runtime}/uswitch"
    assert places.state_dir() == "/s/uswitch"
    assert places.config_file() == "/c/uswitch/uswitchd.conf"


def test_defaults_are_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # the specification: to be ignored
    assert places.state_dir() == "/home/alice/.local/state/uswitch"
    assert places.config_file() == "/home/alice/.config/uswitch/uswitchd.conf"


def test_without_the_variable_what_logind_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(places, "_unfit", lambda path: "")
    assert places.run_dir() == f"/run/user/{os.geteuid()}/uswitch"


def test_no_directory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(places, "_unfit", lambda path: "cannot be used: No such file or directory")
    with pytest.raises(InvalidInput, match=r"XDG_RUNTIME_DIR: is not set, and /run/user/\d+ cannot "
                                           r"be used: No such file.*enable-linger"):  # fmt: skip
        places.run_dir()


def test_a_directory_that_is_none(runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = runtime / "file"
    file.touch()
    for value, why in (("run", "is no absolute path"), (str(file), "is no directory"),
                       ("/nonexistent/x", "No such file")):  # fmt: skip
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        with pytest.raises(InvalidInput, match=why):
            places.run_dir()


def test_a_directory_where_others_may_write(runtime: pathlib.Path) -> None:
    """Whoever may rename the socket is the switch."""
    runtime.chmod(0o770)
    with pytest.raises(InvalidInput, match=r"may be written by others \(mode 0770"):
        places.run_dir()


def test_the_directory_of_somebody_else(
    runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after su or sudo, which keep the variable."""
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(InvalidInput, match=f"belongs to user {mine}, not to you"):
        places.run_dir()
