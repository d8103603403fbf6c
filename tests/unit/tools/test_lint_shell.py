# SPDX-License-Identifier: Apache-2.0
"""tools/lint_shell.py: which files are scripts, and that each of its three opinions counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import lint_shell

TOP = Path(__file__).resolve().parents[3]
GOOD = "#!/bin/bash\nif true; then\n    echo good\nfi\n"


def put(top: Path, name: str, text: str) -> Path:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_scripts_of_this_checkout() -> None:
    names = {path.relative_to(TOP).as_posix() for path in lint_shell.scripts(TOP)}
    assert names >= {".ci/run", "tools/state_dir.sh", "devstack/plugin.sh", "devstack/settings",
                     "devstack/override-defaults", "tests/unit/devstack/shim/stack.bash"}
    assert not [name for name in names if name.endswith(".py")]


@pytest.mark.parametrize("text", ["#!/usr/bin/env bash\n", "#!/bin/sh\n", "#!/bin/sh -e\n"])
def test_a_first_line_makes_a_script(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "etc/hook", text)
    assert lint_shell.scripts(tmp_path) == [path]


@pytest.mark.parametrize("text", ["", "#!/usr/bin/env python3\n", "echo sh\n",
                                  "#!/bin/busybox sh\n"])
def test_other_files(tmp_path: Path, text: str) -> None:
    put(tmp_path, "etc/file", text)
    assert lint_shell.scripts(tmp_path) == []


def test_good_ones_pass(tmp_path: Path) -> None:
    put(tmp_path, "devstack/plugin.sh", GOOD)
    put(tmp_path, "etc/hook", "#!/bin/sh\ngood() {\n    echo good\n}\ngood\n")
    assert lint_shell.main(tmp_path) == 0


@pytest.mark.parametrize(("said", "text"), [
    ("syntax error", GOOD.replace("fi\n", "")),
    ("SC2086", GOOD.replace("good", '"$1" $2')),
    ("E003", GOOD.replace("    echo", "   echo")),
])
def test_bad_ones_do_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], said: str, text: str
) -> None:
    put(tmp_path, "devstack/plugin.sh", text)
    assert lint_shell.main(tmp_path) == 1
    shown = capfd.readouterr()
    assert said in shown.out + shown.err


def test_no_scripts_at_all_is_a_mistake(tmp_path: Path) -> None:
    assert lint_shell.main(tmp_path) == 1
