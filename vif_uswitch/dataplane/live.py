# SPDX-License-Identifier: Apache-2.0
"""What the shared pages tell about a running dataplane: plain frozen values.

``statepage.py`` makes them, the daemon and the API's answers read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
    frames: int = 0  # since the port exists, whichever guest used the queue
    bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class QueueLive:
    """An incoming queue of a port that a worker serves."""

    index: int
    worker: int
    frames: int
    cycles: int  # spent on them, delivery included


@dataclass(frozen=True, slots=True)
class NicLive:
    """An adapter and its link, as the dataplane last read them."""

    driver: str  # "igb"
    pci_id: tuple[int, int]  # vendor, device
    mac: bytes
    link_up: bool
    speed_mbps: int  # 0: unknown
    full_duplex: bool
    queues: int
    resets: int
    link_changes: int
    pool_bytes: int  # memory the device can reach
    counters: dict[str, int] = field(default_factory=dict)  # those that the device has


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
