# SPDX-License-Identifier: Apache-2.0
"""tools/stage.py: a quiet success, a failure that shows its end, the status passed on."""

from __future__ import annotations

import pathlib

import pytest

from tools import stage


def test_success_is_quiet(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "deep" / "a.log"
    assert stage.run("a title", log, ["sh", "-c", "echo out; echo err >&2"]) == 0
    shown = capsys.readouterr().out
    assert "a title" in shown and "ok" in shown and "out" not in shown
    assert log.read_text(encoding="utf-8").splitlines()[1:] == ["out", "err"]


def test_failure_shows_the_end(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "for i in $(seq 1 200); do echo line$i; done; exit 3"
    assert stage.run("t", tmp_path / "a.log", ["sh", "-c", script]) == 3
    shown = capsys.readouterr().out
    assert "FAILED with status 3" in shown and "line200" in shown and "line1\n" not in shown


def test_a_killed_command_failed(tmp_path: pathlib.Path) -> None:
    assert stage.run("t", tmp_path / "a.log", ["sh", "-c", "kill -9 $$"]) == 128 + 9


def test_a_missing_program_failed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.run("t", tmp_path / "a.log", ["/nonexistent/program"]) == 127
    assert "/nonexistent/program" in capsys.readouterr().out


def test_make_variables_do_not_leak(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "--jobserver-auth=3,4 -j")
    log = tmp_path / "a.log"
    assert stage.run("t", log, ["sh", "-c", "echo \"<$MAKEFLAGS>\""]) == 0
    assert log.read_text(encoding="utf-8").endswith("<>\n")
