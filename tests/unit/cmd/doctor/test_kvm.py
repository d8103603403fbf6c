# SPDX-License-Identifier: Apache-2.0
"""KVM-01: every way in which a trial ends is a sentence; one that hangs is ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import FakeRoot
from vif_uswitch.cmd.doctor import kvm, kvm_guest
from vif_uswitch.cmd.doctor.kvm import Trial, judge, run_trial
from vif_uswitch.cmd.doctor.model import Finding, Status, Unseen


def trial(*lines: str, timed_out: bool = False) -> Trial:
    return Trial(lines, timed_out, 5.0 if timed_out else 0.004)


@pytest.mark.parametrize(("ended", "says"), [
    (trial("step 1", "step 7", "done", ""), ""),
    (trial("step 1", "step 2", "stopped 17 1"), "at SSE (step 3 of 8): KVM could not emulate"),
    (trial("stopped 8 0"), "at 64-bit mode (step 1 of 8): the processor shut down"),
    (trial("step 1", "stopped 99 0"), "exit reason 99"),
    (trial("step 3", timed_out=True), "hangs at page tables (step 4 of 8): killed after 5 s"),
    (trial(timed_out=True), "hangs at 64-bit mode"),
    (trial("refused KVM_CREATE_VM 12"), "KVM_CREATE_VM is refused: Cannot allocate memory"),
    (trial(), "without a word"),
    (trial("", "\ufffd\ufffd", "step x", "step 99"), "without a word"),
    (trial("stopped"), "without a word"),
    (trial("refused x y z"), "without a word"),
])
def test_how_a_trial_ends(ended: Trial, says: str) -> None:
    assert says in judge(ended) if says else judge(ended) == ""


def test_every_step_of_the_code_is_named_in_order() -> None:
    """Step N writes N before the next one begins; the exception's number comes from its handler."""
    written = [int(code.split(" e6e9")[0][-2:], 16) for _, code in kvm_guest.STEPS
               if "e6e9" in code]  # fmt: skip
    assert written == [1, 2, 3, 4, 6, 7]
    assert kvm_guest.HANDLER_CODE.startswith("b005 e6e9")


def found(host: FakeRoot, ended: Trial) -> Finding:
    return kvm.runs(host.scene(), lambda: ended, "x86_64")


def test_what_is_said(host: FakeRoot) -> None:
    host.put("/dev/kvm")
    assert found(host, trial("step 7", "done")).status is Status.PASS
    hangs = found(host, trial("step 3", timed_out=True))
    assert hangs.status is Status.FAIL and "virt_type = qemu" in hangs.todo
    host.put("/etc/nova/nova.conf", "[libvirt]\nvirt_type = qemu\n")
    assert found(host, trial("step 3", timed_out=True)).status is Status.WARN
    host.put("/etc/nova/nova.conf", "garbage")
    assert found(host, trial("step 3", timed_out=True)).status is Status.FAIL


def test_no_device(host: FakeRoot, expect: Expect) -> None:
    assert "emulated" in expect("KVM-01", "WARN").text


def test_another_machine(host: FakeRoot) -> None:
    host.put("/dev/kvm")
    assert kvm.runs(host.scene(), trial, "aarch64").status is Status.SKIP


def test_a_device_that_is_closed(host: FakeRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("/dev/kvm")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Unseen):
        found(host, trial("done"))


def test_a_file_that_is_no_kvm(tmp_path: Path) -> None:
    """The real program: it says what was refused, and nothing of Python's."""
    (tmp_path / "kvm").touch()
    ended = run_trial(str(tmp_path / "kvm"))
    assert "is refused: Inappropriate ioctl" in judge(ended), ended


def test_a_trial_that_hangs_is_ended() -> None:
    """It ignores SIGTERM, has said something, and would go on for ever."""
    hang = ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('step 2', flush=True)\nwhile True: signal.pause()")
    ended = run_trial(command=(sys.executable, "-c", hang), deadline_s=2.0)
    assert ended.timed_out and "hangs at" in judge(ended)
