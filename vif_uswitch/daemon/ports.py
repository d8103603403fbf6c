# SPDX-License-Identifier: Apache-2.0
"""The desired state, and every rule about it that is not a matter of types.

Policy without I/O: ``Desired`` never changes; each function returns the next
one, or raises and nothing has happened.  ``service.py`` saves what it got
before it lets the fabric act on it.  Ids of ports and segments are given out
here once and kept with the state, because the dataplane and the escrow know
ports by these numbers across restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET

from vif_uswitch.api import types as api
from vif_uswitch.daemon.model import VID_UNTAGGED, Kind, Mode, PortConfig, TagRow
from vif_uswitch.dataplane.base import RateLimit
from vif_uswitch.exceptions import Busy, Conflict, InvalidInput, NotFound, ResourceExhausted

NAMED_MAX = 8  # how many ports an error message lists

Spec = api.PortSpec | api.UplinkSpec


@dataclass(frozen=True, slots=True)
class UplinkDefaults:
    """Section [uplink] of the configuration: where an uplink's defaults differ, or are its own."""

    queues: int = 1
    ring_size: int = 0
    irq_us: int = 0
    fdb_quota: int = 16384


@dataclass(frozen=True, slots=True)
class PortDefaults:
    """Section [port_defaults] of the configuration."""

    flood_rate: int = 0
    flood_burst: int = 0
    fdb_quota: int = 256
    mtu: int = 1500
    queues: int = 8
    features_off: int = 0
    max_kbps: int = 0
    max_burst_kbps: int = 0
    max_kpps: int = 0
    max_burst_kpps: int = 0
    uplink: UplinkDefaults = UplinkDefaults()


@dataclass(frozen=True, slots=True)
class Segment:
    segment_id: int  # 1..4095
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """A port as it was asked for; None means: as [port_defaults] says today."""

    port_id: int  # 0..1023
    name: str
    kind: Kind
    path: str = ""
    mode: Mode = Mode.SERVER
    ifname: str = ""
    pci: str = ""  # normal form, see parse_pci()
    physnet: str = ""
    segment: str | None = None
    trunk: tuple[tuple[int, str], ...] = ()  # (VLAN id, segment), by VLAN id
    macs: tuple[bytes, ...] = ()
    mtu: int | None = None
    flood_rate: int | None = None
    flood_burst: int | None = None
    fdb_quota: int | None = None
    queues: int | None = None
    max_kbps: int | None = None
    max_burst_kbps: int | None = None
    max_kpps: int | None = None
    max_burst_kpps: int | None = None
    ring_size: int | None = None
    irq_us: int | None = None
    zero_copy: bool = False
    lro: bool = False
    admin_up: bool = True
    description: str = ""
    static: bool = False  # an uplink of the configuration; nobody else may change it

    def segments(self) -> set[str]:
        """Names of the segments the port has a row for."""
        untagged = {self.segment} if self.segment is not None else set()
        return untagged | {name for _, name in self.trunk}

    def tags(self) -> list[tuple[int, str]]:
        """The tag table with names: (VLAN id or VID_UNTAGGED, segment)."""
        untagged = [(VID_UNTAGGED, self.segment)] if self.segment is not None else []
        return [*untagged, *self.trunk]


@dataclass(frozen=True, slots=True)
class Desired:
    """All that shall exist, by name."""

    ports: Mapping[str, Port] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)

    def port(self, name: str) -> Port:
        try:
            return self.ports[name]
        except KeyError:
            raise NotFound(
                "port", name, "does not exist", "'uswitchctl port list' shows those that do."
            ) from None

    def segment(self, name: str) -> Segment:
        try:
            return self.segments[name]
        except KeyError:
            raise NotFound(
                "segment", name, "does not exist", f"Create it: uswitchctl segment add {name}"
            ) from None

    def ports_in(self, segment: str) -> list[str]:
        return sorted(port.name for port in self.ports.values() if segment in port.segments())


def parse_mac(text: str) -> bytes:
    """Six bytes of a station's address; its shape was checked by the API's type."""
    mac = bytes.fromhex(text.replace(":", ""))
    if not any(mac):
        raise InvalidInput("MAC address", text, "is all zero", "Give the guest's own address.")
    if mac[0] & 1:
        raise InvalidInput(
            "MAC address", text, "is a group (multicast or broadcast) address",
            "Give the guest's own address: the first byte of a station's address is even.",
        )  # fmt: skip
    return mac


