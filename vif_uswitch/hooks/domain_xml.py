# SPDX-License-Identifier: Apache-2.0
"""A libvirt domain as its XML says: its interfaces, and what they want of the switch.

``parse_domain()`` is the one door for XML; what comes out is checked for its
form and bounded.  ``settings_to_port()`` makes of it what ``port.ensure``
takes, ``with_paths()`` writes XML again and leaves what it does not change as
it was.  Used by the hook and by ``uswitchctl domain``, which has its own ways
to write (``vif_uswitch/domain/tree.py``).

The port of an interface is named after the domain's UUID and its MAC address:
both survive renaming, migration and another socket path.

Standard library only.  Functions without I/O; any thread.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks import port_xml, xml_tree
from vif_uswitch.hooks.port_xml import Allowed, PortSettings, TrunkRow, canonical_mac
from vif_uswitch.hooks.settings import HostSettings
from vif_uswitch.hooks.xml_tree import Element
from vif_uswitch.records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Allowed", "DomainXml", "HostSettings", "Interface", "PortSettings", "TrunkRow",
           "canonical_mac", "external_ids", "parse_domain", "port_name", "settings_to_port",
           "with_paths"]  # fmt: skip

INTERFACES_MAX = 1024
VHOST_USER = "vhostuser"
MODES = ("server", "client")
OWNER = "libvirt"
ASKED_AT = "asked-at"  # key of external_ids
ID_VALUE_MAX = 128  # of a value of external_ids
NOVA_METADATA = "{http://openstack.org/xmlns/libvirt/nova/"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_QUEUES = re.compile(r"[0-9]{1,4}")
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Interface(NamedTuple):
    """One ``<interface>``; "" and None: the XML does not say."""

    mac: str  # lower case
    path: str = ""  # of the vhost-user socket; absolute if it is ours
    mode: str = ""  # server: QEMU listens; client: QEMU connects
    alias: str = ""  # net0: running domains only
    target: str = ""  # name of a device, as virsh domiflist shows it
    model: str = ""
    queues: int | None = None
    number: int = 0  # among all interfaces of the domain, from 0
    type: str = VHOST_USER  # as in the XML: network, bridge, ...
    source: str = ""  # of the other types: the network's or the bridge's name


class DomainXml(NamedTuple):
    """A domain; ``interfaces`` are those of all types, in the order of the XML."""

    name: str
    uuid: str  # lower case, with dashes
    interfaces: tuple[Interface, ...] = ()
    shared_memory: bool = False  # as libvirt wants it of a domain with vhost-user interfaces
    ports: Mapping[str, PortSettings] = NOTHING  # by MAC
    refused: Mapping[str, InvalidInput] = NOTHING  # by MAC; "": concerns all
    nova: bool = False  # Nova made it: its ports are Nova's and Neutron's

    @property
    def vhost_users(self) -> tuple[Interface, ...]:
        """The interfaces that a switch in user space could have."""
        return tuple(each for each in self.interfaces if each.type == VHOST_USER)

    def settings(self, mac: str) -> PortSettings | None:
        """What the metadata say about that interface; raises InvalidInput if they are wrong."""
        for key in (mac, ""):
            if key in self.refused:
                raise self.refused[key]
        return self.ports.get(mac)


# ---- reading ----


def parse_domain(text: bytes | str) -> DomainXml:
    """The domain; raises InvalidInput for XML that is none.

    What is wrong in the metadata is told apart by interface, see ``refused``.
    """
    root = xml_tree.parse(text)
    if root.tag != "domain":
        raise InvalidInput("domain XML", None, f"begins with <{root.tag}>, not <domain>")
    uuid = _text(root, "uuid").strip().lower()
    if not _UUID.fullmatch(uuid):
        raise InvalidInput("uuid of the domain", uuid, "is no UUID", "Use 'virsh dumpxml'.")
    found = root.findall("devices", "interface")
    if len(found) > INTERFACES_MAX:
        raise InvalidInput("domain XML", None, f"has more than {INTERFACES_MAX} interfaces")
    interfaces = tuple(_interface(element, number) for number, element in enumerate(found))
    metadata = root.find("metadata")
    ports, refused = port_xml.read_ports(metadata)
    return DomainXml(
        name=_text(root, "name"),
        uuid=uuid,
        interfaces=interfaces,
        shared_memory=_shared_memory(root),
        ports=ports,
        refused=refused,
        nova=metadata is not None and any(each.tag.startswith(NOVA_METADATA) for each in metadata),
    )


def _text(root: Element, tag: str) -> str:
    found = root.find(tag)
    return "" if found is None else found.text


def _interface(element: Element, number: int) -> Interface:
    def value(child: str, attribute: str) -> str:
        found = element.find(child)
        return "" if found is None else found.get(attribute) or ""

    kind = element.get("type") or ""
    queues = value("driver", "queues")
    mac = value("mac", "address")
    return Interface(
        # libvirt gives one that has none when the domain is defined: not before.
        mac=canonical_mac(mac, "mac of an interface") if mac else "",
        path=value("source", "path") if kind == VHOST_USER else "",
        mode=value("source", "mode") if kind == VHOST_USER else "",
        alias=value("alias", "name"),
        target=value("target", "dev"),
        model=value("model", "type"),
        queues=int(queues) if _QUEUES.fullmatch(queues) else None,
        number=number,
        type=kind,
        source=value("source", kind) if kind not in ("", VHOST_USER) else "",
    )


def _shared_memory(root: Element) -> bool:
    """libvirt's rule: all cells are shared, by their own word or by that of the whole."""
    access = root.find("memoryBacking", "access")
    whole = "" if access is None else access.get("mode") or ""
    cells = root.findall("cpu", "numa", "cell")
    return all((cell.get("memAccess") or whole) == "shared" for cell in cells) if cells else (
        whole == "shared")  # fmt: skip


