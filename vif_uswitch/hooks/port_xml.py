# SPDX-License-Identifier: Apache-2.0
"""The element ``<uswitch:port>`` in a domain's metadata: what one interface wants of the switch.

    <uswitch:ports xmlns:uswitch="urn:vif-uswitch:domain:1">
      <uswitch:port mac="52:54:00:aa:bb:01" segment="blue" max-kbps="100000">
        <uswitch:trunk vid="100" segment="red"/>
        <uswitch:allow mac="52:54:00:aa:bb:01" ip="10.0.0.5/32"/>
      </uswitch:port>
    </uswitch:ports>

Attributes are the members of ``PortChanges`` of the API with a dash for an
underscore.  What is read here is the form alone (which elements, which
attributes, which of them numbers); what a value may be, uswitchd decides, as
for everybody.  ``etc/libvirt/uswitch-domain.rng`` says both, for editors.

Standard library only.  Functions without I/O; any thread.
"""

from __future__ import annotations

import re

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks.xml_tree import Element
from vif_uswitch.records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

NAMESPACE = "urn:vif-uswitch:domain:1"
PREFIX = "uswitch"
PORTS = f"{{{NAMESPACE}}}ports"
PORT = f"{{{NAMESPACE}}}port"
TRUNK = f"{{{NAMESPACE}}}trunk"
ALLOW = f"{{{NAMESPACE}}}allow"
GUARD = f"{{{NAMESPACE}}}guard"

# As uswitchd's own limits: more can be no port of it.
PORTS_MAX = 1024
TRUNK_MAX = 512
ALLOW_MAX = 256

NUMBERS = ("mtu", "flood_rate", "flood_burst", "fdb_quota", "max_kbps", "max_burst_kbps",
           "max_kpps", "max_burst_kpps")  # fmt: skip
TEXTS = ("segment", "description")
_ADMIN = {"up": True, "down": False}
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_NUMBER = re.compile(r"[0-9]{1,10}")


class TrunkRow(NamedTuple):
    vid: int
    segment: str


class Allowed(NamedTuple):
    """One pair of the guard; ``ip`` None: any address."""

    mac: str
    ip: str | None = None


class PortSettings(NamedTuple):
    """What the metadata say about one interface; None: they do not say, the default counts."""

    mac: str  # of the interface it is about, lower case
    segment: str | None = None  # "": in no segment
    mtu: int | None = None
    flood_rate: int | None = None
    flood_burst: int | None = None
    fdb_quota: int | None = None
    max_kbps: int | None = None
    max_burst_kbps: int | None = None
    max_kpps: int | None = None
    max_burst_kpps: int | None = None
    admin_up: bool | None = None
    description: str | None = None
    trunk: tuple[TrunkRow, ...] = ()
    guard: tuple[Allowed, ...] | None = None  # (): nothing may be sent


def canonical_mac(text: str | None, what: str) -> str:
    """Lower case with colons, as libvirt writes it; raises InvalidInput."""
    if text is None or not _MAC.fullmatch(text):
        raise InvalidInput(what, text or "", "is no MAC address",
                           "Write six hexadecimal pairs with colons: 52:54:00:12:34:56.")
    return text.lower()


def read_ports(
    metadata: Element | None,
) -> tuple[dict[str, PortSettings], dict[str, InvalidInput]]:
    """(settings, refusals) of ``<metadata>``, both by MAC.

    A refusal under "" concerns all interfaces: nobody can say which of them
    was meant.  One entry in error leaves the others as they are.
    """
    elements = [] if metadata is None else metadata.findall(PORTS)
    if not elements:
        return {}, {}
    settings: dict[str, PortSettings] = {}
    refused: dict[str, InvalidInput] = {}
    if len(elements) > 1 or len(elements[0]) > PORTS_MAX:
        why = "are there twice" if len(elements) > 1 else f"has more than {PORTS_MAX} entries"
        return {}, {"": InvalidInput("uswitch:ports", None, why, "Keep one, with one entry each.")}
    for element in elements[0]:
        mac = ""
        try:
            if element.tag != PORT:
                raise _unexpected(element.tag, "uswitch:ports", "uswitch:port")
            mac = canonical_mac(element.get("mac"), "mac of uswitch:port")
            if mac in settings or mac in refused:
                settings.pop(mac, None)
                raise InvalidInput("uswitch:port", mac, "is there twice", "Keep one of the two.")
            settings[mac] = read_port(element)
        except InvalidInput as error:
            refused[mac] = error
    return settings, refused


