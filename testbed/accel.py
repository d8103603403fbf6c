# SPDX-License-Identifier: Apache-2.0
"""KVM or emulation?  Only a guest that boots is an answer.

An openable /dev/kvm says little: under some hypervisors a guest hangs or faults there.  So a real
guest is booted once per boot of the host, within a deadline, by the user QEMU will run as, and the
verdict is cached.

Emulated guests take the host's time stamp counter; unless the kernel is told its rate it calibrates
against a starved timer, and the guest's clock runs several times off under load.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from testbed import unprivileged
from testbed.cache import Cache, digest

TRIAL_SECONDS = 15.0
READY_MARK = b"GUEST-READY"


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How guests run, and why so."""

    name: str  # "kvm" or "tcg"
    reason: str
    arguments: tuple[str, ...]
    kernel_words: tuple[str, ...]


def kvm(reason: str) -> Acceleration:
    """Guests on the processor itself."""
    return Acceleration("kvm", reason, ("-accel", "kvm", "-cpu", "host"), ())


def tcg(reason: str) -> Acceleration:
    """Emulated guests."""
    words = ("no_timer_check", "tsc=reliable", f"tsc_early_khz={tsc_khz()}")
    return Acceleration("tcg", reason, ("-accel", "tcg,thread=multi", "-cpu", "max"), words)


def choose(cache: Cache, vmlinux: Path, initramfs: Path) -> Acceleration:
    """The verdict for this host, user and boot."""
    who = unprivileged.guest_identity()
    if not unprivileged.readable(Path("/dev/kvm"), who, "-w"):
        return tcg(f"user {who.name} may not open /dev/kvm")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def trial(work: Path) -> None:
        works, reason = try_kvm(vmlinux, initramfs, who)
        (work / "verdict.json").write_text(json.dumps({"works": works, "reason": reason}))

    entry = cache.get("accel", digest(boot_id, who.uid), trial)
    verdict = json.loads((entry / "verdict.json").read_text())
    return kvm(verdict["reason"]) if verdict["works"] else tcg(verdict["reason"])


def try_kvm(vmlinux: Path, initramfs: Path, who: unprivileged.Identity) -> tuple[bool, str]:
    """Boot a guest without NICs under KVM and see whether it says that it is ready."""
    with tempfile.TemporaryDirectory(prefix="uswitch-kvm-") as scratch:
        directory = unprivileged.own(Path(scratch), who)
        log = directory / "log"
        command = ["qemu-system-x86_64", *kvm("").arguments, "-M", "q35", "-m", "192M",
                   "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                   "-serial", f"file:{log}", "-kernel", str(vmlinux), "-initrd", str(initramfs),
                   "-append", "console=ttyS0 panic=-1 quiet"]
        with (directory / "out").open("w+") as out:
            process = subprocess.Popen(unprivileged.argv(command, who), stdout=out, stderr=out,
                                       stdin=subprocess.DEVNULL)
            try:
                return _watch(process, log, directory / "out")
            finally:
                process.kill()
                process.wait()


def _watch(process: subprocess.Popen[bytes], log: Path, out: Path) -> tuple[bool, str]:
    started = time.monotonic()
    while time.monotonic() - started < TRIAL_SECONDS:
        if log.exists() and READY_MARK in log.read_bytes():
            return True, f"a guest booted on KVM in {time.monotonic() - started:.1f} s"
        if process.poll() is not None:
            said = (out.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            return False, f"QEMU could not use KVM: {said}"
        time.sleep(0.1)
    return False, f"a guest did not boot on KVM in {TRIAL_SECONDS:.0f} s"


@functools.cache
def tsc_khz() -> int:
    """The rate of the host's time stamp counter, measured (the kernel tells root only)."""
    if platform.machine() != "x86_64":
        return 1_000_000
    # rdtsc; shl rdx,32; or rax,rdx; ret
    code = b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3"
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    view = ctypes.c_char.from_buffer(page)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(view))
    best = min((_sample(read) for _ in range(3)), key=lambda sample: sample[1])
    del read, view
    return best[0]


def _sample(read: ctypes._CFunctionType) -> tuple[int, int]:
    """One measurement over 50 ms: kHz, and how long reading the clocks took."""
    t0, c0, t1 = time.monotonic_ns(), int(read()), time.monotonic_ns()
    time.sleep(0.05)
    t2, c1, t3 = time.monotonic_ns(), int(read()), time.monotonic_ns()
    elapsed = (t2 + t3 - t0 - t1) // 2
    return (c1 - c0) * 1_000_000 // elapsed, (t1 - t0) + (t3 - t2)
