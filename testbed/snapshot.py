# SPDX-License-Identifier: Apache-2.0
"""Boot once, restore many times: a guest that answers in under a second.

The saved guest has no NIC.  It gets one after the restore, by hot-plug: so every test negotiates
with the backend it really has in front of it, one snapshot serves every combination of features,
and nothing depends on the backend being able to migrate.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from testbed import TestbedError, qemu, unprivileged
from testbed.cache import Cache, digest
from testbed.guest import Guest
from testbed.qemu import Machine

KIND = "snapshot"
SAVE_SECONDS = 60.0
KEPT = 4  # a state has the size of the guest's used memory, and each change makes another


def key(machine: Machine) -> str:
    """What a saved state depends on: change any of it and the state is another."""
    processor = next((line for line in Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), "")
    return digest(qemu.version(), processor, machine.vmlinux, machine.initramfs,
                  *machine.hardware())


def get(cache: Cache, machine: Machine, progress: Callable[[str], None]) -> Path:
    """The saved state of a freshly booted guest."""
    def make(work: Path) -> None:
        progress("booting a guest once, to keep its state for later runs")
        _save(machine, work / "state")

    if not cache.entry(KIND, key(machine)).is_dir():
        cache.keep_newest(KIND, KEPT - 1)
    return cache.get(KIND, key(machine), make) / "state"


def forget(cache: Cache, machine: Machine) -> None:
    """Drop a state that would not restore."""
    cache.drop(KIND, key(machine))


def _save(machine: Machine, target: Path) -> None:
    who = unprivileged.identity()
    with tempfile.TemporaryDirectory(prefix="uswitch-snapshot-") as scratch:
        directory = unprivileged.own(Path(scratch), who)
        with Guest("snapshot", machine, directory) as guest:
            guest.boot()
            guest.wait_ready()
            guest.qmp.command("stop")
            guest.qmp.command("migrate", uri=f"file:{directory}/state")
            deadline = time.monotonic() + SAVE_SECONDS
            while (status := guest.qmp.command("query-migrate").get("status")) != "completed":
                if status == "failed" or time.monotonic() > deadline:
                    raise TestbedError(f"QEMU could not save the guest: {status}")
                time.sleep(0.05)
        shutil.move(directory / "state", target)
