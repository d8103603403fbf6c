# SPDX-License-Identifier: Apache-2.0
"""Domains for a libvirtd of the test bed, written as a user without a cloud writes them.

Kernel, initramfs and serial ports are the test bed's, where a user would have a
disk.  Memory is a shared memfd, without which libvirt refuses a vhost-user
interface.  Only interfaces differ from domain to domain:

    guests = Guests(libvirt, machine)
    xml = guests.xml("vm1", [Interface(path, mac)], Network(ip="10.9.0.1/24"))
    domain = libvirt.start_domain(xml)

Standard library only.
"""

from __future__ import annotations

import shutil
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from testbed.libvirt import Libvirt
from testbed.qemu import Machine, Mode, Network

MEMORY_KIB = 192 << 10
RECONNECT_SECONDS = 1


class Device(Protocol):
    """What a domain can have, or be given while it runs."""

    def xml(self) -> str:
        """The element."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A vhost-user interface.  ``mode`` is QEMU's part: a server listens."""

    path: Path
    mac: str
    mode: Mode = "server"
    queues: int = 1

    def xml(self) -> str:
        """As libvirt takes it, in a domain or by attach-device."""
        root = ET.Element("interface", type="vhostuser")
        ET.SubElement(root, "mac", address=self.mac)
        source = ET.SubElement(root, "source", type="unix", path=str(self.path), mode=self.mode)
        if self.mode == "client":
            ET.SubElement(source, "reconnect", enabled="yes", timeout=str(RECONNECT_SECONDS))
        ET.SubElement(root, "model", type="virtio")
        if self.queues > 1:
            ET.SubElement(root, "driver", queues=str(self.queues))
        return ET.tostring(root, encoding="unicode")


@dataclass(frozen=True, slots=True)
class Tap:
    """An interface of the kernel's: a TAP device that the host has made for QEMU."""

    ifname: str
    mac: str

    def xml(self) -> str:
        """As libvirt takes it."""
        root = ET.Element("interface", type="ethernet")
        ET.SubElement(root, "mac", address=self.mac)
        ET.SubElement(root, "target", dev=self.ifname, managed="no")
        ET.SubElement(root, "model", type="virtio")
        return ET.tostring(root, encoding="unicode")


@dataclass(frozen=True, slots=True)
class Disk:
    """An image in qcow2 format, for what libvirt stores in images."""

    path: Path

    def xml(self) -> str:
        """As libvirt takes it."""
        root = ET.Element("disk", type="file", device="disk")
        ET.SubElement(root, "driver", name="qemu", type="qcow2")
        ET.SubElement(root, "source", file=str(self.path))
        ET.SubElement(root, "target", dev="vda", bus="virtio")
        return ET.tostring(root, encoding="unicode")


class Guests:
    """Makes domains of interfaces for one libvirtd, or for several that migrate to each other."""

    def __init__(self, libvirt: Libvirt, machine: Machine) -> None:
        """libvirt gives a guest's files to QEMU's user, so kernel and initramfs are copies."""
        self.libvirt = libvirt
        self.machine = machine
        self.virt_type = "kvm" if machine.accel.name == "kvm" else "qemu"
        self._kernel = Path(shutil.copy(machine.vmlinux, libvirt.guests))
        self._initramfs = Path(shutil.copy(machine.initramfs, libvirt.guests))

    def xml(self, name: str, devices: Iterable[Device], network: Network | None = None,
            metadata: str = "") -> str:
        """A domain; ``metadata`` is what its element of that name holds."""
        root = ET.Element("domain", type=self.virt_type)
        for tag, text in (("name", name), ("uuid", str(uuid.uuid4())), ("vcpu", "1")):
            ET.SubElement(root, tag).text = text
        ET.SubElement(root, "memory", unit="KiB").text = str(MEMORY_KIB)
        if metadata:
            ET.SubElement(root, "metadata").append(ET.fromstring(metadata))
        backing = ET.SubElement(root, "memoryBacking")
        ET.SubElement(backing, "source", type="memfd")
        ET.SubElement(backing, "access", mode="shared")
        self._system(root, name, network)
        within = ET.SubElement(root, "devices")
        ET.SubElement(within, "controller", type="usb", model="none")
        ET.SubElement(within, "memballoon", model="none")
        for device in devices:
            within.append(ET.fromstring(device.xml()))
        return self.libvirt.with_consoles(ET.tostring(root, encoding="unicode"))

    def _system(self, root: ET.Element, name: str, network: Network | None) -> None:
        system = ET.SubElement(root, "os")
        ET.SubElement(system, "type", arch="x86_64", machine="pc").text = "hvm"
        for tag, text in (("kernel", str(self._kernel)), ("initrd", str(self._initramfs)),
                          ("cmdline", self.machine.kernel_line(name, network))):
            ET.SubElement(system, tag).text = text
        features = ET.SubElement(root, "features")
        for tag in ("acpi", "apic"):  # interfaces are plugged into a running guest by ACPI
            ET.SubElement(features, tag)
        ET.SubElement(root, "cpu",
                      mode="host-passthrough" if self.virt_type == "kvm" else "maximum")
