# SPDX-License-Identifier: Apache-2.0
"""What one vhost-user peer has negotiated: records, and the file descriptors that came with them.

``Session`` owns them all: guest memory's, the dirty log's, each ring's
eventfds.  Messages change it by way of ``dispatch.py``.  It is also the memory
of what a new dataplane must be told (``ring_start.replay()``) and, slot by
slot of the escrow, of what the next uswitchd must know (``entry()``,
``restore_…()``).  No I/O, except closing file descriptors.
"""

from __future__ import annotations

import msgspec

from vif_uswitch.daemon.escrow import (
    SLOT_LOG,
    SLOT_MEMORY,
    SLOT_RING,
    SLOT_SESSION,
    LogRecord,
    MemoryRecord,
    Record,
    RegionRecord,
    RingRecord,
    SessionRecord,
)
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost import msg
from vif_uswitch.daemon.vhost.arrival import Arrival
from vif_uswitch.daemon.vhost.dirty import LogFile, in_force
from vif_uswitch.daemon.vhost.fds import Fds
from vif_uswitch.daemon.vhost.ring import EVENTFDS, Ring, close_regions
from vif_uswitch.dataplane.base import DirtyLog, MemRegion

RINGS_MAX = 16  # US_RINGS_MAX
MEM_SLOTS = 64  # US_REGIONS_MAX


class Session:
    """``offered``: feature bits; ``mtu``, ``queues``: the port's."""

    def __init__(
        self, offered: int, mtu: int, queues: int = 1, peer_pid: int | None = None
    ) -> None:
        self.offered = offered
        self.mtu = mtu
        self.record = SessionRecord(peer_pid=peer_pid, queue_pairs=queues)
        self.memory: tuple[MemRegion, ...] = ()
        self.log: LogFile | None = None
        self.recording: DirtyLog | None = None  # what the dataplane was told of it
        self.arrival = Arrival()
        self.rings = [Ring(i) for i in range(RINGS_MAX)]
        self._changed: set[int] = set()  # slots of the escrow
        self._used = {SLOT_SESSION, SLOT_MEMORY}

    def close(self) -> None:
        """Closes every file descriptor of the session."""
        close_regions(self.memory, keep=())
        self.memory = ()
        if self.log is not None:
            self.log.close()
        self.log = None
        for ring in self.rings:
            ring.close()

    def enabled(self, ring: Ring) -> bool:
        """Without PROTOCOL_FEATURES rings start enabled, with it SET_VRING_ENABLE says so."""
        if ring.record.enabled is not None:
            return ring.record.enabled
        return not self.record.features & virtio.PROTOCOL_FEATURES

    @property
    def packed(self) -> bool:
        """The layout of the rings (virtio 1.2, §2.7 split, §2.8 packed)."""
        return bool(self.record.features & virtio.RING_PACKED)

    @property
    def split(self) -> bool:
        """Known to be split.  Until SET_FEATURES a ring is told of without its layout; what only
        one layout may have is looked at when the ring starts."""
        return self.record.features_set and not self.packed

    @property
    def running(self) -> bool:
        """Whether frames can flow both ways: how many of its queues a guest uses is its choice."""
        up = {r.index % 2 for r in self.rings if r.record.active and self.enabled(r)}
        return len(up) == 2

    @property
    def stopped(self) -> bool:
        """Whether nobody serves any of its rings."""
        return not any(ring.record.active for ring in self.rings)

    @property
    def departing(self) -> bool:
        """Whether its guest is, or is about to be, on another host: its memory was being copied
        there, and its rings have stopped."""
        return self.recording is not None and self.stopped

    @property
    def rings_used(self) -> list[Ring]:
        """Those that the peer ever spoke of."""
        return [ring for ring in self.rings if SLOT_RING + ring.index in self._used]

    # ---- changes ----

    def set_record(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        self._changed.add(SLOT_SESSION)

    def replace_memory(self, regions: tuple[MemRegion, ...]) -> None:
        """Owns the files of ``regions``; those of the old table that are not among them close."""
        old, self.memory = self.memory, regions
        close_regions(old, keep=regions)
        self._changed.add(SLOT_MEMORY)

    def replace_log(self, log: LogFile) -> None:
        """Owns ``log``; the old one is closed."""
        if self.log is not None:
            self.log.close()
        self.log = log
        self._changed.add(SLOT_LOG)

    def mark_ring(self, ring: Ring) -> None:
        """Its record or its eventfds changed."""
        self._changed.add(SLOT_RING + ring.index)

    def take_changed(self) -> tuple[int, ...]:
        """The slots of the escrow that changed since the last call."""
        slots, self._changed = tuple(sorted(self._changed)), set()
        self._used.update(slots)
        return slots

    # ---- escrow ----

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots of the escrow that the session has."""
        return tuple(sorted(self._used))

    def claim_all(self) -> None:
        """What is in the escrow is not to be trusted: the session may have any ring."""
        self._used.update(SLOT_RING + ring.index for ring in self.rings)
        self._used.add(SLOT_LOG)

    def entry(self, slot: int) -> tuple[Record, tuple[int, ...]]:
        """What belongs into a slot; the connection's fd is added by who owns it."""
        if slot == SLOT_SESSION:
            return self.record, ()
        if slot == SLOT_MEMORY:
            rows = (RegionRecord(r.gpa, r.size, r.uva, r.mmap_offset) for r in self.memory)
            return MemoryRecord(tuple(rows)), tuple(r.fd for r in self.memory)
        if slot == SLOT_LOG:
            if self.log is None:
                return LogRecord(), ()
            return LogRecord(self.log.area.size, self.log.area.offset), (self.log.fd,)
        ring = self.rings[slot - SLOT_RING]
        return ring.record, ring.fds()

    def restore_memory(self, record: MemoryRecord, fds: Fds) -> None:
        if len(record.regions) != len(fds) or len(fds) > MEM_SLOTS:
            raise ValueError(f"{len(record.regions)} regions with {len(fds)} fds")
        rows = zip(record.regions, fds.take_all(), strict=True)
        self.memory = tuple(MemRegion(r.gpa, r.size, r.uva, r.mmap_offset, fd) for r, fd in rows)

    def restore_log(self, record: LogRecord, fds: Fds) -> None:
        if len(fds) != (record.size > 0):
            raise ValueError(f"a dirty log of {record.size} bytes with {len(fds)} fds")
        fd = fds.take_one()
        if fd is not None:
            self.log = LogFile(msg.Log(record.size, record.offset), fd)
            self._used.add(SLOT_LOG)

    def restored(self) -> None:
        """Everything is back; the dataplane was told of it by an earlier uswitchd."""
        self.recording = in_force(self.record.features, self.log, self.rings)
        self.arrival.settled = self.running

    def restore_ring(self, index: int, record: RingRecord, fds: Fds) -> None:
        names = [n for n in EVENTFDS if getattr(record, f"has_{n}")]
        if not 0 <= index < 2 * self.record.queue_pairs or len(names) != len(fds):
            raise ValueError(f"ring {index} with {len(fds)} fds")
        ring = self.rings[index]
        for name, fd in zip(names, fds.take_all(), strict=True):
            ring.swap(name, fd)
        ring.record = record
        self._used.add(SLOT_RING + index)
