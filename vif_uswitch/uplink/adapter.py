# SPDX-License-Identifier: Apache-2.0
"""A PCI device as sysfs shows it, for those that list adapters and decide about them.

Everything is read anew each time: devices and drivers come and go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vif_uswitch.exceptions import NotFound
from vif_uswitch.uplink.host import Host, sysfs

CLASS_NETWORK = 0x02  # PCI Code and ID Assignment Specification, 1.1: base class


@dataclass(frozen=True, slots=True)
class Device:
    """What concerns the switch of a PCI device."""

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


def read_device(host: Host, address: str) -> Device:
    """``address`` in normal form; NotFound if there is no such device."""
    if not host.path(sysfs(address)).is_dir():
        raise NotFound(
            "PCI device", address, "does not exist",
            "'uswitch-uplink list' shows the adapters of this host.",
        )  # fmt: skip

    def number(name: str, base: int) -> int:
        try:
            return int(host.text(sysfs(address, name)), base)
        except ValueError:
            return 0

    return Device(
        address=address,
        vendor=number("vendor", 16),
        device=number("device", 16),
        pci_class=number("class", 16),
        driver=host.driver(address),
        group=host.link(sysfs(address, "iommu_group")),
        interfaces=tuple(host.interfaces(address)),
        n_vfs=number("sriov_numvfs", 10),
        is_vf=bool(host.link(sysfs(address, "physfn"))),
    )


def adapters(host: Host) -> list[Device]:
    """All network adapters."""
    return [device for device in _devices(host, "/sys/bus/pci/devices") if device.is_network]


def group_devices(host: Host, group: str) -> list[Device]:
    """All devices of an IOMMU group, none for ""."""
    return list(_devices(host, f"/sys/kernel/iommu_groups/{group}/devices")) if group else []


def _devices(host: Host, directory: str) -> Iterator[Device]:
    for name in host.names(directory):
        try:
            yield read_device(host, name)
        except NotFound:  # it went while we looked
            continue
