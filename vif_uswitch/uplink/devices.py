# SPDX-License-Identifier: Apache-2.0
"""Which adapters the dataplane has a driver for: PCI vendor and device -> name of the driver.

The C drivers have the tables that count (``static const struct nic_id`` in
``dataplane/nic/igb.c``, ``ixgbe.c``, ``virtio_pci.c``); the helper must know
them before it takes an adapter away from the kernel.  A new id is added here
and there; a test compares the two.
"""

from __future__ import annotations

INTEL = 0x8086
REDHAT = 0x1AF4  # virtio 1.2, 4.1.2: vendor of all virtio devices

_DRIVERS: dict[tuple[int, str], tuple[int, ...]] = {
    (INTEL, "igb"): (
        0x10C9, 0x10E6, 0x10E7, 0x10E8, 0x150A, 0x150D, 0x1518, 0x1526,  # 82576
        0x1521, 0x1522, 0x1523, 0x1524,  # I350
        0x1533, 0x1536, 0x1537, 0x1538, 0x1539, 0x157B, 0x157C,  # I210, I211
    ),
    (INTEL, "ixgbe"): (
        0x10FB, 0x1507, 0x1529, 0x154A, 0x154D, 0x1557,  # 82599 with SFP+, X520
        0x10F7, 0x10F8, 0x10F9, 0x10FC, 0x1514, 0x1517, 0x152A,  # 82599, backplane
        0x1528, 0x1560, 0x1563, 0x15D1,  # X540, X550
    ),
    (REDHAT, "virtio_pci"): (0x1000, 0x1041),
}  # fmt: skip

_BY_ID = {
    (vendor, device): driver
    for (vendor, driver), devices in _DRIVERS.items()
    for device in devices
}


def switch_driver(vendor: int, device: int) -> str:
    """The dataplane's driver for this adapter, "" if it has none."""
    return _BY_ID.get((vendor, device), "")


def known() -> dict[tuple[int, int], str]:
    return dict(_BY_ID)
