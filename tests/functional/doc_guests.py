# SPDX-License-Identifier: Apache-2.0
"""Guests of libvirt's on a bed: their disks, and what is typed into them.

A bootable disk image is there for each guest that the pages speak of
(``GUESTS``), as their reader has one.  KVM is hidden where no guest boots on it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import threading
import time
import tty
from pathlib import Path

from testbed import TestbedError
from testbed.console import CommandPort

from .doc_bed import BLOCK_SECONDS, Bed
from .doc_disk import Disks

# A file that QEMU may not open: of one that it may, libvirt would ask QEMU again before each guest.
HIDE_KVM = (
    "[ ! -e /dev/kvm ] || { : > /run/kvm; chmod 0 /run/kvm; mount --bind /run/kvm /dev/kvm; }"
)
GUEST_SECONDS = 240.0
# name -> address.  A page that needs others adds them here.
GUESTS = {"vm1": "10.7.0.1/24", "vm2": "10.7.0.2/24"}


def hide_kvm(bed: Bed, disks: Disks) -> None:
    """Where no guest boots on it."""
    if not disks.kvm:
        done = bed.run("root", HIDE_KVM)
        assert done.returncode == 0, done.stdout


def put_disks(bed: Bed, disks: Disks, scratch: Path, where: str | Path, owner: int) -> None:
    """The guests' images, into a directory of the bed."""
    for name, address in GUESTS.items():
        disks.write(scratch / f"{name}.qcow2", name, address)
        inside = bed.at(f"{where}/{name}.qcow2")
        subprocess.run(["cp", scratch / f"{name}.qcow2", inside], check=True)
        subprocess.run(["chown", str(owner), inside], check=True)


class Guests:
    """Those of the libvirt that a user of the bed has at ``uri``."""

    def __init__(self, bed: Bed, who: str, uri: str) -> None:
        self._bed, self._who, self._uri = bed, who, uri
        self._ports: dict[str, CommandPort] = {}

    def type(self, name: str, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line into a running one, by the serial port that virsh console shows.

        A reader would wait until all have booted.
        """
        for other in self.virsh("list --name").stdout.split():
            self._log_in(other)
        result = self._log_in(name).run(line, BLOCK_SECONDS)
        return subprocess.CompletedProcess([name, line], result.rc, result.output)

    def virsh(self, words: str) -> subprocess.CompletedProcess[str]:
        """In a shell that is not the reader's terminal."""
        return subprocess.run(
            self._bed.words(self._who, ["sh", "-c", f"virsh -c {self._uri} {words}"]),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=BLOCK_SECONDS,
        )  # fmt: skip

    def _log_in(self, name: str) -> CommandPort:
        """Wait until its init answers there; what is typed before that is lost."""
        deadline = time.monotonic() + GUEST_SECONDS
        while True:
            with contextlib.suppress(TestbedError):
                console = self._console(name)
                port = self._ports.setdefault(name, Pty(console, lambda: None))
                if port.path != console:  # it was started anew
                    self._ports.pop(name).close()
                    continue
                port.run("true", 5)
                return port
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"guest {name} does not answer on its console; libvirt says: "
                    f"{self.virsh('list --all').stdout}"
                )

    def _console(self, name: str) -> Path:
        done = self.virsh(f"ttyconsole {name}")
        if done.returncode or not done.stdout.startswith("/dev/pts/"):
            time.sleep(1)
            raise TestbedError(done.stdout)
        return self._bed.at(done.stdout.strip())


class Pty(CommandPort):
    """A command port behind a terminal: libvirt's console."""

    def _connection(self, deadline: float) -> socket.socket:
        if self._socket is None:
            terminal = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
            tty.setraw(terminal)
            self._socket, far = socket.socketpair()
            threading.Thread(target=_bridge, args=(far, terminal), daemon=True).start()
        return self._socket


def _bridge(far: socket.socket, terminal: int) -> None:
    """Carry bytes between the two until one of them ends."""
    with far, contextlib.suppress(OSError):
        while True:
            readable = select.select([far.fileno(), terminal], [], [])[0]
            if far.fileno() in readable:
                data = far.recv(4096)
                if not data:
                    break
                os.write(terminal, data)
            if terminal in readable:
                far.sendall(os.read(terminal, 4096))
    os.close(terminal)
