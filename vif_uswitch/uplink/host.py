# SPDX-License-Identifier: Apache-2.0
"""The host as the helper sees it: PCI devices, their drivers, IOMMU groups and interfaces.

Reads only; ``root.py`` adds what changes the host.  Every path hangs below one
directory and every program is started through one function, so that a test has
a host of its own.  Everything is read anew each time: devices and drivers come
and go, and what vanishes while it is read counts as absent.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vif_uswitch.exceptions import InvalidInput, NotFound, USwitchError

CLASS_NETWORK = 0x02  # PCI Code and ID Assignment Specification, 1.1: base class
PROGRAM_S = 60.0  # the longest that ip, modprobe or udevadm may take
_ADDRESS = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

Run = Callable[[Sequence[str]], str]


def run_program(command: Sequence[str]) -> str:
    """Standard output of a program that ended well; looked for in the system's directories only."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            list(command), capture_output=True, check=False, text=True, errors="replace",
            timeout=PROGRAM_S, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise USwitchError("command", " ".join(command), f"could not be run: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or "it says nothing"
        raise USwitchError("command", " ".join(command), f"failed ({done.returncode}): {said}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Device:
    """A PCI device as sysfs shows it."""

    address: str  # 0000:03:00.0
    vendor: int
    device: int
    pci_class: int  # 24 bits: base class, subclass, interface
    driver: str  # of the kernel, "" if there is none
    group: str  # number of its IOMMU group, "" without an IOMMU
    interfaces: tuple[str, ...]  # in this network namespace
    n_vfs: int  # virtual functions that are switched on
    is_vf: bool

    @property
    def is_network(self) -> bool:
        return self.pci_class >> 16 == CLASS_NETWORK

    @property
    def ids(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"


def normal_address(text: str) -> str:
    """A PCI address with its domain, in lower case; InvalidInput if it is none."""
    address = text.lower()
    if not _ADDRESS.fullmatch(address):
        raise InvalidInput(
            "PCI address", text, "is malformed: it looks like 0000:03:00.0",
            "'uswitch-uplink list' shows the adapters of this host.",
        )  # fmt: skip
    return address if address.count(":") == 2 else f"0000:{address}"


class Host:
    """``root``: what all paths hang below; ``run`` starts programs."""

    def __init__(self, root: str = "/", run: Run = run_program) -> None:
        self.root = Path(root)
        self.run = run

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str:
        try:
            return self.path(absolute).read_text("ascii", errors="replace").strip()
        except OSError:
            return ""

    def names(self, absolute: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path(absolute)))
        except OSError:
            return []

    def link(self, absolute: str) -> str:
        """Last part of where a symbolic link leads, "" if there is none."""
        try:
            return os.path.basename(os.readlink(self.path(absolute)))
        except OSError:
            return ""

    def device(self, address: str) -> Device:
        """``address`` in normal form; NotFound if there is no such device."""
        where = f"/sys/bus/pci/devices/{address}"
        if not self.path(where).is_dir():
            raise NotFound(
                "PCI device", address, "does not exist",
                "'uswitch-uplink list' shows the adapters of this host.",
            )  # fmt: skip
        # A virtio device lies between the PCI device and its interface.
        above = [where, *(f"{where}/{n}" for n in self.names(where) if n.startswith("virtio"))]
        return Device(
            address=address,
            vendor=_number(self.text(f"{where}/vendor"), 16),
            device=_number(self.text(f"{where}/device"), 16),
            pci_class=_number(self.text(f"{where}/class"), 16),
            driver=self.link(f"{where}/driver"),
            group=self.link(f"{where}/iommu_group"),
            interfaces=tuple(name for path in above for name in self.names(f"{path}/net")),
            n_vfs=_number(self.text(f"{where}/sriov_numvfs"), 10),
            is_vf=bool(self.link(f"{where}/physfn")),
        )

    def adapters(self) -> list[Device]:
        return [device for device in self._devices("/sys/bus/pci/devices") if device.is_network]

    def group_devices(self, group: str) -> list[Device]:
        return self._devices(f"/sys/kernel/iommu_groups/{group}/devices")

    def _devices(self, directory: str) -> list[Device]:
        found = []
        for name in self.names(directory):
            with suppress(NotFound):
                found.append(self.device(name))
        return found

    def is_on(self, module: str, parameter: str) -> bool:
        return self.text(f"/sys/module/{module}/parameters/{parameter}") in ("Y", "1")

def _number(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return 0
