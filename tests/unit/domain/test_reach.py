# SPDX-License-Identifier: Apache-2.0
"""The kernel's rules for sockets, computed."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_access import GROUP, MASK, NAMED, NO_ID, OTHERS, OWNER, acl
from vif_uswitch.access import Identity
from vif_uswitch.domain import reach

ME = Identity("65533", 65533, frozenset({65533, 65532}))


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


def give(path: Path, rights: int, mask: int) -> None:
    """To ME, by an access list; others have none."""
    entries = ((OWNER, 7, NO_ID), (NAMED, rights, ME.uid), (GROUP, 7, NO_ID), (MASK, mask, NO_ID),
               (OTHERS, 0, NO_ID))  # fmt: skip
    try:
        os.setxattr(path, "system.posix_acl_access", acl(*entries))
    except OSError as error:
        pytest.skip(f"no access lists in {path.parent}: {error}")


def test_access_lists_give_and_their_masks_take_away(open_path: Path) -> None:
    place = open_path / "d"
    place.mkdir(mode=0o750)
    path = place / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o770)
        assert f"{place} (" in reach.obstacle(str(path), ME)
        give(place, 1, 7)
        assert reach.obstacle(str(path), ME).startswith(f"{path} (")
        give(path, 6, 7)
        assert reach.obstacle(str(path), ME) == ""
        give(path, 6, 5)
        why = reach.obstacle(str(path), ME)
        assert f"{path} (" in why and "750, with an access list) may not be written by" in why
        give(place, 7, 6)
        why = reach.obstacle(str(path), ME)
        assert f"{place} (" in why and "760, with an access list) does not let 65533" in why


def test_whom_a_process_runs_as(tmp_path: Path) -> None:
    mine = reach.who_is(os.getpid())
    assert mine is not None and mine.uid == os.geteuid() and os.getegid() in mine.gids
    assert reach.whom(Identity("root", 0, frozenset({0}))) == "root (groups root)"
    assert reach.whom(ME).startswith("65533 (groups ")
    assert reach.who_is(1, tmp_path) is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1/status").write_text("Uid:\t1\n")
    assert reach.who_is(1, tmp_path) is None
