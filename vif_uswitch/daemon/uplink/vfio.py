# SPDX-License-Identifier: Apache-2.0
"""Opens an adapter through VFIO, as the ordinary user that uswitchd is.

Two ways, both end with file descriptors and no right beyond them:

* iommufd (Linux 6.2 on): ``/dev/vfio/devices/vfioN`` is bound to an
  ``/dev/iommu``.  Preferred where both exist.
* container and group: ``/dev/vfio/GROUP`` joins a container of type 1 (v2),
  and hands out the device.  The group stays open as long as the device.

What may be mapped for DMA is the dataplane's business (``nic/vfio.c``).  Modes
that give up the protection of an IOMMU are refused: no-IOMMU groups, and
``allow_unsafe_interrupts``.  Opening resets the device, which takes a while:
``open_device()`` belongs in a thread.  Numbers: linux/vfio.h, linux/iommufd.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

from vif_uswitch.daemon.uplink import pci
from vif_uswitch.daemon.uplink.pci import PciDevice
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Unavailable,
    USwitchError,
)
from vif_uswitch.uplink.devices import switch_driver

GET_API_VERSION = 0x3B64
CHECK_EXTENSION = 0x3B65
SET_IOMMU = 0x3B66
GROUP_GET_STATUS = 0x3B67
GROUP_SET_CONTAINER = 0x3B68
GROUP_GET_DEVICE_FD = 0x3B6A
DEVICE_BIND_IOMMUFD = 0x3B76
API_VERSION = 0
TYPE1V2_IOMMU = 3
GROUP_VIABLE = 1
_STATUS = struct.Struct("=II")  # struct vfio_group_status: argsz, flags
_BIND = struct.Struct("=IIiI")  # struct vfio_device_bind_iommufd: argsz, flags, iommufd, out_devid

Ioctl = Callable[..., int]


@dataclass(frozen=True, slots=True)
class System:
    """Where the kernel is found; tests have one of their own."""

    sysfs: str = "/sys"
    dev: str = "/dev"
    ioctl: Ioctl = fcntl.ioctl


HOST = System()


@dataclass(slots=True)
class VfioDevice:
    """An open adapter.  Owns its file descriptors."""

    address: str
    iommufd: bool  # else container and group
    fds: tuple[int, ...]  # container or iommufd, device, then the group if there is one

    def close(self) -> None:
        """The device first: a container lets go of a group that has no open device."""
        fds, self.fds = self.fds, ()
        for fd in reversed(fds[:2]):
            os.close(fd)
        for fd in fds[2:]:
            os.close(fd)


def check_device(address: str, system: System = HOST) -> PciDevice:
    """The device, if it is an adapter that VFIO has and that an IOMMU confines; or why not."""
    device = pci.read_device(address, system.sysfs)
    if not device.is_network:
        raise InvalidInput(
            "PCI device", address, f"is no network adapter (class {device.base_class:02x})",
            "'uswitch-uplink list' shows the adapters of this host.",
        )  # fmt: skip
    names = f" --ifname {device.ifnames[0]}" if device.ifnames else " --ifname"
    if not switch_driver(device.vendor, device.device):
        raise InvalidInput(
            "adapter", f"{address} ({device.ids})", "no driver of this switch knows such a device",
            f"Leave it to the kernel, and use AF_XDP:{names}",
        )  # fmt: skip
    if not device.on_vfio:
        has = f"is driven by the kernel's {device.driver}" if device.driver else "has no driver"
        raise Conflict(
            "adapter", f"{address} ({device.ids})", f"{has}, not by vfio-pci",
            f"Give it to the switch (root): uswitch-uplink bind {address}; or leave it to the"
            f" kernel, and use AF_XDP:{names}",
        )  # fmt: skip
    if not device.group:
        raise Unavailable(
            "adapter", address, "no IOMMU stands between it and the host's memory",
            "Enable it in the firmware (VT-d, AMD-Vi) and on the kernel's command line"
            " (intel_iommu=on); or leave the adapter to the kernel, and use AF_XDP: --ifname",
        )  # fmt: skip
    _refuse_unsafe(device, system)
    return device


def _refuse_unsafe(device: PciDevice, system: System) -> None:
    noiommu = os.path.join(system.dev, "vfio", f"noiommu-{device.group}")
    if pci.group_type(device.group, system.sysfs) == "vfio-noiommu" or os.path.exists(noiommu):
        raise Forbidden(
            "adapter", device.address, "is in VFIO's no-IOMMU mode: it could write to all memory",
            "Enable the IOMMU, unset enable_unsafe_noiommu_mode of module vfio, and bind it again.",
        )  # fmt: skip
    for module in ("vfio_iommu_type1", "iommufd"):
        if pci.parameter_is_on(module, "allow_unsafe_interrupts", system.sysfs):
            raise Forbidden(
                "adapter", device.address, f"allow_unsafe_interrupts of module {module} is set: an"
                " adapter could forge interrupts of other devices",
                f"Unset it: echo N > /sys/module/{module}/parameters/allow_unsafe_interrupts",
            )  # fmt: skip


def open_device(address: str, system: System = HOST) -> VfioDevice:
    """Opens the adapter; the caller owns the result.  May take some hundred milliseconds."""
    device = check_device(address, system)
    cdev = os.path.join(system.dev, "vfio/devices", device.cdev) if device.cdev else ""
    iommu = os.path.join(system.dev, "iommu")
    if cdev and os.path.exists(cdev) and os.path.exists(iommu):
        group = os.path.join(system.dev, "vfio", device.group)
        # A host's rule may give away one kind of node only: take the one that we were given.
        mine = os.access(cdev, os.R_OK | os.W_OK) and os.access(iommu, os.R_OK | os.W_OK)
        if mine or not os.access(group, os.R_OK | os.W_OK):
            return _open_cdev(device, cdev, iommu, system)
    return _open_group(device, system)


def _open_cdev(device: PciDevice, cdev: str, iommu: str, system: System) -> VfioDevice:
    fds: list[int] = []
    try:
        fds.append(_open_node(iommu, device))
        fds.append(_open_node(cdev, device))
        bind = bytearray(_BIND.pack(_BIND.size, 0, fds[0], 0))
        try:
            system.ioctl(fds[1], DEVICE_BIND_IOMMUFD, bind)
        except OSError as error:
            raise _explain(device, "binding it to the iommufd", error, system) from error
        return VfioDevice(device.address, True, tuple(fds))
    except BaseException:
        _close_all(fds)
        raise


def _open_group(device: PciDevice, system: System) -> VfioDevice:
    fds: list[int] = []
    step = "asking for the interface's version"
    try:
        fds.append(_open_node(os.path.join(system.dev, "vfio/vfio"), device))
        fds.append(_open_node(_group_path(device, system), device))
        _check_container(fds[0], system)
        step = "looking at its group"
        status = bytearray(_STATUS.pack(_STATUS.size, 0))
        system.ioctl(fds[1], GROUP_GET_STATUS, status)
        if not _STATUS.unpack(status)[1] & GROUP_VIABLE:
            raise _not_viable(device, system)
        step = "putting its group into a container"
        system.ioctl(fds[1], GROUP_SET_CONTAINER, struct.pack("=i", fds[0]))
        step = "choosing the IOMMU's type 1"
        system.ioctl(fds[0], SET_IOMMU, TYPE1V2_IOMMU)
        step = "opening it"
        name = bytearray(device.address.encode("ascii") + b"\0")
        fds.insert(1, system.ioctl(fds[1], GROUP_GET_DEVICE_FD, name))
        return VfioDevice(device.address, False, tuple(fds))
    except OSError as error:
        _close_all(fds)
        raise _explain(device, step, error, system) from error
    except BaseException:
        _close_all(fds)
        raise


def _group_path(device: PciDevice, system: System) -> str:
    return os.path.join(system.dev, "vfio", device.group)


def _check_container(container: int, system: System) -> None:
    found = system.ioctl(container, GET_API_VERSION)
    if found != API_VERSION:
        raise Unavailable("VFIO", None, f"has version {found} of its interface, not {API_VERSION}")
    if not system.ioctl(container, CHECK_EXTENSION, TYPE1V2_IOMMU):
        raise Unavailable(
            "VFIO", None, "does not offer the IOMMU interface \"type 1, version 2\"",
            "Load its module: modprobe vfio_iommu_type1",
        )  # fmt: skip


def _open_node(path: str, device: PciDevice) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(
            "VFIO", path, f"is missing, which opens adapter {device.address}",
            f"Load the module and bind the adapter (root): modprobe vfio-pci; uswitch-uplink bind"
            f" {device.address}",
        ) from None  # fmt: skip
    except PermissionError:
        raise _no_permission(path, device) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(device, path) from None
        raise Unavailable("VFIO", path, f"cannot be opened: {error.strerror}") from error


def _no_permission(path: str, device: PciDevice) -> Forbidden:
    found = os.stat(path)
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return Forbidden(
        "VFIO", path, f"belongs to user {found.st_uid} and group {found.st_gid} with mode"
        f" {stat.S_IMODE(found.st_mode):04o}, and opens IOMMU group {device.group} with adapter"
        f" {device.address}; uswitchd runs as user {user}",
        f"Let uswitch-uplink give it away and write the udev rule (root): uswitch-uplink bind"
        f" {device.address}; and see that user {user} is a member of the group it names.",
    )  # fmt: skip


def _in_use(device: PciDevice, where: str) -> Busy:
    return Busy(
        "adapter", device.address, f"another process uses it, or its IOMMU group {device.group}",
        f"See who has it (root): fuser -v {where}; and stop that process.",
    )  # fmt: skip


def _not_viable(device: PciDevice, system: System) -> Conflict:
    others = [
        f"{one.address} ({one.driver or 'no driver'})"
        for one in pci.read_group(device.group, system.sysfs)
        if one.address != device.address
    ]
    guilty = [
        one.address for one in pci.read_group(device.group, system.sysfs) if not one.harmless
    ]
    return Conflict(
        "adapter", device.address, f"shares IOMMU group {device.group} with devices that the kernel"
        f" drives, so it cannot be given away alone: {', '.join(others) or 'none that we can see'}",
        f"Bind them to vfio-pci as well, if the host can do without them ({', '.join(guilty)}); or"
        " put the adapter into another slot; or use AF_XDP: --ifname",
    )  # fmt: skip


def _explain(device: PciDevice, step: str, error: OSError, system: System) -> USwitchError:
    if error.errno == errno.EBUSY:
        return _in_use(device, _group_path(device, system))
    if error.errno == errno.EPERM:
        return Forbidden(
            "adapter", device.address, f"the kernel forbids {step}: the host cannot remap"
            " interrupts, so an adapter could forge those of other devices",
            "Enable interrupt remapping in the firmware (x2APIC, VT-d); or use AF_XDP: --ifname",
        )  # fmt: skip
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return Unavailable(
            "adapter", device.address, f"it went away while {step}", "Is it being unplugged?"
        )
    return Unavailable(
        "adapter", device.address, f"{step} failed: {error.strerror}", "The kernel log may say why."
    )


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
