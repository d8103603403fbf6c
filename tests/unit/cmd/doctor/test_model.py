# SPDX-License-Identifier: Apache-2.0
"""How checks are run: chosen, one by one, none able to end the others; and how it is printed."""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import re
import time
from typing import Any

import pytest

from tests.unit.cmd.doctor.fake_root import FakeRoot
from vif_uswitch.cmd.doctor import command, model
from vif_uswitch.cmd.doctor.model import (
    Check,
    Finding,
    Scene,
    Status,
    Unseen,
    choose,
    fail,
    passed,
    run_all,
    skip,
    warn,
)
from vif_uswitch.exceptions import InvalidInput

# All of it stands in doc/source/doctor.rst, people's notes and scripts: ids never change.
IDENTS = [
    "CTL-01", "CTL-02", "SOCK-01", "SOCK-02", "SOCK-03", "SOCK-04", "MEM-01", "MEM-02", "MEM-03",
    "KVM-01", "PLUG-01", "PLUG-02", "AGENT-01", "AGENT-02", "NET-01", "NET-02", "IOMMU-01",
    "IOMMU-02", "LOCK-01", "PROC-01", "PROC-02", "SAND-01", "UNIT-01", "VER-01", "VER-02",
    "VER-03", "VER-04", "VER-05",
]


def check(ident: str, finding: Finding | Exception) -> Check:
    def run(_: Scene) -> Finding:
        if isinstance(finding, Exception):
            raise finding
        return finding

    return Check(ident, f"about {ident}", run)


def arguments(form: str = "table", quiet: bool = False) -> argparse.Namespace:
    return argparse.Namespace(format=form, quiet=quiet)


def test_ids_are_for_ever() -> None:
    assert [one.ident for one in command.CHECKS] == IDENTS


def test_checks_are_chosen_by_id_and_family() -> None:
    chosen = [one.ident for one in choose(command.CHECKS, "ver-02, MEM,KVM-01")]
    assert chosen == ["MEM-01", "MEM-02", "MEM-03", "KVM-01", "VER-02"]
    assert len(choose(command.CHECKS, None)) == len(IDENTS)
    for wrong in ("MEM-99", "", ","):
        with pytest.raises(InvalidInput, match="does not exist"):
            choose(command.CHECKS, wrong)


def test_a_check_that_breaks_does_not_end_the_others(empty: FakeRoot) -> None:
    checks = [check("A-01", ValueError("x\x1b[2J")), check("A-02", Unseen("/secret")),
              check("A-03", passed("good"))]
    found = [result.finding for result in run_all(checks, empty.scene())]
    assert [one.status for one in found] == [Status.WARN, Status.SKIP, Status.PASS]
    assert "could not be checked" in found[0].text and "\x1b" not in found[0].text
    assert "may not look at /secret" in found[1].text and "--only A-02" in found[1].todo


def test_lines_and_exit_status(empty: FakeRoot, capsys: pytest.CaptureFixture[str]) -> None:
    good = [check("A-01", passed("fine")), check("A-02", warn("slow", "Buy one.")),
            check("A-03", skip("absent"))]
    assert command.report(good, empty.scene(), arguments(), None) == 0
    assert capsys.readouterr().out.splitlines() == [
        "A-01      PASS  fine",
        "A-02      WARN  slow",
        "                Buy one.",
        "A-03      SKIP  absent",
        "1 passed, 1 warning, 0 failed, 1 skipped",
    ]
    bad = [*good, check("A-04", fail("broken\x1b", "Mend it."))]
    assert command.report(bad, empty.scene(), arguments(quiet=True), None) == 1
    assert capsys.readouterr().out.splitlines() == [
        "A-02      WARN  slow", "                Buy one.",
        "A-04      FAIL  broken\\x1b", "                Mend it.",
    ]  # fmt: skip