def format_mac(mac: bytes) -> str:
    return mac.hex(":")


def parse_pci(text: str) -> str:
    """The one form of a PCI address: with its domain, lower case.  Its shape was checked."""
    return (text if text.count(":") == 2 else f"0000:{text}").lower()


def plain_text(what: str, text: str) -> str:
    """Free text that is safe in files, logs and terminals."""
    if not text.isprintable():
        raise InvalidInput(what, text, "has characters that cannot be printed", "Remove them.")
    return text


def _lowest_free(used: Iterable[int], first: int, end: int, what: str) -> int:
    taken = set(used)
    for number in range(first, end):
        if number not in taken:
            return number
    raise ResourceExhausted(
        what, None, f"all {end - first} are in use", f"Delete a {what} that is not needed."
    )


# ---- segments ----


def add_segment(desired: Desired, name: str, description: str = "") -> Desired:
    if name in desired.segments:
        raise Conflict("segment", name, "exists already", "Use it as it is, or delete it first.")
    segment_id = _lowest_free(
        (segment.segment_id for segment in desired.segments.values()),
        1, api.SEGMENTS_MAX + 1, "segment",
    )  # fmt: skip
    segment = Segment(segment_id, name, plain_text("description", description))
    return replace(desired, segments={**desired.segments, name: segment})


def delete_segment(desired: Desired, name: str) -> Desired:
    users = desired.ports_in(name)
    if users:
        more = f" and {len(users) - NAMED_MAX} more" if len(users) > NAMED_MAX else ""
        raise Busy(
            "segment", name, f"is in use by port {', '.join(users[:NAMED_MAX])}{more}",
            "Move them first: uswitchctl port set PORT --segment OTHER (or --no-segment,"
            " --no-trunk).",
        )  # fmt: skip
    rest = {key: segment for key, segment in desired.segments.items() if key != name}
    return replace(desired, segments=rest)


def _with_segments(desired: Desired, names: Iterable[str], create: bool) -> Desired:
    """``desired`` with all segments ``names`` in it: created, or else required."""
    for name in names:
        if name not in desired.segments:
            if not create:
                raise NotFound(
                    "segment", name, "does not exist",
                    f"Create it: uswitchctl segment add {name} (or give --create-segment).",
                )  # fmt: skip
            desired = add_segment(desired, name)
    return desired


# ---- ports ----


PLAIN_CHANGES = (
    "segment", "mtu", "flood_rate", "flood_burst", "fdb_quota", "queues", "max_kbps",
    "max_burst_kbps", "max_kpps", "max_burst_kpps", "admin_up",
)  # fmt: skip
UPLINK_CHANGES = ("physnet", "ring_size", "irq_us", "zero_copy", "lro")
"""What ``UplinkSpec`` can change beyond ``PortChanges``."""


def changed(port: Port, changes: api.PortChanges) -> Port:
    """``port`` with those members replaced that ``changes`` names."""
    values: dict[str, Any] = {}
    more = UPLINK_CHANGES if isinstance(changes, api.UplinkSpec) else ()
    for name in (*PLAIN_CHANGES, *more):
        value = getattr(changes, name)
        if value is not UNSET:
            values[name] = value
    if changes.description is not UNSET:
        values["description"] = plain_text("description", changes.description)
    if changes.macs is not UNSET:
        values["macs"] = tuple(parse_mac(text) for text in changes.macs)
    if changes.trunk is not UNSET:
        values["trunk"] = tuple(sorted((row.vid, row.segment) for row in changes.trunk))
    return replace(port, **values)


def bare_port(port_id: int, spec: Spec, path: str) -> Port:
    """A port with what never changes; ``path`` is the checked path of its socket, or ""."""
    if isinstance(spec, api.PortSpec):
        return Port(port_id, spec.name, Kind(spec.type), path, Mode(spec.mode), spec.ifname)
    if bool(spec.pci) == bool(spec.ifname):
        raise InvalidInput(
            "uplink", spec.name, "has both pci and ifname" if spec.pci else "has no adapter",
            "Give the PCI address of an adapter (--pci) that the switch drives itself, or the name"
            " of a network device (--ifname) that the kernel keeps.",
        )  # fmt: skip
    if spec.pci:
        return Port(port_id, spec.name, Kind.NIC, pci=parse_pci(spec.pci))
    return Port(port_id, spec.name, Kind.XDP, ifname=spec.ifname)


