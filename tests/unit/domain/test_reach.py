# SPDX-License-Identifier: Apache-2.0
"""The kernel's rules for sockets, computed."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vif_uswitch.domain import reach
from vif_uswitch.domain.reach import Who

ME = Who(65533, frozenset({65533, 65532}))


@pytest.mark.parametrize(("uid", "gid", "mode", "may"), [
    (65533, 1, 0o200, True), (65533, 65532, 0o077, False), (1, 65532, 0o020, True),
    (1, 65532, 0o707, False), (1, 1, 0o002, True), (1, 1, 0o775, False),
])  # fmt: skip
def test_one_class_decides(uid: int, gid: int, mode: int, may: bool) -> None:
    found = os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
    assert reach.permitted(found, ME, 2) is may
    assert reach.permitted(found, Who(0, frozenset()), 2)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that everybody may enter, and so all above it."""
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_each_obstacle_is_named(open_path: Path) -> None:
    place = open_path / "d"
    place.mkdir(mode=0o750)
    path = str(place / "s.sock")
    assert "does not let 65533" in reach.obstacle(path, ME) and "750)" in reach.obstacle(path, ME)
    place.chmod(0o755)
    assert reach.obstacle(path, ME) == f"{path} does not exist"
    assert "none does not exist" in reach.obstacle(str(open_path / "none/s"), ME)
    Path(path).touch()
    assert reach.obstacle(path, ME) == f"{path} is no socket"
    assert "is no directory" in reach.obstacle(f"{path}/x", ME)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o750)
        assert "may not be written by 65533" in reach.obstacle(path, ME)
        os.chmod(path, 0o777)
        assert reach.obstacle(path, ME) == ""
        assert reach.listening(path) is False
        listener.listen()
        assert reach.listening(path) is True
    assert reach.listening(path, open_path / "no-table") is None


def test_whom_a_process_runs_as(tmp_path: Path) -> None:
    mine = reach.who_is(os.getpid())
    assert mine is not None and mine.uid == os.geteuid() and os.getegid() in mine.gids
    assert str(Who(0, frozenset({0}))) == "root (groups root)"
    assert str(ME).startswith("65533 (groups ")
    assert reach.who_is(1, tmp_path) is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1/status").write_text("Uid:\t1\n")
    assert reach.who_is(1, tmp_path) is None
