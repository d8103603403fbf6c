# SPDX-License-Identifier: Apache-2.0
"""What sysfs tells about a PCI device: who it is, who drives it, which IOMMU group it is in.

Reading only, and everything is read anew each time: drivers and devices come
and go.  Sysfs is the kernel's, but a file may vanish while it is read; that
counts as absent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vif_uswitch.exceptions import NotFound

CLASS_NETWORK = 0x02  # PCI Code and ID Assignment Specification, 1.1: base class of the device
CLASS_BRIDGE = 0x06


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device as sysfs shows it."""

    address: str  # 0000:05:00.0
    vendor: int
    device: int
    base_class: int
    driver: str  # of the kernel, "" if there is none
    group: str  # number of its IOMMU group, "" without an IOMMU
    cdev: str = ""  # name below /dev/vfio/devices, "" if vfio does not have it or is too old
    ifnames: tuple[str, ...] = ()  # network devices that a kernel driver made of it

    @property
    def is_network(self) -> bool:
        return self.base_class == CLASS_NETWORK

    @property
    def on_vfio(self) -> bool:
        """vfio-pci, or a variant driver of a vendor such as mlx5_vfio_pci."""
        return "vfio" in self.driver

    @property
    def ids(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"

    @property
    def harmless(self) -> bool:
        """Whether a group that has it can be used: its driver does no DMA of its own."""
        return self.on_vfio or self.driver in ("", "pci-stub", "pcieport")


def read_device(address: str, sysfs: str) -> PciDevice:
    """The device at ``address`` (normal form), or NotFound."""
    path = Path(sysfs, "bus/pci/devices", address)
    if not path.is_dir():
        raise NotFound(
            "PCI device", address, "does not exist",
            "'uswitch-uplink list' shows the adapters of this host, 'lspci -D' all devices.",
        )  # fmt: skip
    return PciDevice(
        address=address,
        vendor=_number(path / "vendor"),
        device=_number(path / "device"),
        base_class=_number(path / "class") >> 16,
        driver=_target(path / "driver"),
        group=_target(path / "iommu_group"),
        cdev=next((name for name in _names(path / "vfio-dev") if name.startswith("vfio")), ""),
        ifnames=tuple(_names(path / "net")),
    )


def ids(address: str, sysfs: str = "/sys") -> str:
    """Vendor and device, as lspci -n shows them; "" if there is no such device."""
    with suppress(NotFound):
        return read_device(address, sysfs).ids
    return ""


def read_group(group: str, sysfs: str) -> list[PciDevice]:
    """All devices of an IOMMU group, by address."""
    found = []
    for address in _names(Path(sysfs, "kernel/iommu_groups", group, "devices")):
        with suppress(NotFound):
            found.append(read_device(address, sysfs))
    return found


def group_type(group: str, sysfs: str) -> str:
    """What the group's name file says: "vfio-noiommu" for a group without an IOMMU behind it."""
    return _text(Path(sysfs, "kernel/iommu_groups", group, "name"))


def parameter_is_on(module: str, parameter: str, sysfs: str) -> bool:
    return _text(Path(sysfs, "module", module, "parameters", parameter)) in ("Y", "1")


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    try:
        return int(_text(path), 16)
    except ValueError:
        return 0


def _target(link: Path) -> str:
    """Last part of a symbolic link, "" if there is none."""
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return ""


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