def new_port(desired: Desired, spec: Spec, path: str, reserved: Iterable[int] = ()) -> Port:
    """A port that does not exist yet.

    ``path`` as in ``bare_port()``; ``reserved`` are ids that must not be given
    out although no desired port has them.
    """
    taken = [port.port_id for port in desired.ports.values()]
    port_id = _lowest_free([*taken, *reserved], 0, api.PORTS_MAX, "port")
    return changed(bare_port(port_id, spec, path), spec)


def put_port(desired: Desired, port: Port, create_segments: bool = False) -> Desired:
    """``desired`` with ``port`` in it, new or instead of its former self, if nothing conflicts."""
    check_port(port)
    desired = _with_segments(desired, sorted(port.segments()), create_segments)
    for other in desired.ports.values():
        if other.name != port.name:
            _check_pair(port, other)
    return replace(desired, ports={**desired.ports, port.name: port})


def uplink(desired: Desired, name: str) -> Port:
    """The uplink of that name."""
    port = desired.ports.get(name)
    if port is None:
        raise NotFound(
            "uplink", name, "does not exist", "'uswitchctl uplink list' shows those that do."
        )
    if not port.kind.is_uplink:
        raise NotFound(
            "uplink", name, f"is no uplink but a {port.kind.value} port",
            f"See: uswitchctl port show {name}",
        )  # fmt: skip
    return port


def uplinks(desired: Desired) -> list[str]:
    return sorted(port.name for port in desired.ports.values() if port.kind.is_uplink)


def refuse_static(port: Port) -> None:
    """What the configuration made, only the configuration changes."""
    if port.static:
        raise Conflict(
            "uplink", port.name, "comes from the configuration, and would come back with it",
            f"Change section [uplink:{port.name}] there, and restart uswitchd.",
        )  # fmt: skip


def delete_port(desired: Desired, name: str) -> Desired:
    rest = {key: port for key, port in desired.ports.items() if key != name}
    return replace(desired, ports=rest)


def refuse_other(port: Port, spec: Spec, path: str) -> None:
    """Ensure may change a port, but not into another one."""
    asked = bare_port(port.port_id, spec, path)
    noun = "uplink" if port.kind.is_uplink else "port"
    for what, old, new in (
        ("type", port.kind.value, asked.kind.value),
        ("path", port.path, asked.path),
        ("mode", port.mode.value, asked.mode.value),
        ("ifname", port.ifname, asked.ifname),
        ("pci", port.pci, asked.pci),
    ):
        if old != new:
            raise Conflict(
                noun, port.name, f"exists with {what} {old}, not {new}",
                f"Delete it first: uswitchctl {noun} delete {port.name}",
            )  # fmt: skip


def check_port(port: Port) -> None:
    """Rules that concern one port alone."""
    if port.kind is Kind.TAP:
        if not port.ifname:
            raise InvalidInput("ifname", "", "a tap port needs one", "Give --ifname NAME.")
        if port.path or port.mode is not Mode.SERVER:
            raise InvalidInput("port", port.name, "a tap port has neither path nor mode")
        if port.queues not in (None, 1):
            raise InvalidInput("queues", port.queues, "a tap port has one queue pair", "Leave it.")
    elif port.kind is Kind.VHOST and port.ifname:
        raise InvalidInput(
            "ifname", port.ifname, "a vhost-user port has none", "Give --type tap, or --path."
        )
    elif port.kind is Kind.XDP and port.irq_us is not None:
        raise InvalidInput(
            "irq_us", port.irq_us, "the kernel moderates the interrupts of its own devices",
            f"Set it there: ethtool -C {port.ifname} rx-usecs N",
        )  # fmt: skip
    elif port.kind is Kind.XDP and port.lro:
        raise InvalidInput(
            "lro", True, "AF_XDP has no joined segments", "Leave it out, or use --pci."
        )
    vids: set[int] = set()
    names = {port.segment} if port.segment is not None else set()
    for vid, name in port.trunk:
        if vid in vids:
            raise InvalidInput("VLAN id", vid, f"has two rows on port {port.name}", "Keep one.")
        if name in names:
            raise InvalidInput(
                "segment", name, f"has two rows on port {port.name}",
                "A segment leaves a port with one tag, or untagged: keep one row.",
            )  # fmt: skip
        vids.add(vid)
        names.add(name)
    if len(set(port.macs)) != len(port.macs):
        raise InvalidInput("MAC addresses", None, f"one is given twice for port {port.name}")


