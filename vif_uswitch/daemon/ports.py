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
from vif_uswitch.api import wire
from vif_uswitch.daemon import guard
from vif_uswitch.daemon.addresses import format_mac, parse_mac, parse_pci
from vif_uswitch.daemon.model import VID_UNTAGGED, Kind, Mode
from vif_uswitch.exceptions import Busy, Conflict, InvalidInput, NotFound, ResourceExhausted

NAMED_MAX = 8  # how many ports an error message lists
RECORD_MAX = 50 * 1024
"""Bytes that a port may take in an answer of the API: its rings, counters and drops fit beside it
in one line, and it has a page of ``port.list`` to itself at worst."""

Spec = api.PortSpec | api.UplinkSpec


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
    netns: str = ""
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
    external_ids: tuple[tuple[str, str], ...] = ()  # (key, value), by key
    guard: guard.Pairs = None
    created_us: int = 0  # microseconds since the epoch; 0: made by a release that did not note it
    static: bool = False  # an uplink of the configuration; nobody else may change it ...
    mapped: tuple[int, ...] = ()  # ... but these rows: VLAN ids, or VID_UNTAGGED

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
        uplinks = any(desired.ports[user].kind.is_uplink for user in users)
        more = f" and {len(users) - NAMED_MAX} more" if len(users) > NAMED_MAX else ""
        raise Busy(
            "segment", name, f"is in use by port {', '.join(users[:NAMED_MAX])}{more}",
            "Move them first: uswitchctl port set PORT --segment OTHER (or --no-segment,"
            " --no-trunk)" + ("; uswitchctl uplink map UPLINK --vid N --none." if uplinks else "."),
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
    if changes.external_ids is not UNSET:
        values["external_ids"] = tuple(
            (key, plain_text(f"external id {key}", value))
            for key, value in sorted(changes.external_ids.items())
        )
    if changes.guard is not UNSET:
        values["guard"] = guard.parse(changes.guard)
    return replace(port, **values)


def bare_port(port_id: int, spec: Spec, path: str) -> Port:
    """A port with what never changes; ``path`` is the checked path of its socket, or ""."""
    if isinstance(spec, api.PortSpec):
        return Port(
            port_id, spec.name, Kind(spec.type), path, Mode(spec.mode), spec.ifname, spec.netns
        )
    if bool(spec.pci) == bool(spec.ifname):
        raise InvalidInput(
            "uplink", spec.name, "has both pci and ifname" if spec.pci else "has no adapter",
            "Give the PCI address of an adapter (--pci) that the switch drives itself, or the name"
            " of a network device (--ifname) that the kernel keeps.",
        )  # fmt: skip
    if spec.pci:
        return Port(port_id, spec.name, Kind.NIC, pci=parse_pci(spec.pci))
    return Port(port_id, spec.name, Kind.XDP, ifname=spec.ifname)


def new_port(
    desired: Desired, spec: Spec, path: str, reserved: Iterable[int] = (), created_us: int = 0
) -> Port:
    """A port that does not exist yet.

    ``path`` as in ``bare_port()``; ``reserved`` are ids that must not be given
    out although no desired port has them.
    """
    taken = [port.port_id for port in desired.ports.values()]
    port_id = _lowest_free([*taken, *reserved], 0, api.PORTS_MAX, "port")
    bare = replace(bare_port(port_id, spec, path), created_us=created_us)
    return changed(bare, spec)


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


def refuse_static(port: Port, wanted: Port | None = None) -> None:
    """What the configuration made, only the configuration changes, or takes away (None)."""
    if port.static and port != wanted:
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
        ("network namespace", port.netns or "of uswitchd", asked.netns or "of uswitchd"),
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
    elif port.kind is Kind.VHOST and (port.ifname or port.netns):
        raise InvalidInput(
            "device", port.ifname or port.netns, "a vhost-user port has none",
            "Give --type tap, or --path.",
        )  # fmt: skip
    elif port.kind is Kind.XDP and port.irq_us is not None:
        raise InvalidInput(
            "irq_us", port.irq_us, "the kernel moderates the interrupts of its own devices",
            f"Set it there: ethtool -C {port.ifname} rx-usecs N",
        )  # fmt: skip
    elif port.kind is Kind.XDP and port.lro:
        raise InvalidInput(
            "lro", True, "AF_XDP has no joined segments", "Leave it out, or use --pci."
        )
    _check_rows(port)
    if len(set(port.macs)) != len(port.macs):
        raise InvalidInput("MAC addresses", None, f"one is given twice for port {port.name}")
    if port.kind.is_uplink and port.guard is not None:
        raise InvalidInput(
            "guard", None, f"cannot be set on uplink {port.name}: whatever the wire brings comes"
            " from stations that are not ours to name",
            "Leave it out, or give null; guard the guests' ports.",
        )  # fmt: skip


def record_bytes(port: Port) -> int:
    """How long the port is in an answer of the API, at most."""
    return (
        1280  # members of a fixed length, and all names
        + len(wire.dumps([port.path, port.netns, port.description, dict(port.external_ids)]))
        + sum(27 + len(segment) for _, segment in port.trunk)
        + 20 * len(port.macs)
        + sum(40 + (43 if len(pair.ip) > 4 else 18) for pair in port.guard or ())
    )


def check_size(port: Port) -> None:
    """Of a port that somebody asks for; one that is in the state file is there already."""
    size = record_bytes(port)
    if size > RECORD_MAX:
        raise InvalidInput(
            "port", port.name, f"is too long for an answer of the API: {size} bytes, not at most"
            f" {RECORD_MAX}", "Give it fewer rows, guard pairs or external ids, or shorter ones.",
        )  # fmt: skip


def _check_rows(port: Port) -> None:
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
    if port.ifname and (port.ifname, port.netns) == (other.ifname, other.netns):
        raise Conflict(
            "ifname", port.ifname, f"is the device of port {other.name}", "Give each port its own."
        )
    _check_namespaces(port, other)
    both = set(port.macs) & set(other.macs)
    if both and port.segments() & other.segments():
        raise Conflict(
            "MAC address", format_mac(min(both)),
            f"is pinned to port {other.name}, in a segment that port {port.name} is in too",
            "An address can be behind one port only.",
        )  # fmt: skip


def _check_namespaces(port: Port, other: Port) -> None:
    """A TAP device is made in our own namespace before it moves: there it would be another's."""
    same_name = port.kind is other.kind is Kind.TAP and port.ifname == other.ifname
    if same_name and not (port.netns and other.netns):
        raise Conflict(
            "ifname", port.ifname, f"is the device of port {other.name} in {_place(other)}, and"
            f" could be taken for that in {_place(port)}",
            "Give one of the two devices another name.",
        )  # fmt: skip


def _place(port: Port) -> str:
    return f"network namespace {port.netns}" if port.netns else "our network namespace"


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
