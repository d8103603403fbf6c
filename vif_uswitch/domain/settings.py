# SPDX-License-Identifier: Apache-2.0
"""What a port is told on the command line, as the domain's metadata say it.

The metadata are what the hook reads at the next start, so an interface made by
a command and one written by hand are the same to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vif_uswitch.domain import tree
from vif_uswitch.domain.tree import Element
from vif_uswitch.hooks import port_xml
from vif_uswitch.hooks.domain_xml import Allowed, DomainXml, PortSettings, TrunkRow

Json = dict[str, Any]
_PLAIN = frozenset(PortSettings._fields) - {"mac", "trunk", "guard"}


def from_changes(mac: str, changes: Json) -> PortSettings:
    """``changes``: members of the API's PortChanges, as the options of a command name them.

    Without a guard of its own, an interface has none: nothing is checked.
    """
    found: dict[str, Any] = {key: changes[key] for key in _PLAIN & set(changes)}
    found["trunk"] = tuple(TrunkRow(row["vid"], row["segment"]) for row in changes.get("trunk", ()))
    if changes.get("guard") is not None:
        found["guard"] = tuple(Allowed(pair["mac"].lower(), pair["ip"])
                               for pair in changes["guard"]["pairs"])  # fmt: skip
    return PortSettings(mac, **found)


def all_settings(domain: DomainXml) -> dict[str, PortSettings]:
    """Every entry there is; raises the InvalidInput of one that cannot be read.

    The whole element is written anew when one entry changes, and an entry that
    we cannot read would be lost.
    """
    for error in domain.refused.values():
        raise error
    return dict(domain.ports)


def ports_element(settings: Mapping[str, PortSettings], *, prefix: str = "") -> Element | None:
    """The element of the metadata; None if there is nothing to say.

    ``prefix``: "" for libvirt's call that sets metadata, which puts the
    namespace in by itself.
    """
    if not settings:
        return None
    before = f"{prefix}:" if prefix else ""
    entries = []
    for one in settings.values():
        inner = [tree.make(before + tag, attributes) for tag, attributes in port_xml.children(one)]
        entries.append(tree.make(f"{before}port", port_xml.attributes(one), *inner))
    if not prefix:
        return tree.make("ports", {}, *entries)
    return tree.make(f"{prefix}:ports", {f"xmlns:{prefix}": port_xml.NAMESPACE}, *entries,
                     space=port_xml.NAMESPACE)  # fmt: skip


def ports_text(settings: Mapping[str, PortSettings]) -> str | None:
    """The same as libvirt's call takes it."""
    element = ports_element(settings)
    return None if element is None else tree.written(element)


def put(domain: Element, settings: Mapping[str, PortSettings]) -> None:
    """Write the element into a domain's tree, at the place of the one that is there."""
    new = ports_element(settings, prefix=port_xml.PREFIX)
    metadata = tree.child(domain, "metadata")
    if metadata is None:
        if new is None:
            return
        metadata = tree.make("metadata")
        before = tree.child(domain, "memory")
        domain.insertBefore(metadata, before)
    old = next((one for one in tree.children(metadata) if _ours(one)), None)
    if old is not None and new is not None:
        metadata.replaceChild(new, old)
    elif old is not None:
        metadata.removeChild(old)
    elif new is not None:
        metadata.appendChild(new)


def _ours(element: Element) -> bool:
    return element.namespaceURI == port_xml.NAMESPACE and element.localName == "ports"
