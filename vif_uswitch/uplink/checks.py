# SPDX-License-Identifier: Apache-2.0
"""Whether an adapter may be taken from the kernel, and if not, every reason why.

Decides only; reads through ``Host``.  What cannot be found out (``ip`` fails)
is an error and never a yes.  The part that has root's rights runs this file as
a program without any, and does as it says (``RootHost.check``).
"""

from __future__ import annotations

import grp
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from vif_uswitch.cmd.output import plain
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound, USwitchError
from vif_uswitch.uplink.adapter import Device, group_devices, read_device
from vif_uswitch.uplink.devices import switch_driver
from vif_uswitch.uplink.host import CONFIG, GROUP, VFIO, Host

CLASS_PCI_BRIDGE = 0x0604  # base class and subclass; VFIO accepts bridges of a group where they are
# (module, parameter): set, the IOMMU or its interrupt remapping protects nothing.
UNSAFE = (
    ("vfio", "enable_unsafe_noiommu_mode", "a device without an IOMMU could write to all memory"),
    ("vfio_iommu_type1", "allow_unsafe_interrupts", "a device could forge interrupts of others"),
    ("iommufd", "allow_unsafe_interrupts", "a device could forge interrupts of others"),
)
AF_XDP = "Leave it to the kernel and use AF_XDP (uswitchctl uplink add --ifname)."


@dataclass(frozen=True, slots=True)
class Refusal:
    why: str
    todo: str


@dataclass(slots=True)
class Network:
    """Addresses and default routes of each interface in this network namespace."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    defaults: dict[str, list[str]] = field(default_factory=dict)


def read_network(host: Host) -> Network:
    network = Network()
    for link in _ask(host, "ip", "-j", "address", "show"):
        network.addresses[str(link.get("ifname"))] = [
            f"{one.get('local')}/{one.get('prefixlen')}"
            for one in link.get("addr_info", ())
            if one.get("scope") != "link"  # every interface that is up has one of these
        ]
    for family, name in (("-4", "IPv4"), ("-6", "IPv6")):
        for route in _ask(host, "ip", "-j", family, "route", "show", "table", "all"):
            if route.get("dst") in ("default", "0.0.0.0/0", "::/0"):
                for hop in (route, *route.get("nexthops", ())):
                    network.defaults.setdefault(str(hop.get("dev")), []).append(name)
    return network


def _ask(host: Host, *command: str) -> list[dict[str, Any]]:
    text = host.run(command)
    try:
        answer = json.loads(text or "[]")
    except ValueError:
        answer = None
    if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
        raise USwitchError("command", " ".join(command), "answers no list in JSON",
                           "iproute2 is too old or broken; nothing was changed.")  # fmt: skip
    return answer


def refusals(host: Host, device: Device, network: Network, together: Collection[str] = ()
             ) -> list[Refusal]:  # fmt: skip
    """Why not; the most serious first, none if it may be taken.  ``together``: taken in one go."""
    ours = {*host.configured(), *together, device.address}
    return [
        *used_by_ip(host, device.interfaces, network),
        *_wrong_kind(device),
        *_in_use_otherwise(host, device),
        *_unconfined(host, device),
        *_group_is_shared(host, device, ours),
    ]


def _wrong_kind(device: Device) -> list[Refusal]:
    if device.is_vf:
        return [Refusal(f"it is a virtual function ({device.ids}), and the switch has no driver"
                        " for those", "Take the whole adapter, or use AF_XDP on the interface.")]
    if not switch_driver(device.vendor, device.device):
        return [Refusal(f"the switch has no driver for {device.ids} (there are igb, ixgbe and"
                        " virtio_pci)", AF_XDP)]
    return []


def used_by_ip(host: Host, interfaces: Collection[str], network: Network) -> list[Refusal]:
    """The way into this host stays; what a bridge or bond carries, its members carry."""
    found = []
    for name in interfaces:
        above = _uppers(host, name)
        for one in (name, *above):
            route = " and ".join(sorted(set(network.defaults.get(one, ()))))
            via = name if one == name else f"{name} (through {one})"
            if route:
                found.append(Refusal(
                    f"{via} carries the default route ({route})",
                    "This host would lose its network. Move the route to another adapter first."))
            if network.addresses.get(one):
                found.append(Refusal(
                    f"{via} has the address {', '.join(network.addresses[one])}",
                    "You may be connected through it. Move the address to another adapter, or"
                    f" delete it: ip address flush dev {one}"))
        if above:
            found.append(Refusal(f"{name} is part of {', '.join(above)}",
                                 "Take it out of that bridge, bond or VLAN first."))
    return found


def _uppers(host: Host, interface: str) -> list[str]:
    """Interfaces that are made of this one, directly or not."""
    found: list[str] = []
    todo = [interface]
    while todo:
        for entry in host.names(f"/sys/class/net/{todo.pop()}"):
            upper = entry.removeprefix("upper_")
            if upper != entry and upper not in found:
                found.append(upper)
                todo.append(upper)
    return found


def _in_use_otherwise(host: Host, device: Device) -> list[Refusal]:
    found = []
    if device.driver == VFIO:
        if device.address not in host.configured():
            found.append(Refusal("it is on vfio-pci already, but not by uswitch-uplink: a virtual"
                                 " machine or another program may own it",
                                 "Take it back with the tool that gave it away."))
    elif device.driver and not device.interfaces:
        found.append(Refusal(f"{device.driver} drives it, but it has no interface here: another"
                             " network namespace or program may use it",
                             "Look for it: ip netns; or take it from that driver yourself."))
    if device.n_vfs:
        found.append(Refusal(f"it has {device.n_vfs} virtual functions, which would vanish",
                             "Remove them first: echo 0 > /sys/bus/pci/devices/"
                             f"{device.address}/sriov_numvfs"))
    return found


def _unconfined(host: Host, device: Device) -> list[Refusal]:
    if not device.group:
        return [Refusal("no IOMMU stands between it and the host's memory",
                        "Enable it in the firmware (VT-d, AMD-Vi) and on the kernel's command line"
                        f" (intel_iommu=on). Or: {AF_XDP}")]
    return [
        Refusal(f"{parameter} of module {module} is set: {danger}",
                f"Unset it: echo N > /sys/module/{module}/parameters/{parameter}, and remove it"
                " from /etc/modprobe.d and the kernel's command line.")
        for module, parameter, danger in UNSAFE
        if host.text(f"/sys/module/{module}/parameters/{parameter}") in ("Y", "1")
    ]


def _group_is_shared(host: Host, device: Device, ours: Collection[str]) -> list[Refusal]:
    """Who opens a group reaches all of its devices: they must be ours, bridges, or nobody's."""
    foreign = [
        one for one in group_devices(host, device.group)
        if one.driver and one.pci_class >> 8 != CLASS_PCI_BRIDGE and one.address not in ours
    ]
    if not foreign:
        return []
    listed = ", ".join(f"{one.address} ({one.ids}, {one.driver})" for one in foreign)
    adapters = all(switch_driver(one.vendor, one.device) for one in foreign)
    return [Refusal(
        f"IOMMU group {device.group} can only be given away whole, and others in it are in use:"
        f" {listed}",
        "Take all of them together: uswitch-uplink bind "
        + " ".join(sorted({device.address, *(one.address for one in foreign)}))
        if adapters else f"Put it into a slot with a group of its own. Or: {AF_XDP}")]


