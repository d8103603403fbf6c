# SPDX-License-Identifier: Apache-2.0
"""``uswitch-uplink list``: every network adapter of the host, as a table or JSON.

Works for any user and changes nothing.  Names come from udev's hardware
database, through pyudev; where that is missing, the ids must do.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from vif_uswitch.cmd import output
from vif_uswitch.cmd.output import Column
from vif_uswitch.uplink.adapter import Device, adapters, group_devices
from vif_uswitch.uplink.checks import Network, read_network, refusals
from vif_uswitch.uplink.devices import switch_driver
from vif_uswitch.uplink.host import VFIO, Host

Row = dict[str, Any]

COLUMNS = (
    Column("address", "Address"),
    Column("ids", "Ids"),
    Column("model", "Model"),
    Column("kernel_driver", "Driver"),
    Column("interface", "Interface"),
    Column("link", "Link"),
    Column("iommu_group", "Group", right=True),
    Column("switch_driver", "Switch"),
    Column("state", "State"),
)


def udev_names() -> dict[str, tuple[str, str]]:
    """PCI address -> vendor and model of udev's hardware database; without udev there are none."""
    try:
        import pyudev

        context = pyudev.Context()
    except ImportError:
        return {}
    return {
        device.sys_name: (device.properties.get("ID_VENDOR_FROM_DATABASE", ""),
                          device.properties.get("ID_MODEL_FROM_DATABASE", ""))
        for device in context.list_devices(subsystem="pci")
    }  # fmt: skip


def rows(host: Host) -> list[Row]:
    network, named = read_network(host), udev_names()
    return [_row(host, device, network, named.get(device.address, ("", "")))
            for device in adapters(host)]  # fmt: skip


def _row(host: Host, device: Device, network: Network, name: tuple[str, str]) -> Row:
    why_not = refusals(host, device, network)
    bound = device.driver == VFIO and device.address in host.configured()
    return {
        "address": device.address,
        "vendor_id": f"{device.vendor:04x}",
        "device_id": f"{device.device:04x}",
        "vendor": name[0],
        "model": name[1],
        "kernel_driver": device.driver,
        "interfaces": [_interface(host, one, network) for one in device.interfaces],
        "iommu_group": int(device.group) if device.group.isdigit() else None,
        "group_devices": [
            {"address": one.address, "ids": one.ids, "kernel_driver": one.driver}
            for one in group_devices(host, device.group)
        ],
        "switch_driver": switch_driver(device.vendor, device.device),
        "state": "bound" if bound else "refused" if why_not else "free",
        "why_not": [{"why": one.why, "todo": one.todo} for one in why_not],
    }


def _interface(host: Host, name: str, network: Network) -> Row:
    where = f"/sys/class/net/{name}"
    speed: int | None = None
    with suppress(ValueError):  # the kernel says nothing or -1 while there is no link
        speed = int(host.text(f"{where}/speed"))
    return {
        "name": name,
        "mac": host.text(f"{where}/address"),
        "link": host.text(f"{where}/operstate") or "unknown",
        "speed_mbps": speed if speed is not None and speed > 0 else None,
        "addresses": network.addresses.get(name, []),
    }


def as_json(found: list[Row]) -> str:
    return json.dumps(found, indent=2)


def as_table(found: list[Row]) -> str:
    """The table, and below it the reasons: a line for each, what to do about it indented."""
    if not found:
        return "(no PCI network adapters)"
    lines = [output.table([_short(row) for row in found], COLUMNS)]
    for row in found:
        for one in row["why_not"]:
            lines += ["", f"{row['address']}: {output.plain(one['why'])}"]
            lines.append(f"  {output.plain(one['todo'])}")
    return "\n".join(lines)


def _short(row: Row) -> Row:
    links = [
        f"{one['link']} {one['speed_mbps']}M" if one["speed_mbps"] else one["link"]
        for one in row["interfaces"]
    ]
    return {
        **row,
        "ids": f"{row['vendor_id']}:{row['device_id']}",
        "interface": [one["name"] for one in row["interfaces"]],
        "link": ", ".join(links),
    }
