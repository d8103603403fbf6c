# SPDX-License-Identifier: Apache-2.0
"""PROC-01..02, SAND-01, UNIT-01: rights that the processes have, and should not."""

from __future__ import annotations

import sys

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import (
    CONTROL,
    DAEMON_PID,
    DATAPLANE_PID,
    USWITCH,
    FakeRoot,
)
from vif_uswitch.cmd.doctor import processes
from vif_uswitch.exceptions import DaemonUnreachable

UNIT = "/etc/systemd/system/uswitchd.service"
ACTIONS = "/proc/sys/kernel/seccomp/actions_avail"
CASES = [("PROC-01", DAEMON_PID), ("PROC-02", DATAPLANE_PID)]


def test_good_processes(host: FakeRoot, expect: Expect) -> None:
    assert "runs as uswitch, no capabilities" in expect("PROC-01", "PASS").text
    assert "system calls filtered" in expect("PROC-02", "PASS").text


def change(host: FakeRoot, pid: int, before: str, after: str) -> None:
    where = host.at(f"/proc/{pid}/status")
    text = where.read_text()
    assert before in text
    where.write_text(text.replace(before, after))


@pytest.mark.parametrize(("ident", "pid"), CASES)
@pytest.mark.parametrize(("before", "after", "says"), [
    (f"Uid:\t{USWITCH}\t{USWITCH}", "Uid:\t0\t0", "runs as root"),
    ("CapEff:\t0", "CapEff:\t0000000000001000", "has capabilities"),
    ("CapPrm:\t0", "CapPrm:\t1", "has capabilities"),
    ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "could gain rights"),
])
def test_rights_too_many(host: FakeRoot, expect: Expect, ident: str, pid: int, before: str,
                         after: str, says: str) -> None:
    change(host, pid, before, after)
    assert says in expect(ident, "FAIL").text


def test_no_system_call_filter(host: FakeRoot, expect: Expect) -> None:
    change(host, DATAPLANE_PID, "Seccomp:\t2", "Seccomp:\t0")
    assert "--no-sandbox" in expect("PROC-02", "FAIL").todo
    change(host, DAEMON_PID, "Seccomp:\t2", "Seccomp:\t0")
    expect("PROC-01", "PASS")


@pytest.mark.parametrize(("ident", "pid"), CASES)
def test_gone_or_unreadable(host: FakeRoot, expect: Expect, ident: str, pid: int) -> None:
    host.put(f"/proc/{pid}/status", "Uid:\tx\n")
    expect(ident, "SKIP")
    host.at(f"/proc/{pid}/cmdline").unlink()
    expect(ident, "SKIP")


def test_the_dataplane_is_down(host: FakeRoot, expect: Expect) -> None:
    host.client.dataplane = {"running": False, "pid": 0}
    assert "no packet moves" in expect("PROC-02", "FAIL").text


def test_a_number_of_another_pid_namespace(host: FakeRoot, expect: Expect) -> None:
    """uswitchd in a container says 1, which is init here: the process is found by its program."""
    host.client.daemon["pid"] = 1
    host.process(1, "/sbin/init", uid=0, caps="1ffffffffff")
    assert f"pid {DAEMON_PID}" in expect("PROC-01", "PASS").text


def test_uswitchd_does_not_answer(host: FakeRoot, expect: Expect) -> None:
    host.client.error = DaemonUnreachable("control socket", CONTROL, "is not there", "Start it.")
    expect("PROC-01", "PASS")  # it is there and can be looked at all the same
    expect("PROC-02", "PASS")


@pytest.mark.parametrize(("abi", "status"), [("6", "PASS"), ("4", "PASS"), ("3", "WARN"),
                                             ("0", "WARN"), ("", "WARN")])
def test_landlock(host: FakeRoot, expect: Expect, abi: str, status: str) -> None:
    host.put("/landlock-abi", abi)
    expect("SAND-01", status)


@pytest.mark.parametrize("text", ["errno allow", "", None])
def test_no_seccomp(host: FakeRoot, expect: Expect, text: str | None) -> None:
    host.at(ACTIONS).unlink()
    if text is not None:
        host.put(ACTIONS, text)
    expect("SAND-01", "FAIL")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
def test_the_real_kernel_answers() -> None:
    assert processes.landlock_abi() >= 0


def test_the_unit(host: FakeRoot, expect: Expect) -> None:
    assert UNIT in expect("UNIT-01", "PASS").text
    host.put(UNIT, "[Service]\n#KillMode=process\n")
    assert "KillMode" in expect("UNIT-01", "WARN").text
    host.at("/etc/systemd/system/multi-user.target.wants/uswitchd.service").unlink()
    assert "not enabled" in expect("UNIT-01", "WARN").text
    host.at(UNIT).rename(host.at("/run/systemd/uswitchd.service"))
    assert "not installed" in expect("UNIT-01", "FAIL").text
    host.mkdir("/usr/lib/systemd/system")
    host.put("/usr/lib/systemd/system/uswitchd.service", "[Service]\nKillMode=process\n")
    host.link("/etc/systemd/system/multi-user.target.wants/uswitchd.service", "/nowhere")
    expect("UNIT-01", "PASS")
    host.at("/run/systemd/system").rmdir()
    expect("UNIT-01", "SKIP")
