# SPDX-License-Identifier: Apache-2.0
"""What a Neutron port may claim to be: its addresses as the switch's guard.

Policy without I/O: details of a port as Neutron's RPC gives them in, pairs of
the control API out, in one normal form, so that "is it so already?" is a
comparison.

The rules are those of Neutron's own firewalls: the port's MAC with its fixed
addresses, each allowed address pair (a pair without a MAC means the port's),
and for every MAC its IPv6 link-local address made by EUI-64.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vif_uswitch.exceptions import InvalidInput

Json = dict[str, Any]
PAIRS_MAX = 256

TRUSTED_OWNERS = ("network:",)
"""Ports of DHCP and L3 agents: they answer for others, so nothing can be checked.

These alone: Neutron's policy says who may set a ``network:`` owner; any other is
what any user may say of his own port.
"""

Claims = set[tuple[str, str]]
"""(MAC, IP address or range), in normal form."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def guard_of(details: Mapping[str, Any]) -> Json | None:
    """The guard for a port, or None where nothing shall be checked."""
    claims = _claims(details)
    if claims is None:
        return None
    if len(claims) > PAIRS_MAX:
        raise InvalidInput(
            "allowed address pairs", None,
            f"make {len(claims)} pairs of a MAC and an IP address, a port may have {PAIRS_MAX}",
            "Give ranges (CIDR) instead of single addresses, or disable port security.",
        )  # fmt: skip
    return as_guard(claims)


def safe_guard_of(details: Mapping[str, Any], actual: Json | None) -> Json | None:
    """As ``guard_of()``, and for a port that has none: what may stand in its place.

    Never more than Neutron allows: the port's own addresses, and of the guard
    that it has (``actual``) what is still allowed.
    """
    try:
        return guard_of(details)
    except InvalidInput:
        pass
    try:
        allowed = _claims(details) or set()
        own = _claims({**details, "allowed_address_pairs": ()}) or set()
    except InvalidInput:
        return as_guard(())
    kept = allowed & _as_set(actual) if actual is not None else set()
    return as_guard([*sorted(own), *sorted(kept - own)][:PAIRS_MAX])


def _claims(details: Mapping[str, Any]) -> Claims | None:
    if not details.get("port_security_enabled", True):
        return None
    if str(details.get("device_owner") or "").startswith(TRUSTED_OWNERS):
        return None
    own = normal_mac(details["mac_address"])
    claims = {(own, address["ip_address"]) for address in details.get("fixed_ips") or ()}
    for pair in details.get("allowed_address_pairs") or ():
        claims.add((normal_mac(pair.get("mac_address") or own), pair["ip_address"]))
    pairs = {(mac, normal_ip(ip)) for mac, ip in claims}
    return pairs | {(mac, link_local(mac)) for mac in {own, *(mac for mac, _ in claims)}}


def as_guard(pairs: Iterable[tuple[str, str]]) -> Json:
    return {"pairs": [{"mac": mac, "ip": ip} for mac, ip in sorted(pairs)]}


def same(actual: Json | None, wanted: Json | None) -> bool:
    """Whether the switch has this guard already, in whatever order and notation it shows it."""
    if actual is None or wanted is None:
        return actual is wanted
    return _as_set(actual) == _as_set(wanted)


def _as_set(guard: Json) -> set[tuple[str, str | None]]:
    return {
        (normal_mac(pair["mac"]), None if pair["ip"] is None else normal_ip(pair["ip"]))
        for pair in guard["pairs"]
    }


def normal_mac(text: object) -> str:
    mac = str(text).lower()
    if not _MAC.fullmatch(mac):
        raise InvalidInput("MAC address", text, "is not six hexadecimal pairs with colons")
    return mac


def normal_ip(text: object) -> str:
    """An address, or a range with its prefix length; a range of one is an address."""
    try:
        network = ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        raise InvalidInput(
            "IP address", text, "is neither an address nor a range (CIDR)"
        ) from None
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address if whole else network)


def link_local(mac: str) -> str:
    """The address that a host with this MAC gives itself: fe80::/64 and EUI-64 (RFC 4291, A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
