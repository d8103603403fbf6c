# SPDX-License-Identifier: Apache-2.0
"""From a port as it was asked for to one without gaps: what the configuration says of the rest.

Functions without I/O.  Defaults count when they are read: another
configuration changes all ports that did not ask for something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vif_uswitch.daemon.addresses import parse_mac
from vif_uswitch.daemon.model import Kind, PortConfig, TagRow
from vif_uswitch.daemon.ports import Desired, Port
from vif_uswitch.dataplane.base import RateLimit
from vif_uswitch.exceptions import InvalidInput

ADDRESS = "mac"  # the key of external_ids that says the address of a guest's interface
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


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


def address_of(port: Port) -> bytes:
    """Of the guest's interface, or b"".  What else stands in ``external_ids`` is its caller's."""
    said = dict(port.external_ids).get(ADDRESS, "")
    try:
        return parse_mac(said) if _MAC.fullmatch(said) else b""
    except InvalidInput:
        return b""


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
        netns=port.netns,
        pci=port.pci,
        tags=tuple(TagRow(vid, desired.segments[name].segment_id) for vid, name in rows),
        macs=port.macs,
        address=address_of(port) if port.kind is Kind.VHOST else b"",
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
        guard=port.guard,
    )
