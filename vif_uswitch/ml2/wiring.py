# SPDX-License-Identifier: Apache-2.0
"""What the switch shall have for a Neutron port, as steps from how it is.

Policy without I/O: the switch as it was last seen (``View``) and what Neutron
says in, a list of steps out, empty if all is so already, so that a resync
touches no running traffic.  ``wirer.py`` carries the steps out.

A port gets guard, MAC, MTU, state and segment in one step: it is never in its
network without its guard.  The uplink's row comes before the port, so that the
first frame of a guest finds its way out.  If that cannot be, a port that is in
a segment already still gets what protects others from it (``protect()``).

A segment named like a UUID is a Neutron network, and the agent's; so is a row
of an uplink that leads to one.  Everything else belongs to the operator.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound
from vif_uswitch.ml2 import guard

Json = dict[str, Any]
UPLINK_TYPES = ("nic", "xdp")
Row = tuple[str, int | None]
"""(uplink, VLAN id), None: untagged."""

PINNED_NETWORK_OWNERS = ("network:dhcp", "network:router_interface")
"""Owners of Neutron's ports whose MAC is on one host only; others are on several (HA, DVR)."""

NO_ACTIVE_BINDING = "no_active_binding"
"""Of details: the port's guest is on another host yet.  It is wired as if it were here, but its
MAC is left to be learned."""


@dataclass(frozen=True, slots=True)
class SetPort:
    name: str
    changes: Json


@dataclass(frozen=True, slots=True)
class MapRow:
    uplink: str
    vid: int | None  # None: untagged
    segment: str | None  # None: the row goes


@dataclass(frozen=True, slots=True)
class DeleteSegment:
    name: str


Step = SetPort | MapRow | DeleteSegment


@dataclass(frozen=True, slots=True)
class View:
    """The switch as it was last seen: ports and uplinks of the control API by name."""

    ports: Mapping[str, Json] = field(default_factory=dict)
    uplinks: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def of(listing: Iterable[Json]) -> View:
        """From the answer to port.list, which has the uplinks in it."""
        ports: dict[str, Json] = {}
        uplinks: dict[str, Json] = {}
        for port in listing:
            (uplinks if port["type"] in UPLINK_TYPES else ports)[port["name"]] = port
        return View(ports, uplinks)

    def rows(self, uplink: str) -> dict[int | None, str]:
        """VLAN id (None: untagged) -> segment."""
        port = self.uplinks[uplink]
        rows: dict[int | None, str] = {row["vid"]: row["segment"] for row in port["trunk"]}
        if port["segment"] is not None:
            rows[None] = port["segment"]
        return rows

    def physnets(self) -> dict[str, str]:
        """Physical network -> uplink, as the uplinks themselves say."""
        return {port["physnet"]: name for name, port in sorted(self.uplinks.items())
                if port["physnet"]}  # fmt: skip


def is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def is_device(port: Json) -> bool:
    """Whether a port of the switch is Neutron's to wire: by its name, and by who made it."""
    owner = port.get("external_ids", {}).get("owner", "")
    return is_uuid(port["name"]) and (owner == "nova" or owner.startswith("neutron-"))


# ---- a port into its network ----


def row_of(details: Mapping[str, Any], physnets: Mapping[str, str]) -> Row | None:
    """The uplink's row that the port's network needs; None for a local network."""
    kind = details.get("network_type")
    if kind == "local":
        return None
    if kind not in ("flat", "vlan"):
        raise InvalidInput(
            "network type", kind, "is not one of flat, vlan, local",
            "Use a network of one of these types on this host.",
        )  # fmt: skip
    physnet = str(details.get("physical_network"))
    if physnet not in physnets:
        known = ", ".join(sorted(physnets)) or "none"
        raise NotFound(
            "physical network", physnet, f"has no uplink on this host (known: {known})",
            "Give an uplink this physnet ('uswitchctl uplink ensure'), or set [uswitch]"
            " physical_interface_mappings.",
        )  # fmt: skip
    if kind == "flat":
        return physnets[physnet], None
    vid = details.get("segmentation_id")
    if not isinstance(vid, int) or isinstance(vid, bool) or not 1 <= vid <= 4094:
        raise InvalidInput(
            "VLAN id", str(vid), "is not in 1..4094", "Give the network another one."
        )
    return physnets[physnet], vid


def wire(details: Mapping[str, Any], view: View, physnets: Mapping[str, str]) -> list[Step]:
    """Steps after which the port is in its network, guarded; raises if that cannot be."""
    port = view.ports.get(details["device"])
    if port is None:
        raise NotFound("port", details["device"], "is not in the switch any more")
    network = details["network_id"]
    if not is_uuid(network):
        raise InvalidInput("network", network, "is no UUID")
    row = row_of(details, physnets)
    steps: list[Step] = []
    if row is not None:
        steps += _map(row, network, view)
    changes = _differences(port, _wanted(details))
    return [*steps, SetPort(port["name"], changes)] if changes else steps


def protect(details: Mapping[str, Any], view: View) -> list[Step]:
    """For a port that cannot be wired as it should be: steps that must not wait for that.

    What it is in stays as it is, for its traffic's sake.  But what Neutron has
    taken from it since, it shall lose.  One step each: one may be refused.
    """
    port = view.ports.get(details["device"])
    if port is None or port["segment"] is None:
        return []
    steps: list[Step] = []
    safe = guard.safe_guard_of(details, port.get("guard"))
    if not guard.same(port.get("guard"), safe):
        steps.append(SetPort(port["name"], {"guard": safe}))
    if port["admin_up"] != bool(details["admin_state_up"]):
        steps.append(SetPort(port["name"], {"admin_up": bool(details["admin_state_up"])}))
    try:
        macs = _pinned(details)
    except InvalidInput:
        macs = []
    if [mac.lower() for mac in port["macs"]] != macs:
        steps.append(SetPort(port["name"], {"macs": macs}))
    return steps


