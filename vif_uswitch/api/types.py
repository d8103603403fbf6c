# SPDX-License-Identifier: Apache-2.0
"""Parameters and results of every method of the control API.

The single source of validation: the daemon converts what came over the wire
into these and looks at nothing else, and ``schema.py`` publishes the JSON
Schema made from them.  What a type cannot say (a name that is taken, a path
outside the socket directory) is decided in ``daemon/ports.py``.

In ``PortChanges`` a member that is absent stays as it is; for a new port it
takes its default.  ``null`` asks for the default of the configuration.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from vif_uswitch.api.base import Params, Result
from vif_uswitch.api.guard import Guard
from vif_uswitch.api.values import (
    Cursor,
    Description,
    ExternalIds,
    FdbQuota,
    FloodBurst,
    FloodRate,
    Ifname,
    IrqUs,
    Mac,
    Macs,
    MaxBurstKbps,
    MaxBurstKpps,
    MaxKbps,
    MaxKpps,
    Mtu,
    Netns,
    PciAddress,
    Physnet,
    PortName,
    Queues,
    RingSize,
    SegmentName,
    SocketPath,
    UplinkIfname,
    Vid,
)

PORTS_MAX = 1024
SEGMENTS_MAX = 4095
TRUNK_ROWS_MAX = 512  # with long names this many still fit in one line of the API


class TrunkRow(Params, frozen=True):
    """Frames with this VLAN id belong to this segment."""

    vid: Vid
    segment: SegmentName


Trunk = Annotated[
    tuple[TrunkRow, ...],
    Meta(max_length=TRUNK_ROWS_MAX, description="Rows for tagged frames, at most 512."),
]


class PortChanges(Params, frozen=True):
    """What can change while a port exists."""

    segment: SegmentName | UnsetType | None = UNSET  # of untagged frames; null: none
    trunk: Trunk | UnsetType = UNSET
    macs: Macs | UnsetType = UNSET
    mtu: Mtu | UnsetType | None = UNSET
    flood_rate: FloodRate | UnsetType | None = UNSET
    flood_burst: FloodBurst | UnsetType | None = UNSET
    fdb_quota: FdbQuota | UnsetType | None = UNSET
    queues: Queues | UnsetType | None = UNSET
    max_kbps: MaxKbps | UnsetType | None = UNSET
    max_burst_kbps: MaxBurstKbps | UnsetType | None = UNSET
    max_kpps: MaxKpps | UnsetType | None = UNSET
    max_burst_kpps: MaxBurstKpps | UnsetType | None = UNSET
    admin_up: bool | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    external_ids: ExternalIds | UnsetType = UNSET  # the whole map
    guard: Guard | UnsetType | None = UNSET  # null: nothing is checked; not on uplinks


class PortSpec(PortChanges, frozen=True, kw_only=True):
    """A port as somebody wants it.  Name, type, path, mode, ifname and netns never change."""

    name: PortName
    type: Literal["vhost-user", "tap"] = "vhost-user"
    path: SocketPath = ""
    mode: Literal["server", "client"] = "server"  # QEMU's view, as in libvirt and Nova
    ifname: Ifname = ""
    netns: Netns = ""


class UplinkSpec(PortChanges, frozen=True, kw_only=True):
    """An uplink as somebody wants it: a port whose peer is a network adapter.

    Either ``pci`` (driven by the switch itself, through VFIO) or ``ifname``
    (kept by the kernel, reached by AF_XDP).  Neither, nor the name, ever changes.
    """

    name: PortName
    pci: PciAddress = ""
    ifname: UplinkIfname = ""
    physnet: Physnet | UnsetType = UNSET
    ring_size: RingSize | UnsetType | None = UNSET
    irq_us: IrqUs | UnsetType | None = UNSET
    zero_copy: bool | UnsetType = UNSET
    lro: bool | UnsetType = UNSET


class UplinkEnsure(Params, frozen=True):
    uplink: UplinkSpec
    create_segments: bool = False


class UplinkMap(Params, frozen=True):
    """One row of an uplink's tag table, as it shall be."""

    name: PortName
    vid: Vid | None  # null: frames without a tag
    segment: SegmentName | None  # null: no row
    create_segments: bool = False


class PortAdd(Params, frozen=True):
    port: PortSpec
    create_segments: bool = False


class PortSet(Params, frozen=True):
    name: PortName
    changes: PortChanges
    create_segments: bool = False


class PortRef(Params, frozen=True):
    name: PortName


class PortDelete(Params, frozen=True):
    """``external_ids``: of another port than one that has all of these nothing is meant."""

    name: PortName
    external_ids: ExternalIds | UnsetType = UNSET


class ExternalId(Params, frozen=True):
    key: str
    value: str


class PortListing(Params, frozen=True):
    """``external_id``: only ports that have this key with this value."""

    cursor: Cursor = ""
    segment: SegmentName | None = None
    external_id: ExternalId | None = None


class Paging(Params, frozen=True):
    cursor: Cursor = ""


class SegmentAdd(Params, frozen=True):
    name: SegmentName
    description: Description = ""


class SegmentRef(Params, frozen=True):
    name: SegmentName


class FdbListing(Params, frozen=True):
    cursor: Cursor = ""
    port: PortName | None = None
    segment: SegmentName | None = None
    mac: Mac | None = None


class FdbFlush(Params, frozen=True):
    port: PortName | None = None
    segment: SegmentName | None = None


