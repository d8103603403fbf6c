# SPDX-License-Identifier: Apache-2.0
"""What the rooms of the daemon tell each other about ports: plain frozen values.

``PortConfig`` is one port as the control plane wants it, with every name
already resolved to the small numbers that the dataplane knows.  It is made by
``ports.py`` from the desired state, and applied by ``fabric.py``.
``PortLive`` is what is true of the port right now; it flows the other way.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

VID_UNTAGGED = 4096
"""The tag table's key for frames without a tag."""


class Kind(str, enum.Enum):
    """What stands behind a port."""

    VHOST = "vhost-user"
    TAP = "tap"


class Mode(str, enum.Enum):
    """Who listens on a vhost-user socket, from QEMU's point of view (as in libvirt and Nova)."""

    SERVER = "server"  # QEMU listens, uswitchd connects
    CLIENT = "client"  # QEMU connects, uswitchd listens


class Link(str, enum.Enum):
    """How far a port has come."""

    WAITING = "waiting"  # no peer yet
    NEGOTIATING = "negotiating"  # a peer is connected, its driver is not ready
    UP = "up"  # frames can flow both ways
    BROKEN = "broken"  # fenced, see the reason
    DOWN = "down"  # cut off by the operator (admin state)


@dataclass(frozen=True, slots=True)
class TagRow:
    """One row of a port's tag table: VLAN id (1..4094, or VID_UNTAGGED) and segment id (1..4095)."""

    vid: int
    segment_id: int


@dataclass(frozen=True, slots=True)
class PortConfig:
    """One port as it shall be.  Changing ``kind``, ``path``, ``mode`` or ``ifname`` means another port."""

    port_id: int  # 0..1023, stable over restarts
    name: str
    kind: Kind
    path: str = ""  # vhost-user: absolute path of the socket
    mode: Mode = Mode.SERVER
    ifname: str = ""  # tap: name of the kernel device
    tags: tuple[TagRow, ...] = ()
    macs: tuple[bytes, ...] = ()  # pinned addresses, 6 bytes each
    mtu: int = 1500  # bytes of layer 3 payload; the longest frame is mtu + 14
    flood_rate: int = 0  # copies a second, 0: no limit
    flood_burst: int = 0
    fdb_quota: int = 256
    features_off: int = 0  # virtio feature bits never offered on this port

    @property
    def max_frame(self) -> int:
        return self.mtu + 14


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """Counters of all queues of a port in one direction, as read from its state page."""

    frames: int = 0
    bytes: int = 0
    flooded: int = 0
    gso: int = 0
    csum_fixed: int = 0
    gso_fixed: int = 0
    bursts: int = 0
    signals: int = 0
    drops: dict[str, int] = field(default_factory=dict)  # reason -> frames, zero counts left out


@dataclass(frozen=True, slots=True)
class RingLive:
    """One virtqueue: index 0 receives, 1 transmits (guest's view), and so on in pairs."""

    index: int
    active: bool
    enabled: bool
    size: int
    last_avail: int
    used_idx: int


@dataclass(frozen=True, slots=True)
class PortLive:
    """What is true of a port right now."""

    link: Link = Link.WAITING
    peer_pid: int | None = None  # process behind the socket
    virtio_features: int = 0  # negotiated, 0 before
    protocol_features: int = 0
    memory_regions: int = 0
    memory_bytes: int = 0
    rings: tuple[RingLive, ...] = ()
    broken_reason: str = ""  # name, "" while healthy
    broken_text: str = ""  # one sentence for an operator
    last_error: str = ""  # why the last session ended or could not start, "" if none
    sessions: int = 0  # connections so far
    incoming: QueueCounters = field(default_factory=QueueCounters)  # the peer sent, the switch took in
    outgoing: QueueCounters = field(default_factory=QueueCounters)  # the switch delivered to the peer


@dataclass(frozen=True, slots=True)
class FdbEntry:
    mac: bytes
    segment_id: int
    port_id: int
    age_s: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class WorkerLive:
    index: int
    tid: int
    cpu: int  # -1: not pinned
    queues: int
    passes: int
    busy_passes: int
    cycles: int
    busy_cycles: int
    frames: int
    sleeps: int
    wakeups: int


@dataclass(frozen=True, slots=True)
class DataplaneLive:
    """The dataplane process: ``pid`` is 0 while there is none."""

    pid: int = 0
    starts: int = 0  # how often this uswitchd had to start one
    adopted: bool = False  # the present one was running before this uswitchd
    tsc_khz: int = 0
    fdb_entries: int = 0
    fdb_capacity: int = 0
    fdb_moves: int = 0
    fdb_evicted: int = 0
    fdb_refused: int = 0
    workers: tuple[WorkerLive, ...] = ()