def _check_pair(port: Port, other: Port) -> None:
    """Rules between two ports."""
    if port.kind is Kind.VHOST and port.path == other.path:
        raise Conflict(
            "path", port.path, f"is the socket of port {other.name}", "Give each port its own."
        )
    if port.kind is Kind.NIC and port.pci == other.pci:
        raise Conflict(
            "PCI address", port.pci, f"is the adapter of uplink {other.name}",
            f"Use that uplink, or delete it first: uswitchctl uplink delete {other.name}",
        )  # fmt: skip
    if port.physnet and port.physnet == other.physnet:
        raise Conflict(
            "physnet", port.physnet, f"is the network of uplink {other.name}",
            "Give each uplink its own, or give this one none.",
        )  # fmt: skip
    if port.ifname and port.ifname == other.ifname:
        raise Conflict(
            "ifname", port.ifname, f"is the device of port {other.name}", "Give each port its own."
        )
    both = set(port.macs) & set(other.macs)
    if both and port.segments() & other.segments():
        raise Conflict(
            "MAC address", format_mac(min(both)),
            f"is pinned to port {other.name}, in a segment that port {port.name} is in too",
            "An address can be behind one port only.",
        )  # fmt: skip


def _burst(rate: int, burst: int) -> int:
    """What may come at once: 0 stands for eight tenths of a second, as it does in Neutron's QoS."""
    return burst or rate * 8 // 10


def rate_of(port: Port, defaults: PortDefaults) -> RateLimit:
    """The port's own limits, each with the burst beside it; or those of the configuration."""
    kbps, kbit = port.max_kbps, port.max_burst_kbps
    kpps, kpkt = port.max_kpps, port.max_burst_kpps
    kbps = defaults.max_kbps if kbps is None else kbps
    kbit = defaults.max_burst_kbps if kbit is None else kbit
    kpps = defaults.max_kpps if kpps is None else kpps
    kpkt = defaults.max_burst_kpps if kpkt is None else kpkt
    return RateLimit(kbps, _burst(kbps, kbit), kpps, _burst(kpps, kpkt))


def config_of(desired: Desired, port: Port, defaults: PortDefaults) -> PortConfig:
    """What the fabric is told: names resolved, defaults filled in.  Admin down means: no rows."""
    rows = port.tags() if port.admin_up else []
    uplink = defaults.uplink
    queues, fdb_quota = defaults.queues, defaults.fdb_quota
    if port.kind.is_uplink:
        queues, fdb_quota = uplink.queues, uplink.fdb_quota

    def or_default(value: int | None, default: int) -> int:
        return default if value is None else value

    return PortConfig(
        port_id=port.port_id,
        name=port.name,
        kind=port.kind,
        path=port.path,
        mode=port.mode,
        ifname=port.ifname,
        pci=port.pci,
        tags=tuple(TagRow(vid, desired.segments[name].segment_id) for vid, name in rows),
        macs=port.macs,
        mtu=or_default(port.mtu, defaults.mtu),
        flood_rate=or_default(port.flood_rate, defaults.flood_rate),
        flood_burst=or_default(port.flood_burst, defaults.flood_burst),
        fdb_quota=or_default(port.fdb_quota, fdb_quota),
        queues=1 if port.kind is Kind.TAP else or_default(port.queues, queues),
        insist=port.queues is not None,
        ring_size=or_default(port.ring_size, uplink.ring_size) if port.kind.is_uplink else 0,
        irq_us=or_default(port.irq_us, uplink.irq_us) if port.kind is Kind.NIC else 0,
        zero_copy=port.zero_copy,
        lro=port.lro,
        features_off=defaults.features_off,
        rate=rate_of(port, defaults),
    )


def check_whole(desired: Desired, refuse: Callable[[str], Exception]) -> None:
    """A state read from a file must be one that this file could have made."""
    for ids, first, last in (
        ([port.port_id for port in desired.ports.values()], 0, api.PORTS_MAX - 1),
        ([seg.segment_id for seg in desired.segments.values()], 1, api.SEGMENTS_MAX),
    ):
        if len(set(ids)) != len(ids) or not all(first <= number <= last for number in ids):
            raise refuse("an id is used twice or outside its range")
    rebuilt = Desired({}, desired.segments)
    for port in desired.ports.values():
        try:
            rebuilt = put_port(rebuilt, port)
        except (InvalidInput, Conflict, NotFound) as error:
            raise refuse(str(error)) from None