class Port(Result, frozen=True):
    """A port: what is wanted (defaults filled in) and how far it has come."""

    id: int
    name: str
    type: str
    path: str
    mode: str
    ifname: str
    netns: str  # of a tap port, "" if its device is in the namespace of uswitchd
    pci: str  # of an uplink that is driven through VFIO, else ""
    physnet: str  # of an uplink, "" if it has no name
    segment: str | None
    trunk: tuple[TrunkRow, ...]
    macs: tuple[str, ...]
    mtu: int
    flood_rate: int
    flood_burst: int
    fdb_quota: int
    queues: int
    max_kbps: int
    max_burst_kbps: int
    max_kpps: int
    max_burst_kpps: int
    admin_up: bool
    description: str
    external_ids: dict[str, str]
    guard: Guard | None
    created_us: int  # since the epoch; a port deleted and made again has another; 0: not known
    link: str  # waiting, negotiating, up, broken, down
    reason: str  # why it is broken, or why the last session ended; "" if there is nothing to tell
    peer_pid: int | None


class PortPage(Result, frozen=True):
    ports: tuple[Port, ...]
    next: str


class PortChanged(Result, frozen=True):
    port: Port
    created: bool
    changed: bool


class Ring(Result, frozen=True):
    index: int
    active: bool
    enabled: bool
    size: int
    last_avail: int
    used_idx: int
    frames: int
    bytes: int
    dropped: int


class Counters(Result, frozen=True):
    frames: int
    bytes: int
    flooded: int
    gso: int
    csum_fixed: int
    gso_fixed: int
    bursts: int
    signals: int
    dropped: int


class Drop(Result, frozen=True):
    """One line of the list of drops: never with a count of zero."""

    port: str
    direction: Literal["in", "out"]
    reason: str
    frames: int
    text: str


class PortDetail(Result, frozen=True):
    port: Port
    sessions: int
    virtio_features: str  # hexadecimal: 64 bits survive every JSON reader
    protocol_features: str
    memory_regions: int
    memory_bytes: int
    rings: tuple[Ring, ...]
    incoming: Counters
    outgoing: Counters
    drops: tuple[Drop, ...]


class Adapter(Result, frozen=True):
    """A network adapter as it is.  Counters are those that the hardware has, by ethtool's names."""

    driver: str
    device_id: str  # PCI vendor and device, "8086:10c9"; "" if it is not driven through VFIO
    mac: str
    link_up: bool
    speed_mbps: int  # 0: unknown
    full_duplex: bool
    queues: int  # in use
    resets: int  # starts anew after an error
    link_changes: int
    pool_bytes: int  # memory that the adapter can reach
    counters: dict[str, int]


class Uplink(Result, frozen=True):
    """A port whose peer is a network adapter.  ``adapter``: null while there is none."""

    port: Port
    origin: Literal["api", "config"]  # who made it, and may change and delete it
    ring_size: int  # 0: the driver's choice
    irq_us: int
    zero_copy: bool
    lro: bool
    at_ns: int  # monotonic clock at reading: rates are differences over differences
    adapter: Adapter | None
    incoming: Counters
    outgoing: Counters


class UplinkPage(Result, frozen=True):
    uplinks: tuple[Uplink, ...]
    next: str


class UplinkDetail(Result, frozen=True):
    uplink: Uplink
    drops: tuple[Drop, ...]


class UplinkChanged(Result, frozen=True):
    uplink: Uplink
    created: bool
    changed: bool


class Deleted(Result, frozen=True):
    existed: bool


class Segment(Result, frozen=True):
    id: int
    name: str
    description: str
    n_ports: int


class SegmentPage(Result, frozen=True):
    segments: tuple[Segment, ...]
    next: str


class SegmentDetail(Result, frozen=True):
    """``ports`` stops after 500 names; ``port.list`` with ``segment`` has all of them."""

    segment: Segment
    ports: tuple[str, ...]


class FdbEntry(Result, frozen=True):
    mac: str
    segment: str
    port: str
    age_s: int
    pinned: bool


class FdbPage(Result, frozen=True):
    entries: tuple[FdbEntry, ...]
    next: str


class FdbFlushed(Result, frozen=True):
    removed: int


class DropPage(Result, frozen=True):
    drops: tuple[Drop, ...]
    next: str


class PortStats(Result, frozen=True):
    port: str
    link: str
    at_ns: int  # monotonic clock at reading: rates are differences over differences
    incoming: Counters
    outgoing: Counters


class StatsPage(Result, frozen=True):
    ports: tuple[PortStats, ...]
    next: str


class Daemon(Result, frozen=True):
    pid: int
    version: str
    api: str
    uptime_s: int
    poll_us: int
    vhost_socket_dir: str  # as paths of ports begin: absolute, without symbolic links


class Dataplane(Result, frozen=True):
    running: bool
    pid: int
    starts: int
    adopted: bool
    fdb_entries: int
    fdb_capacity: int
    fdb_moves: int
    fdb_evicted: int
    fdb_refused: int
    workers: int


class DropTotal(Result, frozen=True):
    reason: str
    frames: int
    ports: int
    text: str


class Host(Result, frozen=True):
    """Everything the first lines of ``uswitchctl show`` need."""

    daemon: Daemon
    dataplane: Dataplane
    n_ports: int
    n_segments: int
    links: dict[str, int]
    incoming: Counters
    outgoing: Counters
    drops: tuple[DropTotal, ...]


class Version(Result, frozen=True):
    """``revision`` is another one after each change of what is desired, and after a restart."""

    version: str
    api: str
    pid: int
    revision: int


class Schema(Result, frozen=True):
    catalogue: dict[str, Any]