# ---- what uswitchd is asked for ----


def port_name(domain: DomainXml, mac: str) -> str:
    """At most 64 characters, as names of ports are: a UUID, a dash, twelve hexadecimal digits."""
    return f"{domain.uuid}-{mac.replace(':', '')}"


def external_ids(domain: DomainXml, mac: str, uri: str = "") -> dict[str, str]:
    """Whose port it is; ``uri`` is that of libvirt's driver, "" if not known.

    When the hook asks for it, ``ASKED_AT`` tells at how many seconds after the host's start: a
    guest that has ended takes no port with it that was asked for since, for the next start.
    """
    plain = "".join(c if c.isprintable() else "?" for c in domain.name)[:ID_VALUE_MAX]
    known = {"owner": OWNER, "domain": plain, "domain-uuid": domain.uuid, "mac": mac, "uri": uri,
             ASKED_AT: "0"}
    return {key: value for key, value in known.items() if value}


def settings_to_port(
    domain: DomainXml,
    interface: Interface,
    settings: PortSettings | None,
    defaults: HostSettings,
    uri: str = "",
) -> dict[str, Any]:
    """The port of a vhost-user interface, whole, as ``port.ensure`` takes it.

    Every member that the metadata can set is there, so that what was taken
    out of them goes back to its default.  Raises InvalidInput.
    """
    if not interface.mac or not interface.path or interface.mode not in MODES:
        raise InvalidInput(
            "interface", interface.mac or f"number {interface.number}",
            "has no MAC address, no socket path or no mode of its socket",
            "Give it <source type='unix' path='...' mode='server'/>.",
        )  # fmt: skip
    wanted = settings or PortSettings(interface.mac)
    segment = wanted.segment
    if segment is None and not wanted.trunk:
        segment = defaults.default_segment
    port: dict[str, Any] = {
        "name": port_name(domain, interface.mac),
        "type": "vhost-user",
        "path": interface.path,
        "mode": interface.mode,
        "queues": interface.queues,
        "segment": segment or None,
        "trunk": [{"vid": row.vid, "segment": row.segment} for row in wanted.trunk],
        "admin_up": wanted.admin_up is not False,
        "description": wanted.description or "",
        "external_ids": external_ids(domain, interface.mac, uri),
        "guard": None,
    }
    for member in port_xml.NUMBERS:
        port[member] = getattr(wanted, member)
    if wanted.guard is not None:
        port["guard"] = {"pairs": [{"mac": pair.mac, "ip": pair.ip} for pair in wanted.guard]}
    return port


# ---- writing ----


def with_paths(text: bytes | str, paths: Mapping[str, str]) -> str:
    """The XML with other socket paths; ``paths``: by the MAC address of a vhost-user interface.

    Raises InvalidInput for XML that parse_domain() refuses.
    """
    parse_domain(text)
    from xml.dom import minidom  # keeps prefixes and the order of attributes

    root: Any = minidom.parseString(text).documentElement
    for interface in root.getElementsByTagName("interface"):
        if interface.getAttribute("type") != VHOST_USER:
            continue
        mac, source = _child(interface, "mac"), _child(interface, "source")
        path = paths.get(mac.getAttribute("address").lower()) if mac is not None else None
        if path is not None and source is not None:
            source.setAttribute("path", path)
    return str(root.toxml())


def _child(parent: Any, name: str) -> Any:
    """The first child element of that name, or None."""
    for node in parent.childNodes:
        if node.nodeType == node.ELEMENT_NODE and node.tagName == name:
            return node
    return None
