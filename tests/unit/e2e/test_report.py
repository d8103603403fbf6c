# SPDX-License-Identifier: Apache-2.0
"""tests/e2e/report.py: how checks come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e import CloudError
from tests.e2e.report import CheckFailed, Report, need


def throw(error: Exception) -> None:
    raise error


def test_a_failed_check_is_a_row_and_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(stage="router")
    with report.check("ping") as row:
        row.detail = "3 ms"
    with report.check("tcp") as row:
        row.detail = "half"
        need(False, "the other half is missing")
    assert [(row.stage, row.check, row.result, row.detail) for row in report.rows] == [
        ("router", "ping", "ok", "3 ms"),
        ("router", "tcp", "FAILED", "half; the other half is missing"),
    ]
    assert report.failed == 1
    assert "FAILED    tcp: half; the other half is missing" in capsys.readouterr().out


@pytest.mark.parametrize("error", [CloudError("no"), CheckFailed("no"), RuntimeError("no")])
def test_whatever_a_check_ends_with_is_its_result(error: Exception) -> None:
    report = Report()
    with report.check("x"):
        throw(error)
    assert report.rows[0].result == "FAILED"
    assert "no" in report.rows[0].detail


def test_a_failure_is_witnessed_while_it_lasts() -> None:
    seen: list[int] = []
    report = Report(witness=seen.append)
    with report.check("good"):
        pass
    with report.check("bad"):
        throw(CheckFailed("no"))
        seen.clear()
    assert seen == [2]


def test_ctrl_c_is_no_result() -> None:
    report = Report()
    with pytest.raises(KeyboardInterrupt), report.check("x"):
        raise KeyboardInterrupt
    assert not report.rows


def test_what_fails_between_the_checks_of_a_stage_is_a_row_too() -> None:
    report = Report(stage="spoof")
    with report.whole_stage():
        throw(CloudError("the guest is gone"))
    assert [(row.stage, row.result, row.detail) for row in report.rows] == [
        ("spoof", "FAILED", "the guest is gone")]


def test_the_table_and_the_file_have_every_row(tmp_path: Path) -> None:
    report = Report(stage="boot")
    for number in range(3):
        with report.check(f"check {number}") as row:
            row.detail = "lost 0 of 400 in a host, 12 of 401 over the cable, " * 4
    report.stage = "deletion"
    with report.check("nothing is left"):
        need(False, "port x")
    table = report.table()
    assert all(f"check {number}" in table for number in range(3))
    assert "4 checks, 1 failed" in table
    assert table.index("boot:") < table.index("check 0") < table.index("deletion:")
    report.write(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["failed"] == 1
    assert [row["check"] for row in found["checks"]][-1] == "nothing is left"
