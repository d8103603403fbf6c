# SPDX-License-Identifier: Apache-2.0
"""A running guest of a libvirtd's (libvirt.py), with the test bed's kernel in it.

It is commanded through its second serial port, as the guests of guest.py are.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from testbed import TestbedError
from testbed.accel import READY_MARK
from testbed.console import CommandPort

if TYPE_CHECKING:
    from testbed.libvirt import Libvirt

BOOT_SECONDS = 180.0
END_SECONDS = 120.0


class Domain:
    """A running guest of libvirt's, with the test bed's kernel and command port in it."""

    def __init__(self, libvirt: Libvirt, name: str) -> None:
        self.libvirt = libvirt
        self.name = name
        self.log = libvirt.guests / f"{name}.log"
        self.commands = CommandPort(libvirt.guests / f"{name}.cmd", libvirt.check)

    def boots(self) -> int:
        """How often the guest's init has come as far as serving commands, under this QEMU."""
        return self.log.read_bytes().count(READY_MARK) if self.log.exists() else 0

    def wait_ready(self, boots: int = 1, timeout: float = BOOT_SECONDS) -> None:
        """Wait until the guest's init serves commands, for the first time or another one."""
        deadline = time.monotonic() + timeout
        while self.boots() < boots:
            self.libvirt.check()
            if time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""
                raise TestbedError(f"domain {self.name} is not up after {timeout:.0f} s; it is "
                                   f"{self.state()} and said:\n{said}")
            time.sleep(0.1)
        self.must("true")

    def must(self, command: str, timeout: float = 60) -> str:
        """Run a command in the guest that has to succeed."""
        result = self.commands.run(command, timeout)
        if result.rc:
            raise TestbedError(f"{self.name}: '{command}' ended with status {result.rc}:\n"
                               f"{result.output.strip()}")
        return result.output

    def again(self, timeout: float = BOOT_SECONDS) -> None:
        """Start it, once more, and wait until its init serves commands."""
        self.commands.close()
        for path in (self.log, self.commands.path):
            path.unlink(missing_ok=True)
        self.libvirt.virsh("start", self.name)
        self.wait_ready(timeout=timeout)

    def kill(self) -> None:
        """SIGKILL QEMU, as the out-of-memory killer would, and wait until libvirt knows."""
        self.commands.close()
        os.kill(self.libvirt.qemu(self.name), signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        while self.state() != "shut off":
            if time.monotonic() > deadline:
                raise TestbedError(f"domain {self.name} was killed and still is {self.state()}")
            time.sleep(0.1)

    def state(self) -> str:
        """libvirt's word for it: running, paused, shut off."""
        return self.libvirt.virsh("domstate", self.name).strip()

    def destroy(self) -> None:
        """Pull the plug."""
        self.commands.close()
        self.libvirt.virsh("destroy", self.name)