def test_json(empty: FakeRoot, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [check("A-01", passed("fine")), check("A-02", fail("broken", "Mend it."))]
    assert command.report(checks, empty.scene(), arguments("json"), None) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first == {"id": "A-01", "title": "about A-01", "status": "PASS", "text": "fine",
                     "todo": ""}
    assert (second["status"], second["todo"]) == ("FAIL", "Mend it.")


def test_a_slow_check_says_that_it_is_at_it(
    empty: FakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "PATIENCE_S", 0.01)
    said = io.StringIO()

    def until_said(_: Scene) -> Finding:
        deadline = time.monotonic() + 30
        while not said.getvalue() and time.monotonic() < deadline:
            time.sleep(0.005)
        return passed("done")

    slow = Check("A-01", "something slow", until_said)
    assert [one.finding for one in run_all([slow], empty.scene(), said)] == [passed("done")]
    assert said.getvalue() == "A-01: still at it: something slow\n"


def test_a_healthy_host_passes(host: FakeRoot) -> None:
    """All but KVM, which the fake host has not."""
    results = list(run_all(command.CHECKS, host.scene()))
    not_passed = {one.check.ident: one for one in results if one.finding.status is not Status.PASS}
    assert set(not_passed) == {"KVM-01", "AGENT-02"}, not_passed


def test_an_empty_host_has_no_surprise(empty: FakeRoot) -> None:
    for result in run_all(command.CHECKS, empty.scene()):
        assert "could not be checked" not in result.finding.text, result


GARBAGE = b"\xff\x00[[=\n: \n[x\n#!\x80\n\xf0" * 40


def damages(host: FakeRoot) -> list[str]:
    """Every file and link of the healthy host."""
    return sorted(
        "/" + os.path.relpath(os.path.join(directory, name), host.root)
        for directory, _, names in os.walk(host.root) for name in names
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["garbage", "empty", "gone", "directory", "fifo", "loop"])
def test_no_file_can_break_a_check(host: FakeRoot, damage: str) -> None:
    """Each file of a healthy host in turn is something else; no check falls over it."""
    for path in damages(host):
        where = host.at(path)
        kept = where.with_name(where.name + ".kept")
        where.rename(kept)
        if damage in ("garbage", "empty"):
            where.write_bytes(GARBAGE if damage == "garbage" else b"")
        elif damage == "directory":
            where.mkdir()
        elif damage == "fifo":
            os.mkfifo(where)
        elif damage == "loop":
            where.symlink_to(where.name)
        for result in run_all(command.CHECKS, host.scene()):
            finding = result.finding
            assert "could not be checked" not in finding.text, (path, result)
            assert finding.todo or finding.status in (Status.PASS, Status.SKIP), (path, result)
        if damage == "directory":
            where.rmdir()
        else:
            where.unlink(missing_ok=True)
        kept.rename(where)


def test_what_may_not_be_read_is_said(host: FakeRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def closed(path: Any, flags: int, **more: Any) -> int:
        if os.fspath(path).endswith("nova.conf"):
            raise PermissionError
        return real(path, flags, **more)

    monkeypatch.setattr(os, "open", closed)  # root, who may run this, may read everything
    (one,) = choose(command.CHECKS, "MEM-01")
    finding = host.run(one)
    assert finding.status is Status.SKIP
    assert "may not look at /etc/nova/nova.conf" in finding.text and "sudo" in finding.todo


@pytest.mark.parametrize("answer", [None, "x", 7, [], {"port": None}, {"port": {}}])
def test_no_answer_of_uswitchd_can_break_a_check(host: FakeRoot, answer: object) -> None:
    host.client.uplinks = [answer]
    host.client.ports = [answer]
    for result in run_all(command.CHECKS, host.scene()):
        assert "could not be checked" not in result.finding.text, result


def test_the_documentation_names_every_check() -> None:
    top = pathlib.Path(__file__).resolve().parents[4]
    text = (top / "doc/source/doctor.rst").read_text(encoding="utf-8")
    named = [line.split("``")[1] for line in text.splitlines() if re.match(r"``\w+-\d\d``", line)]
    assert named == IDENTS
