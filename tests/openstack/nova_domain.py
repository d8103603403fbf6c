# SPDX-License-Identifier: Apache-2.0
"""A whole domain in Nova's words: its configuration classes write what libvirt gets.

The interface is what Nova's VIF driver made, the memory what Nova gives a guest
of a host with ``[libvirt] file_backed_memory``.  Kernel, initramfs and serial
ports are the test bed's, where Nova would have a disk.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nova import objects
from nova.virt.libvirt import config as vconfig
from nova.virt.libvirt import driver as libvirt_driver

from testbed.libvirt import Libvirt
from testbed.qemu import Machine, Network

from .nova_side import Compute, Server

MEMORY_KIB = 192 << 10


class Domains:
    """Makes domains of interfaces for one libvirtd."""

    def __init__(self, libvirt: Libvirt, machine: Machine, compute: Compute) -> None:
        """libvirt gives a guest's files to QEMU's user, so kernel and initramfs are copies."""
        self.libvirt = libvirt
        self.compute = compute
        self.machine = machine
        self.virt_type = "kvm" if machine.accel.name == "kvm" else "qemu"
        self._kernel = self._copy(machine.vmlinux)
        self._initramfs = self._copy(machine.initramfs)
        compute.configure("libvirt", file_backed_memory=1024, virt_type=self.virt_type)

    def _copy(self, path: Path) -> Path:
        return Path(shutil.copy(path, self.libvirt.guests))

    def of(self, server: Server, interfaces: list[Any], network: Network | None = None) -> str:
        """The domain's XML: Nova's, and the test bed's serial ports."""
        guest = vconfig.LibvirtConfigGuest()
        guest.virt_type = self.virt_type
        guest.name, guest.uuid = server.name, server.uuid
        guest.memory, guest.vcpus = MEMORY_KIB, 1
        guest.os_type, guest.os_mach_type = "hvm", "pc"  # Nova's default for x86
        # Interfaces are plugged into a running guest by ACPI.
        guest.features = [vconfig.LibvirtConfigGuestFeatureACPI(),
                          vconfig.LibvirtConfigGuestFeatureAPIC()]  # fmt: skip
        guest.os_kernel, guest.os_initrd = str(self._kernel), str(self._initramfs)
        guest.os_cmdline = self.machine.kernel_line(server.name, network)
        guest.cpu = vconfig.LibvirtConfigGuestCPU()
        guest.cpu.mode = "host-passthrough" if self.virt_type == "kvm" else "maximum"
        guest.membacking = memory_backing(server)
        for interface in interfaces:
            guest.add_device(interface)
        return self.libvirt.with_consoles(guest.to_xml())


def memory_backing(server: Server) -> vconfig.LibvirtConfigGuestMemoryBacking | None:
    """What Nova decides about a guest's memory.  Its driver as it is, but connected to nothing."""
    driver = libvirt_driver.LibvirtDriver.__new__(libvirt_driver.LibvirtDriver)
    driver._host = SimpleNamespace(supports_mem_encryption=False)
    image = objects.ImageMeta.from_dict({"properties": {}})
    flavor = server.instance().flavor
    return driver._get_guest_memory_backing_config(None, None, flavor, image)
