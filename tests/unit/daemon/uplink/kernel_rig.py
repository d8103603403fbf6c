# SPDX-License-Identifier: Apache-2.0
"""A make-believe sysfs, /dev and VFIO, in a directory of its own."""

from __future__ import annotations

import errno
import os
import pathlib
import struct
from typing import Any

from vif_uswitch.daemon.uplink import vfio
from vif_uswitch.daemon.uplink.vfio import System, VfioDevice

NIC = "0000:05:00.0"
NAMES = {
    number: name
    for name, number in vars(vfio).items()
    if isinstance(number, int) and number >> 8 == 0x3B
}


class Kernel:
    """Devices are added, nodes are files, ``calls`` are the ioctls by name; ``fail`` has an errno
    for those that shall fail."""

    def __init__(self, top: pathlib.Path) -> None:
        self.sysfs, self.dev = top / "sys", top / "dev"
        (self.dev / "vfio").mkdir(parents=True)
        (self.dev / "vfio/vfio").touch()
        self.calls: list[tuple[str, str]] = []  # node, request
        self.fail: dict[str, int] = {}
        self.version = 0
        self.has_type1 = 1
        self.group_flags = vfio.GROUP_VIABLE
        self.bound: tuple[int, ...] = ()  # what DEVICE_BIND_IOMMUFD was given
        self.asked_for = ""  # the device that GROUP_GET_DEVICE_FD was asked for

    @property
    def system(self) -> System:
        return System(str(self.sysfs), str(self.dev), self.ioctl)

    def add(
        self, address: str = NIC, driver: str = "vfio-pci", group: str = "7", *,
        ids: tuple[int, int] = (0x8086, 0x10C9), class_: int = 0x020000, cdev: str = "",
        ifname: str = "",
    ) -> None:  # fmt: skip
        """A device; with ``driver`` on vfio-pci, its nodes as well."""
        path = self.sysfs / "bus/pci/devices" / address
        path.mkdir(parents=True)
        for name, value in (("vendor", ids[0]), ("device", ids[1]), ("class", class_)):
            (path / name).write_text(f"{value:#06x}\n")
        self.drive(address, driver)
        if group:
            members = self.sysfs / "kernel/iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(path)
            (path / "iommu_group").symlink_to(members.parent)
        if group and driver == "vfio-pci":
            (self.dev / "vfio" / group).touch()
        if ifname:
            (path / "net" / ifname).mkdir(parents=True)
        if cdev:
            (path / "vfio-dev" / cdev).mkdir(parents=True)
            (self.dev / "vfio/devices").mkdir(exist_ok=True)
            (self.dev / "vfio/devices" / cdev).touch()
            (self.dev / "iommu").touch()

    def drive(self, address: str, driver: str) -> None:
        """Gives a device to another driver of the kernel, "" to none."""
        link = self.sysfs / "bus/pci/devices" / address / "driver"
        link.unlink(missing_ok=True)
        if driver:
            link.symlink_to(self.sysfs / "bus/pci/drivers" / driver)

    def write(self, path: str, text: str) -> None:
        target = self.sysfs / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def ioctl(self, fd: int, request: int, arg: Any = 0) -> int:
        node = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self.dev)
        name = NAMES[request]
        self.calls.append((node, name))
        if name in self.fail:
            raise OSError(self.fail[name], os.strerror(self.fail[name]))
        if request == vfio.GET_API_VERSION:
            return self.version
        if request == vfio.CHECK_EXTENSION:
            assert arg == vfio.TYPE1V2_IOMMU
            return self.has_type1
        if request == vfio.GROUP_GET_STATUS:
            struct.pack_into("=II", arg, 0, 8, self.group_flags)
        if request == vfio.GROUP_GET_DEVICE_FD:
            self.asked_for = bytes(arg).decode("ascii")
            return os.open(self.dev / "vfio/vfio", os.O_RDONLY)
        if request == vfio.DEVICE_BIND_IOMMUFD:
            self.bound = struct.unpack("=IIiI", arg)
        return 0


class Opener:
    """Stands for ``vfio.open_device``: hands out harmless descriptors, or fails as it is told."""

    def __init__(self, iommufd: bool = False) -> None:
        self.iommufd = iommufd
        self.opened: list[str] = []
        self.error: Exception | None = None

    def __call__(self, address: str) -> VfioDevice:
        self.opened.append(address)
        if self.error is not None:
            raise self.error
        fds = [os.open(os.devnull, os.O_RDWR) for _ in range(2 if self.iommufd else 3)]
        return VfioDevice(address, self.iommufd, tuple(fds))


def busy() -> OSError:
    return OSError(errno.EBUSY, os.strerror(errno.EBUSY))
