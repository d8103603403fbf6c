# SPDX-License-Identifier: Apache-2.0
"""tools/state_dir.sh: the checkout where it is open to others, /var/tmp where it is not."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "tools" / "state_dir.sh"


def checkout(where: pathlib.Path) -> pathlib.Path:
    (where / "tools").mkdir(parents=True)
    shutil.copy(SCRIPT, where / "tools")
    (where / "setup.py").touch(mode=0o644)
    return where


def answer(top: pathlib.Path) -> str:
    return subprocess.run(
        [str(top / "tools/state_dir.sh")], capture_output=True, text=True, check=True
    ).stdout.strip()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root changes the user")


def open_parents(path: pathlib.Path) -> None:
    """pytest's temporary directories, and its workers', are closed to others as a whole."""
    for parent in path.parents:
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)


@needs_root
def test_an_open_checkout_keeps_its_own(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o755)
    open_parents(tmp_path)
    assert answer(checkout(tmp_path / "a")) == "build"


@needs_root
@pytest.mark.parametrize("closed", [".", "a", "a/b"])
def test_a_closed_directory_above_moves_it(tmp_path: pathlib.Path, closed: str) -> None:
    top = checkout(tmp_path / "a" / "b")
    tmp_path.chmod(0o755)
    open_parents(tmp_path)
    (tmp_path / closed).chmod(0o750)
    assert answer(top).startswith(f"/var/tmp/vif-uswitch-{os.getuid()}-")


@needs_root
def test_files_closed_to_others_move_it(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o755)
    open_parents(tmp_path)
    top = checkout(tmp_path / "a")
    (top / "setup.py").chmod(0o600)
    assert answer(top) != "build"
