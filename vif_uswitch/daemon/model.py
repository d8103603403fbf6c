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

from vif_uswitch.dataplane.base import NO_LIMIT, GuardPair, RateLimit
from vif_uswitch.dataplane.live import NicLive, QueueCounters, RingLive

VID_UNTAGGED = 4096
"""The tag table's key for frames without a tag."""


class Kind(str, enum.Enum):
    """What stands behind a port."""

    VHOST = "vhost-user"
    TAP = "tap"
    NIC = "nic"  # a network adapter, driven through VFIO
    XDP = "xdp"  # a network device of the kernel, by AF_XDP

    @property
    def is_uplink(self) -> bool:
        return self in (Kind.NIC, Kind.XDP)

    @property
    def has_device(self) -> bool:
        """Whether its peer is a device of this host: the port waits for one that is not there."""
        return self is not Kind.VHOST


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
    """A row of a tag table: VLAN id (1..4094, or VID_UNTAGGED) and segment id (1..4095)."""

    vid: int
    segment_id: int


@dataclass(frozen=True, slots=True)
class PortConfig:
    """A port as it shall be.  ``kind`` and what names its peer, up to ``pci``, never change."""

    port_id: int  # 0..1023, stable over restarts
    name: str
    kind: Kind
    path: str = ""  # vhost-user: absolute path of the socket
    mode: Mode = Mode.SERVER
    ifname: str = ""  # tap, xdp: name of the kernel device
    netns: str = ""  # tap: network namespace that it is in, or will be; below /run/netns
    pci: str = ""  # nic: address, 0000:05:00.0
    tags: tuple[TagRow, ...] = ()
    macs: tuple[bytes, ...] = ()  # pinned addresses, 6 bytes each
    address: bytes = b""  # vhost-user: of the guest's interface, announced when it arrives
    mtu: int = 1500  # bytes of layer 3 payload; the longest frame is mtu + 14
    flood_rate: int = 0  # copies a second, 0: no limit
    flood_burst: int = 0
    fdb_quota: int = 256
    queues: int = 8  # queue pairs: that a guest may use, that an uplink shall use
    insist: bool = True  # uplink: so many queue pairs, not fewer if there are not as many
    ring_size: int = 0  # uplink: descriptors in a ring, 0: the driver's choice
    irq_us: int = 0  # nic: microseconds between interrupts of a queue
    zero_copy: bool = False  # nic: send from guests' memory; xdp: zero-copy sockets
    lro: bool = False  # nic: it may join received TCP segments
    rate: RateLimit = NO_LIMIT
    guard: tuple[GuardPair, ...] | None = None  # what it may claim to be; None: anything
    features_off: int = 0  # virtio feature bits never offered on this port

    @property
    def max_frame(self) -> int:
        return self.mtu + 14


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
    nic: NicLive | None = None  # uplink: its adapter, as last read
    incoming: QueueCounters = field(
        default_factory=QueueCounters
    )  # the peer sent, the switch took in
    outgoing: QueueCounters = field(
        default_factory=QueueCounters
    )  # the switch delivered to the peer


@dataclass(frozen=True, slots=True)
class FdbEntry:
    mac: bytes
    segment_id: int
    port_id: int
    age_s: int
    pinned: bool