def _map(row: Row, network: str, view: View) -> list[Step]:
    uplink, vid = row
    if uplink not in view.uplinks:
        raise NotFound(
            "uplink", uplink, "does not exist in the switch", "See: uswitchctl uplink list",
        )  # fmt: skip
    there = view.rows(uplink).get(vid)
    if there == network:
        return []
    if there is not None and not is_uuid(there):
        what = "untagged" if vid is None else f"VLAN {vid}"
        raise Conflict(
            "uplink", uplink, f"has its {what} row for segment {there}, which is not Neutron's",
            "Take that row away (uswitchctl uplink map --none), or use another VLAN for the"
            " network.",
        )  # fmt: skip
    return [MapRow(uplink, vid, network)]


def _pinned(details: Mapping[str, Any]) -> list[str]:
    if details.get(NO_ACTIVE_BINDING):
        return []
    owner = str(details.get("device_owner") or "")
    pinned = not owner.startswith("network:") or owner in PINNED_NETWORK_OWNERS
    return [guard.normal_mac(details["mac_address"])] if pinned else []


def _wanted(details: Mapping[str, Any]) -> Json:
    wanted: Json = {
        "guard": guard.guard_of(details),
        "macs": _pinned(details),
        "admin_up": bool(details["admin_state_up"]),
        "segment": details["network_id"],
    }
    if details.get("mtu"):
        wanted["mtu"] = details["mtu"]
    return wanted


def _differences(port: Json, wanted: Json) -> Json:
    """What of ``wanted`` the port does not have yet."""
    changes = {key: value for key, value in wanted.items()
               if key not in ("guard", "macs") and port[key] != value}  # fmt: skip
    if not guard.same(port.get("guard"), wanted["guard"]):
        changes["guard"] = wanted["guard"]
    if [mac.lower() for mac in port["macs"]] != wanted["macs"]:
        changes["macs"] = wanted["macs"]
    return changes


def is_as_listed(port: Mapping[str, Any], host: str, view: View) -> bool:
    """Whether a port is in the switch as neutron-server lists it, or not plugged at all.

    ``port``: what the API shows of one that is bound to ``host``, or was or will be.  It
    says nothing of the network itself, neither its VLAN nor its MTU.
    """
    there = view.ports.get(port["id"])
    if there is None:
        return True
    if port["binding:host_id"] != host:
        return not there["macs"]
    if port["status"] != ("ACTIVE" if port["admin_state_up"] else "DOWN"):
        return False
    try:
        return not _differences(there, _wanted(port))
    except InvalidInput:
        return False


def details_of(port: Mapping[str, Any], network: Mapping[str, Any]) -> Json | None:
    """What ``wire()`` needs of a port whose guest comes here from another host.

    Neutron tells details only where a port's binding is active; these are made of the resources.
    None for a network of several segments: which one this host has, the active binding says.
    """
    if network.get("segments"):
        return None
    of_port = ("network_id", "mac_address", "fixed_ips", "allowed_address_pairs", "device_owner",
               "port_security_enabled", "admin_state_up")  # fmt: skip
    return {
        "device": port["id"],
        NO_ACTIVE_BINDING: True,
        "mtu": network.get("mtu"),
        **{key: network.get(f"provider:{key}") for key in ("network_type", "physical_network",
                                                           "segmentation_id")},
        **{key: port[key] for key in of_port if key in port},
    }  # fmt: skip


# ---- and out of it ----


def cut(name: str, view: View) -> list[Step]:
    """Steps after which the port is in no network and claims no address; its guard stays."""
    port = view.ports.get(name)
    if port is None:
        return []
    changes: Json = {}
    if port["segment"] is not None:
        changes["segment"] = None
    if port["macs"]:
        changes["macs"] = []
    return [SetPort(name, changes)] if changes else []


def sweep(
    view: View, needed: Mapping[str, Row | None], segments: Iterable[str] | None
) -> list[Step]:
    """Steps that remove the rows, and then the segments, of networks that nobody here is in.

    ``needed``: the row that each port which the agent has wired stands for.  A
    network with a port that it has not wired yet keeps all it has.
    ``segments``: the names of all segments, or None if only those matter that
    lose their last row now.
    """
    used: dict[str, list[str]] = {}
    for port in view.ports.values():
        for segment in {port["segment"], *(row["segment"] for row in port["trunk"])} - {None}:
            used.setdefault(segment, []).append(port["name"])
    steps: list[Step] = []
    kept, emptied = set(used), set()
    for uplink in sorted(view.uplinks):
        for vid, segment in view.rows(uplink).items():
            users = used.get(segment, [])
            known = all(name in needed for name in users)
            if not is_uuid(segment) or not known or (uplink, vid) in map(needed.get, users):
                kept.add(segment)
                continue
            steps.append(MapRow(uplink, vid, None))
            emptied.add(segment)
    doomed = emptied if segments is None else {name for name in segments if is_uuid(name)}
    return [*steps, *(DeleteSegment(name) for name in sorted(doomed - kept))]
