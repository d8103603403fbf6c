# SPDX-License-Identifier: Apache-2.0
"""KVM-01: KVM really runs a guest.

That /dev/kvm opens is no proof: in some virtual machines it does, and guests
hang or fault.  So a few instructions are run (``kvm_guest.py``), in a process
of their own under a deadline, because a guest may hang where no signal helps.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vif_uswitch.cmd.doctor import kvm_guest, services
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, Unseen, fail, passed, skip, warn

DEVICE = "/dev/kvm"
DEADLINE_S = 5.0
DYING_S = 2.0  # how long a killed trial may take to be gone before it is left alone
REASONS = {
    8: "the processor shut down (triple fault)",
    9: "the processor refused to enter the guest",
    17: "KVM could not emulate an instruction",
}
SLOW = "Guests run, slowly. In a virtual machine, ask for nested virtualisation that works."
EMULATE = ("Guests need emulation here: virt_type = qemu in nova.conf, type='qemu' in a domain. In"
           " a virtual machine, ask for nested virtualisation that works.")


@dataclass(frozen=True, slots=True)
class Trial:
    """``lines``: what the trial wrote; ``timed_out``: it had to be killed after ``seconds``."""

    lines: tuple[str, ...]
    timed_out: bool
    seconds: float


def run_trial(device: str = DEVICE, command: Sequence[str] | None = None,
              deadline_s: float = DEADLINE_S) -> Trial:
    """Never takes much longer than the deadline, whatever the guest does."""
    argv = command or (sys.executable, "-I", kvm_guest.__file__, device)
    started = time.monotonic()
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    timed_out = False
    output = b""
    try:
        output, _ = child.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        child.kill()
        try:
            output, _ = child.communicate(timeout=DYING_S)
        except subprocess.TimeoutExpired as left:  # stuck in the kernel
            output = left.stdout or b""
    seconds = time.monotonic() - started
    return Trial(tuple(output.decode("ascii", "replace").split("\n")), timed_out, seconds)


def judge(trial: Trial) -> str:
    """"" if the guest reached its end, else what went wrong."""
    lines = [line.split() for line in trial.lines if line]
    steps = [int(words[1]) for words in lines if words[0] == "step" and words[-1].isdecimal()]
    reached = max((step for step in steps if step < len(kvm_guest.STEPS)), default=0)
    where = f"at {kvm_guest.STEPS[reached][0]} (step {reached + 1} of {len(kvm_guest.STEPS)})"
    last = lines[-1] if lines else [""]
    if trial.timed_out:
        return f"/dev/kvm opens, but a guest hangs {where}: killed after {trial.seconds:.0f} s"
    if last[0] == "done":
        return ""
    if last[0] == "stopped" and len(last) == 3 and last[1].isdecimal():
        reason = REASONS.get(int(last[1]), f"KVM gave up with exit reason {last[1]}")
        return f"/dev/kvm opens, but a guest fails {where}: {reason}"
    if last[0] == "refused" and len(last) == 3 and last[2].isdecimal():
        return f"/dev/kvm opens, but {last[1]} is refused: {os.strerror(int(last[2]))}"
    return f"the trial of /dev/kvm ended {where} without a word"


def runs(scene: Scene, trial: Callable[[], Trial] = run_trial, machine: str = "") -> Finding:
    """KVM-01"""
    host = scene.host
    if host.stat(DEVICE) is None:
        return warn("there is no /dev/kvm: guests are emulated, and slow",
                    "Switch virtualisation on in the firmware, modprobe kvm_intel or kvm_amd; in a"
                    " virtual machine, nested virtualisation.")  # fmt: skip
    machine = machine or platform.machine()
    if machine != "x86_64":
        return skip(f"no trial guest for {machine}", "Start a guest and see whether it boots.")
    if not os.access(host.at(DEVICE), os.R_OK | os.W_OK):
        raise Unseen(DEVICE)
    started = trial()
    wrong = judge(started)
    if not wrong:
        return passed(f"a guest ran to its end on KVM, in {started.seconds * 1000:.0f} ms")
    if _emulation_is_meant(scene):
        return warn(f"{wrong}; Nova is told to emulate (virt_type = qemu)", SLOW)
    return fail(wrong, EMULATE)


def _emulation_is_meant(scene: Scene) -> bool:
    try:
        config = services.nova_config(scene.host) or {}
    except (ValueError, Unseen):
        return False
    return config.get("libvirt", {}).get("virt_type") == "qemu"


CHECKS = (Check("KVM-01", "KVM really runs a guest", runs),)