def check_bind(host: Host, addresses: Sequence[str]) -> None:
    """Raises the first reason why these may not be taken together."""
    devices = [read_device(host, address) for address in addresses]
    _check_group_exists()
    network = read_network(host)
    for device in devices:
        if not device.is_network:
            raise InvalidInput(
                "PCI device", device.address, f"is no network adapter (class"
                f" {device.pci_class:06x})", "'uswitch-uplink list' shows those of this host.",
            )  # fmt: skip
        _check_remembered(host, device)
        for refusal in refusals(host, device, network, addresses):
            raise Conflict("adapter", device.address, refusal.why, refusal.todo)


def _check_group_exists() -> None:
    try:
        grp.getgrnam(GROUP)
    except KeyError:
        raise NotFound(
            "group", GROUP, "does not exist, and nobody else shall open the adapter",
            f"Make it, and let the daemon's user be in it: groupadd --system {GROUP}",
        ) from None  # fmt: skip


def _check_remembered(host: Host, device: Device) -> None:
    """Cards that changed their slots: what was given away is not there, but another one."""
    path = f"{CONFIG}/{device.address}.conf"
    ids = f"vendor = {device.vendor:#06x}", f"device = {device.device:#06x}"
    known = [line for line in host.text(path).splitlines() if not line.startswith("#")]
    if device.address in host.configured() and tuple(known) != ids:
        raise Conflict(
            "adapter", device.address, f"is another one than was given to the switch ({device.ids}"
            " now)", f"See {path}; then unbind it, and bind what you mean.",
        )  # fmt: skip


def check_unbind(host: Host, addresses: Sequence[str]) -> None:
    """Raises why these are not ours to give back."""
    for address in addresses:
        if address not in host.configured() and read_device(host, address).driver == VFIO:
            raise Conflict("adapter", address, f"is on {VFIO}, but not by uswitch-uplink",
                           "Take it back with the tool that gave it away.")  # fmt: skip


CHECKS = {"bind": check_bind, "unbind": check_unbind}


def answer(host: Host, command: str, addresses: Sequence[str]) -> str:
    """What ``RootHost.check`` reads: "yes", or exit status and reason."""
    try:
        CHECKS[command](host, addresses)
    except USwitchError as error:
        return f"{error.exit_status} {plain(str(error))}"
    except OSError as error:
        return f"1 {plain(str(error))}"
    return "yes"


if __name__ == "__main__":
    print(answer(Host(), sys.argv[1], sys.argv[2:]))
