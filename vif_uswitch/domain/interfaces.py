# SPDX-License-Identifier: Apache-2.0
"""A domain's interfaces as ``virsh domiflist`` shows them, each beside its port of the switch.

Functions of the domain's XML and of what ``port.list`` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import getrandbits
from typing import Any

from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound
from vif_uswitch.hooks.domain_xml import DomainXml, Interface, canonical_mac, port_name
from vif_uswitch.hooks.plan import real

Json = dict[str, Any]
PREFIX = "52:54:00"  # QEMU's and libvirt's range for guests


def by_path(ports: Sequence[Json]) -> dict[str, Json]:
    """vhost-user ports by their socket, as uswitchd writes it: links followed; see port_at()."""
    return {port["path"]: port for port in ports if port["path"]}


def port_at(ports: Mapping[str, Json], path: str) -> Json | None:
    """The port with that socket; ``path`` as the XML has it, which may go through a link."""
    return ports.get(real(path)) if path else None


def find(domain: DomainXml, word: str) -> Interface:
    """The interface that a user means: by MAC address, device, alias, socket, or port."""
    low = word.lower()
    hits = [
        one for one in domain.interfaces
        if word and (low == one.mac or word in (one.target, one.alias, one.path)
                     or low == port_name(domain, one.mac))
    ]  # fmt: skip
    if not hits:
        macs = ", ".join(one.mac for one in domain.interfaces) or "none"
        raise NotFound("interface", word, f"domain {domain.name} has none with this MAC address,"
                       " device, alias or socket", f"It has: {macs}.")  # fmt: skip
    if len(hits) > 1:
        raise Conflict("interface", word, f"domain {domain.name} has {len(hits)} of that name",
                       "Say which by its MAC address: see 'uswitchctl domain list'.")  # fmt: skip
    return hits[0]


def station(text: str) -> str:
    """A MAC address that an interface may have, in lower case."""
    mac = canonical_mac(text, "MAC address")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidInput("MAC address", mac, "is not the address of one station")
    return mac


def new_mac(taken: Collection[str]) -> str:
    """One that nobody here has.  2^24 of them and few guests: the loop ends."""
    while True:
        low = getrandbits(24)
        mac = f"{PREFIX}:{low >> 16:02x}:{low >> 8 & 255:02x}:{low & 255:02x}"
        if mac not in taken:
            return mac


def of_ports(name: str, uuid: str, ports: Mapping[str, Json]) -> DomainXml:
    """A domain as its ports know it: libvirt tells nothing while its QEMU does not answer."""
    mine = [port for port in ports.values() if port["external_ids"].get("domain-uuid") == uuid]
    found = [Interface(port["external_ids"].get("mac", ""), path=port["path"], mode=port["mode"])
             for port in mine]  # fmt: skip
    return DomainXml(name, uuid, tuple(found))


def rows(domain: DomainXml, ports: Mapping[str, Json]) -> list[Json]:
    """The rows of ``uswitchctl domain list``.  An interface of another type has no port."""
    return [_row(domain, one, ports) for one in domain.interfaces]


def _row(domain: DomainXml, one: Interface, ports: Mapping[str, Json]) -> Json:
    row: Json = {
        "domain": domain.name, "interface": one.target, "type": one.type,
        "source": one.path or one.source, "model": one.model, "mac": one.mac, "mode": one.mode,
        "alias": one.alias, "queues": one.queues, "port": None, "link": None, "segment": None,
        "trunk": [], "reason": None,
    }  # fmt: skip
    port = port_at(ports, one.path)
    if port is not None:
        row |= {key: port[key] for key in ("link", "segment", "trunk", "reason")}
        row["port"] = port["name"]
    elif one.path:
        row["link"] = "no port"
    return row