def read_port(element: Element) -> PortSettings:
    """One ``<uswitch:port>``; raises InvalidInput for what is no such thing."""
    mac = canonical_mac(element.get("mac"), "mac of uswitch:port")
    found: dict[str, Any] = {}
    for name, text in element.attrib.items():
        member = name.replace("-", "_")
        if name == "mac":
            continue
        if name == "admin":
            if text not in _ADMIN:
                raise InvalidInput("admin", text, f"is neither up nor down, of interface {mac}")
            found["admin_up"] = _ADMIN[text]
        elif member in NUMBERS and "_" not in name:
            found[member] = _number(name, text)
        elif name in TEXTS:
            found[name] = text
        else:
            raise InvalidInput(
                "attribute", name, f"is none of uswitch:port, at interface {mac}",
                "See etc/libvirt/uswitch-domain.rng for those there are.",
            )  # fmt: skip
    return PortSettings(mac, **found, **_children(element, mac))


def _children(element: Element, mac: str) -> dict[str, Any]:
    """The trunk rows and the guard."""
    trunk: list[TrunkRow] = []
    pairs: list[Allowed] = []
    guarded = False
    for child in element:
        if len(child):
            raise _unexpected(next(iter(child)).tag, _short(child.tag), "nothing")
        if child.tag == TRUNK:
            vid, segment = _attributes(child, "vid", "segment")
            trunk.append(TrunkRow(_number("vid", vid or ""), segment or ""))
        elif child.tag == ALLOW:
            source, ip = _attributes(child, "mac", "ip")
            pairs.append(Allowed(canonical_mac(source, "mac of uswitch:allow"), ip))
        elif child.tag == GUARD:
            _attributes(child)
            guarded = True
        else:
            raise _unexpected(child.tag, "uswitch:port", "trunk, allow or guard")
    if len(trunk) > TRUNK_MAX or len(pairs) > ALLOW_MAX:
        raise InvalidInput(
            "uswitch:port", mac, f"has {len(trunk)} trunk and {len(pairs)} allow elements; at most"
            f" {TRUNK_MAX} and {ALLOW_MAX} are possible",
        )  # fmt: skip
    return {"trunk": tuple(trunk), "guard": tuple(pairs) if pairs or guarded else None}


def _attributes(element: Element, *names: str) -> tuple[str | None, ...]:
    """The values of those attributes; raises InvalidInput if there are others."""
    others = sorted(set(element.attrib) - set(names))
    if others:
        raise InvalidInput("attribute", others[0], f"is none of {_short(element.tag)}")
    return tuple(element.get(name) for name in names)


def _number(what: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InvalidInput(what, text, "is no whole number from 0 on", "Write decimal digits.")
    return int(text)


def _short(tag: str) -> str:
    return tag.replace(f"{{{NAMESPACE}}}", f"{PREFIX}:")


def _unexpected(tag: str, where: str, wanted: str) -> InvalidInput:
    return InvalidInput("element", _short(tag), f"does not belong in {where}, but {wanted}")


def attributes(settings: PortSettings) -> dict[str, str]:
    """The attributes of ``<uswitch:port>`` that say this; what is None is left out."""
    found = {"mac": settings.mac}
    for member in (*TEXTS, *NUMBERS):
        value = getattr(settings, member)
        if value is not None:
            found[member.replace("_", "-")] = str(value)
    if settings.admin_up is not None:
        found["admin"] = "up" if settings.admin_up else "down"
    return found


def children(settings: PortSettings) -> list[tuple[str, dict[str, str]]]:
    """Its child elements: (local name, attributes)."""
    rows = [("trunk", {"vid": str(row.vid), "segment": row.segment}) for row in settings.trunk]
    if settings.guard == ():
        return [*rows, ("guard", {})]
    for pair in settings.guard or ():
        rows.append(("allow", {"mac": pair.mac, **({} if pair.ip is None else {"ip": pair.ip})}))
    return rows
