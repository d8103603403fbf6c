# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl doctor`` on this host, with a real switch that is healthy, hostile, stopped, dead.

What it finds of the host itself differs from machine to machine; that it never
falls over, and is right about the switch, does not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import parts, unprivileged
from testbed.cache import Cache
from testbed.daemons import Switch, installed
from vif_uswitch.cmd.doctor import kvm, kvm_guest

KILLS = True
STRANGER = 65533  # in no group that matters

# A Multiboot kernel (0.6.96, 3.1): loads at 1 MiB, copies what follows it to where the
# trial's memory belongs, and sets the processor up as kvm_guest.py does by KVM_SET_SREGS.
STUB = bytes.fromhex(
    "02b0ad1b00000100fe4f51e4" "00001000" "00001000" "00000000" "00000000" "20001000"  # header
    "be00101000bf00100000b900200000f3a5"  # esi, edi, ecx; rep movsd
    "b8200600000f22e0b8004000000f22d8"  # cr4: PAE, SSE; cr3
    "b9800000c0b80001000031d20f30"  # EFER: LME
    "b8330005800f22c0"  # cr0: paging
    "0f011572001000bc0030000066b810008ed08ed8"  # lgdt; esp; ss, ds
    "ea001000000800170000700000"  # jmp 8:CODE; limit and base of the GDT
)


class Doctor:
    """Runs it, and keeps what it wrote."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self.status = 0

    def __call__(self, *options: str, uid: int | None = None) -> dict[str, dict[str, str]]:
        words = [str(installed("uswitchctl")), "--socket", str(self._control), "doctor",
                 "-f", "json", *options]
        if uid is not None:
            words = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *words]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        found = {one["id"]: one for one in json.loads(done.stdout)}
        for one in found.values():
            assert "could not be checked" not in one["text"], one
            assert "\n" not in one["text"] + one["todo"]
            assert one["todo"] or one["status"] in ("PASS", "SKIP"), one
        failed = any(one["status"] == "FAIL" for one in found.values())
        assert done.returncode == int(failed)
        return found


@pytest.fixture
def doctor(switch: Switch) -> Doctor:
    return Doctor(switch.control)


def statuses(found: dict[str, dict[str, str]], *idents: str) -> list[str]:
    return [found[ident]["status"] for ident in idents]


def test_a_healthy_switch(doctor: Doctor, switch: Switch) -> None:
    found = doctor()
    assert len(found) == 28
    passed = ("CTL-01", "SOCK-01", "SOCK-04", "PROC-01", "PROC-02", "VER-01")
    assert statuses(found, *passed) == ["PASS"] * len(passed), found
    assert f"pid {switch.daemon_pid}" in found["PROC-01"]["text"]
    assert f"pid {switch.dataplane_pid}" in found["PROC-02"]["text"]
    assert switch.who.name in found["PROC-01"]["text"]


def test_a_socket_that_a_dead_qemu_left(doctor: Doctor, switch: Switch) -> None:
    path = switch.vhost / "gone.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
        assert statuses(doctor("--only", "SOCK-04"), "SOCK-04") == ["PASS"]
    found = doctor("--only", "SOCK-04")
    assert "gone.sock" in found["SOCK-04"]["text"] and found["SOCK-04"]["status"] == "WARN"
    path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: asks as another user")
def test_somebody_without_rights_is_told_so(doctor: Doctor, switch: Switch) -> None:
    found = doctor(uid=STRANGER)
    assert found["CTL-01"]["status"] == "SKIP" and "may not" in found["CTL-01"]["text"]
    assert "PROC-01" in found


def port_of_novas(switch: Switch, **more: Any) -> None:
    port = {"name": "nova1", "mode": "server", "external_ids": {"owner": "nova"}, **more}
    switch.call("port.ensure", port=port, create_segments=True)


def test_a_port_of_novas_is_young_or_wired(doctor: Doctor, switch: Switch) -> None:
    """That an old one is reported needs half a minute: see the unit test."""
    port_of_novas(switch)
    assert "just plugged" in doctor("--only", "AGENT-02")["AGENT-02"]["text"]
    port_of_novas(switch, segment="net")
    assert statuses(doctor("--only", "AGENT-02"), "AGENT-02") == ["PASS"]
    switch.call("port.delete", name="nova1")


@pytest.fixture
def stopped(switch: Switch) -> Iterator[None]:
    os.kill(switch.daemon_pid, signal.SIGSTOP)
    yield
    os.kill(switch.daemon_pid, signal.SIGCONT)


def test_a_uswitchd_that_hangs(doctor: Doctor, stopped: None) -> None:
    """One timeout for all questions, and what can be seen without it is seen."""
    found = doctor("--timeout", "1")
    assert found["CTL-01"]["status"] == "FAIL" and "no answer" in found["CTL-01"]["text"]
    assert statuses(found, "AGENT-02", "NET-02") == ["SKIP", "SKIP"]


def test_a_uswitchd_that_is_dead(doctor: Doctor, switch: Switch) -> None:
    switch.kill_daemon()
    found = doctor("--only", "CTL-01,NET,VER-01")
    assert found["CTL-01"]["status"] == "FAIL" and "nobody behind it" in found["CTL-01"]["text"]
    switch.start()
    assert statuses(doctor("--only", "CTL-01"), "CTL-01") == ["PASS"]


# ---- KVM ----

def wait(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def test_the_trial_guest_is_right(tmp_path: Path) -> None:
    """On a processor of QEMU's emulation it takes every step: what fails on KVM is KVM's fault."""
    memory = kvm_guest.memory()
    image, said = tmp_path / "image", tmp_path / "said"
    image.write_bytes(STUB.ljust(0x1000, b"\0") + memory[0x1000:0x9000])
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "64", "-display", "none",
         "-nodefaults", "-no-reboot", "-kernel", str(image), "-debugcon", f"file:{said}"],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait(lambda: said.exists() and len(said.read_bytes()) >= len(kvm_guest.STEPS) - 1,
             "every step")
        assert said.read_bytes() == bytes(range(1, len(kvm_guest.STEPS)))
    finally:
        process.kill()
        process.wait()


@pytest.mark.guest
def test_kvm_is_judged_as_a_real_guest_would(doctor: Doctor) -> None:
    """The second opinion is the test bed's: it boots Debian's kernel."""
    if os.geteuid() != 0 and not unprivileged.readable(Path(kvm.DEVICE), unprivileged.identity()):
        pytest.skip(f"may not open {kvm.DEVICE}")
    found = doctor("--only", "KVM-01")["KVM-01"]
    if not Path(kvm.DEVICE).exists():
        assert found["status"] == "WARN" and "there is no /dev/kvm" in found["text"]
        return
    how = parts.prepare(Cache(), lambda _: None).machine.accel
    assert (found["status"] == "PASS") == (how.name == "kvm"), (found, how.reason)
