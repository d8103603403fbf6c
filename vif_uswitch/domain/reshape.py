# SPDX-License-Identifier: Apache-2.0
"""An ``<interface>`` of another type made into one of ours, in place.

Its MAC address, PCI address and alias stay, so the guest sees the same device
at the same place.  What a vhost-user interface cannot have is either what
libvirt fills in by itself, which goes without a word, or somebody's intent (a
filter, a limit, a VLAN), which is ``lost`` and has to be agreed to.
"""

from __future__ import annotations

from dataclasses import dataclass

from vif_uswitch.domain import device, tree
from vif_uswitch.domain.tree import Element

KEPT = ("mac", "model", "driver", "boot", "rom", "acpi", "alias", "address")
DRIVER = ("queues", "rx_queue_size", "tx_queue_size", "iommu", "ats", "packed", "page_per_vq")
# How the host's kernel is used, or what libvirt chose for a run: nothing that anybody would miss.
DROPPED = ("source", "target", "tune", "coalesce", "script", "downscript", "backend", "guest",
           "mtu")  # fmt: skip
VIRTIO = "virtio"


@dataclass(frozen=True, slots=True)
class Reshaped:
    """``mtu``: what it had; our metadata carry it.  ``model``: the one that is no virtio, or ""."""

    mac: str
    mtu: int | None
    model: str
    lost: tuple[str, ...]


def reshape(interface: Element, path: str, mode: str) -> Reshaped:
    """Edits the element; its MAC address must be there."""
    lost = _lost(interface)
    size = tree.attribute(interface, "mtu", "size")
    model = tree.attribute(interface, "model", "type")
    mac = tree.child(interface, "mac")
    assert mac is not None
    for one in list(tree.children(interface)):
        if one.tagName not in KEPT:
            interface.removeChild(one)
    for name in list(interface.attributes.keys()):
        interface.removeAttribute(name)
    interface.setAttribute("type", "vhostuser")
    source = device.source(path, mode)
    tree.insert_after(interface, mac, source)
    _driver(interface)
    foreign = "" if model.startswith(VIRTIO) else model or "libvirt's default"
    if foreign:
        _virtio(interface, source)
    return Reshaped(
        mac=mac.getAttribute("address").lower(),
        mtu=int(size) if size.isascii() and size.isdecimal() and len(size) < 6 else None,
        model=foreign, lost=lost,
    )  # fmt: skip


def _lost(interface: Element) -> tuple[str, ...]:
    found = []
    for one in tree.children(interface):
        if one.tagName in KEPT or one.tagName in DROPPED:
            continue
        if one.tagName == "link" and one.getAttribute("state") != "down":
            continue
        if one.tagName == "port" and one.getAttribute("isolated") != "yes":
            continue
        words = [f" {name}='{value}'" for name, value in one.attributes.items()]
        found.append(f"<{one.tagName}{''.join(words)}>")
    if interface.getAttribute("trustGuestRxFilters") == "yes":
        found.append("trustGuestRxFilters='yes'")
    return tuple(found)


def _driver(interface: Element) -> None:
    driver = tree.child(interface, "driver")
    if driver is None:
        return
    for name in list(driver.attributes.keys()):
        if name not in DRIVER:
            driver.removeAttribute(name)
    if not driver.attributes.length and not driver.childNodes:
        interface.removeChild(driver)


def _virtio(interface: Element, source: Element) -> None:
    old = tree.child(interface, "model")
    if old is not None:
        old.setAttribute("type", VIRTIO)
    else:
        tree.insert_after(interface, source, tree.make("model", {"type": VIRTIO}))
