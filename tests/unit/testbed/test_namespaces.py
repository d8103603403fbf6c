# SPDX-License-Identifier: Apache-2.0
"""A world with directories of its own: what of ours it hides, and that each world asks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import session
from testbed.namespaces import TOP, hidden
from tests.e2e import world
from tests.functional import systemd_host

OWN = ("/srv", Path("/run"))


@pytest.mark.parametrize("path", ["/srv/clone/tests/e2e/world.py", "/run/venv", "/srv"])
def test_what_would_be_hidden_is_told(path: str) -> None:
    said = hidden(*OWN, needed=[Path("/usr"), Path(path)])
    assert said.startswith(f"{path} is hidden inside, {path[:4]}") and "put it elsewhere" in said


def test_all_others_are_fine() -> None:
    others = [Path("/home/me/clone"), Path("/srvclone"), Path("/opt/run/venv"), Path("/")]
    assert hidden(*OWN, needed=others) == ""


def test_links_lead_there_or_pass_through(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "into").symlink_to(tmp_path / "own")
    (tmp_path / "own/out").symlink_to(tmp_path)
    assert hidden(tmp_path / "own", needed=[tmp_path / "into/venv"])
    assert hidden(tmp_path / "own", needed=[tmp_path / "own/out/venv"])
    assert not hidden(tmp_path / "own", needed=[tmp_path / "other/venv"])


@pytest.mark.parametrize("what", ["prefix", "base_prefix"])
def test_environment_and_interpreter_are_needed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, what, "/lost+found/venv")
    assert hidden("/lost+found").startswith("/lost+found/venv is hidden inside")


def test_the_checkout_is_needed() -> None:
    assert hidden(TOP / "testbed") == ""
    assert hidden(TOP).startswith(f"{TOP}") and hidden(TOP.parent)


@pytest.mark.parametrize(
    ("ask", "directory"),
    [
        (session.available, "/run"), (session.available, "/opt"),
        (systemd_host.why_not, "/run"), (systemd_host.why_not, "/tmp"),
        (world.impossible, "/run"), (world.impossible, "/srv"),
    ],
)  # fmt: skip
def test_each_world_asks(
    ask: Callable[[], str | None], directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "prefix", f"{directory}/venv")
    said = ask()
    assert said is not None and f"{directory}/venv is hidden inside" in said
