# SPDX-License-Identifier: Apache-2.0
"""What a guest is, and the QEMU command line that makes it.  No I/O but asking QEMU its version.

Two things in the command line are there for a reason that does not show.  Memory is a shared
memfd, without which no vhost-user backend can see it.  And NICs sit behind PCIe root ports, so that
one can be plugged into a restored guest exactly as Nova plugs one into a running server.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from testbed import TestbedError
from testbed.accel import Acceleration

PROGRAM = "qemu-system-x86_64"
SLOTS = 4
MINIMUM = (10, 0)
RECONNECT_MS = 500

Mode = Literal["server", "client"]


class Device(Protocol):
    """Anything that a guest is started with at one of its slots."""

    def arguments(self, slot: int) -> list[str]:
        """The device as part of a command line."""


@dataclass(frozen=True, slots=True)
class Nic:
    """One vhost-user NIC.  ``mode`` is QEMU's part, as in libvirt: a server listens."""

    socket: Path
    mac: str
    mode: Mode = "client"
    queues: int = 1
    options: tuple[str, ...] = ()  # virtio-net-pci properties, "mrg_rxbuf=off"

    def device(self, slot: int) -> str:
        """The device line of the guest's side."""
        words = ["virtio-net-pci", f"id=nic{slot}", f"netdev=net{slot}", f"mac={self.mac}",
                 f"bus=port{slot}"]
        if self.queues > 1:
            words += ["mq=on", f"vectors={2 * self.queues + 2}"]
        return ",".join([*words, *self.options])

    def arguments(self, slot: int) -> list[str]:
        """The NIC as part of a command line."""
        role = "server=on,wait=off" if self.mode == "server" else f"reconnect-ms={RECONNECT_MS}"
        return ["-chardev", f"socket,id=char{slot},path={self.socket},{role}",
                "-netdev", f"vhost-user,id=net{slot},chardev=char{slot},queues={self.queues}",
                "-device", self.device(slot)]

    def chardev(self) -> dict[str, object]:
        """The backend description of QMP's chardev-add."""
        data: dict[str, object] = {
            "addr": {"type": "unix", "data": {"path": str(self.socket)}},
            "server": self.mode == "server",
        }
        data |= {"wait": False} if self.mode == "server" else {"reconnect-ms": RECONNECT_MS}
        return {"type": "socket", "data": data}


@dataclass(frozen=True, slots=True)
class Network:
    """Settings of a guest's interface, as testbed/guest/guest-net takes them."""

    ip: str | None = None
    ip6: str | None = None
    mtu: int | None = None
    vlans: tuple[str, ...] = ()  # "5:10.5.0.1/24" or just "5"

    def words(self) -> list[str]:
        """The settings as ``key=value`` words."""
        pairs = {"ip": self.ip, "ip6": self.ip6, "mtu": self.mtu, "vlans": ",".join(self.vlans)}
        return [f"{key}={value}" for key, value in pairs.items() if value]


@dataclass(frozen=True, slots=True)
class Machine:
    """The part of a guest a snapshot depends on."""

    vmlinux: Path
    initramfs: Path
    accel: Acceleration
    memory: str = "192M"
    cpus: int = 1
    hugepages: bool = False  # of the host's default size, which root must have reserved

    def hardware(self) -> list[str]:
        """Devices and memory, the same for the guest that is saved and those that are restored."""
        backing = f"memory-backend-memfd,id=mem,size={self.memory},share=on"
        if self.hugepages:
            backing += ",hugetlb=on"
        ports = [word for slot in range(SLOTS)
                 for word in ("-device", f"pcie-root-port,id=port{slot},chassis={slot + 1}")]
        return [*self.accel.arguments, "-M", "q35,memory-backend=mem", "-object", backing,
                "-m", f"{self.memory},slots=2,maxmem=1G", "-smp", str(self.cpus),
                "-nodefaults", "-no-user-config", "-display", "none", *ports]

    def kernel_line(self, name: str, network: Network | None) -> str:
        """The kernel's command line; network settings there survive a reboot."""
        words = ["console=ttyS0", "panic=-1", "quiet", "mitigations=off", "nokaslr",
                 "random.trust_cpu=on", *self.accel.kernel_words, f"guest.name={name}"]
        if network is not None:
            words += [f"guest.{word}" for word in network.words()]
        return " ".join(words)


def command_line(machine: Machine, name: str, directory: Path, network: Network | None,
                 nics: Sequence[Device], incoming: str | None) -> list[str]:
    """Everything after which a guest runs, or waits for ``cont`` if its state is ``incoming``."""
    def port(kind: str) -> list[str]:
        return ["-serial", f"unix:{directory / name}.{kind},server=on,wait=off"]

    words = [PROGRAM, "-name", name, *machine.hardware(),
             "-serial", f"file:{directory / name}.log", *port("cmd"), *port("tty"),
             "-qmp", f"unix:{directory / name}.qmp,server=on,wait=off",
             "-kernel", str(machine.vmlinux), "-initrd", str(machine.initramfs),
             "-append", machine.kernel_line(name, network)]
    for slot, nic in enumerate(nics):
        words += nic.arguments(slot)
    if incoming is not None:
        words += ["-S", "-incoming", incoming]
    return words


@functools.cache
def version() -> str:
    """QEMU's version, refused when too old to be used here."""
    try:
        shown = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TestbedError(f"{PROGRAM} is missing: install qemu-system-x86") from error
    found = re.search(r"version (\d+)\.(\d+)\S*( \(.*\))?", shown.stdout)
    if found is None:
        raise TestbedError(f"{PROGRAM} --version says nothing understandable")
    if (int(found[1]), int(found[2])) < MINIMUM:
        raise TestbedError(
            f"QEMU {found[1]}.{found[2]} is too old for this test bed: install "
            f"{MINIMUM[0]}.{MINIMUM[1]} or newer from bookworm-backports (make setup does it)"
        )
    return found[0]
