# SPDX-License-Identifier: Apache-2.0
"""State pages: what a dataplane writes about its ports and workers, read without asking it.

``StatePage`` belongs to one port and outlives dataplanes: its memfd is made
here, handed to every new process, and kept in escrow.  ``SwitchPage`` belongs
to one process.  Both are mapped read-only; the one word that uswitchd writes,
``session_busy``, goes through pwrite().  Values may be torn between two
counters, never within one: all are aligned words.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import sys
from dataclasses import dataclass
from typing import Any

from vif_uswitch.dataplane import native
from vif_uswitch.dataplane.live import (
    DataplaneLive,
    NicLive,
    QueueCounters,
    QueueLive,
    RingLive,
    WorkerLive,
)
from vif_uswitch.dataplane.native import constant, ffi

PAGE_SIZE = constant("US_STATE_PAGE_SIZE")
SWITCH_PAGE_SIZE = constant("US_SWITCH_PAGE_SIZE")
SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

_BUSY_AT = ffi.offsetof("struct us_state_page", "session_busy")
_COUNTERS = ("frames", "bytes", "flooded", "gso", "csum_fixed", "gso_fixed", "bursts", "signals")
_NIC_COUNTERS = native.nic_counter_names()
_NO_COUNTER = constant("US_NIC_COUNTER_NONE")
_DROPS_MAX = constant("US_DROPS_MAX")
_WORDS = ffi.sizeof("struct us_queue_counters") // 8  # every member is a uint64_t
_COLUMNS = {name: ffi.offsetof("struct us_queue_counters", name) // 8 for name in _COUNTERS}
_DROP_AT = ffi.offsetof("struct us_queue_counters", "drop") // 8


class BadPage(ValueError):
    """A memfd that is no page of this version."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Why the dataplane fenced a port."""

    reason: str
    text: str
    ring: int
    detail: int


def create(port_id: int) -> int:
    """The memfd of a new state page: its size sealed, writable.  The caller owns it."""
    fd = os.memfd_create(f"uswitch-port-{port_id}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, PAGE_SIZE)
        values = (constant("US_STATE_MAGIC"), constant("US_ABI_VERSION"), port_id)
        os.pwrite(fd, b"".join(value.to_bytes(4, sys.byteorder) for value in values), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SIZE_SEALS | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def _map(fd: int, size: int) -> mmap.mmap:
    """A mapping that cannot lose its memory, or BadPage."""
    try:
        found = os.fstat(fd)
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise BadPage(f"not a memfd: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size != size or not seals & fcntl.F_SEAL_SHRINK:
        raise BadPage(f"{found.st_size} bytes with seals {seals:#x}")
    return mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)


class StatePage:
    """View of a port's state page.  Owns ``fd`` from the moment it is made."""

    def __init__(self, fd: int, port_id: int) -> None:
        self.fd = fd
        try:
            self._map = _map(fd, PAGE_SIZE)
        except BadPage:
            os.close(fd)
            raise
        self._page: Any = ffi.cast("struct us_state_page *", ffi.from_buffer(self._map))
        found = (self._page.magic, self._page.version, self._page.port_id)
        if found != (constant("US_STATE_MAGIC"), constant("US_ABI_VERSION"), port_id):
            self.close()
            raise BadPage(f"magic, version and port are {found}")

    @classmethod
    def make(cls, port_id: int) -> StatePage:
        return cls(create(port_id), port_id)

    def close(self) -> None:
        if self.fd >= 0:
            self._page = None
            self._map.close()  # it holds a duplicate of the fd
            os.close(self.fd)
            self.fd = -1

    @property
    def busy(self) -> bool:
        """Whether a uswitchd is, or died, in the middle of a peer's request."""
        return bool(self._page.session_busy)

    @busy.setter
    def busy(self, value: bool) -> None:
        os.pwrite(self.fd, int(value).to_bytes(4, sys.byteorder), _BUSY_AT)

    def broken(self) -> Broken | None:
        page = self._page
        reason = int(page.broken)
        if not reason:
            return None
        return Broken(
            native.break_name(reason), native.break_text(reason), int(page.broken_ring),
            int(page.broken_detail),
        )  # fmt: skip

    def next_avail(self, ring: int) -> int:
        """Where a ring that nobody serves any more goes on: what was published as used.

        Completion is in order, so buffers taken but not returned are taken again.
        """
        return int(self._page.ring[ring].used_idx)

    def burst(self, ring: int) -> int:
        """Which positions of a packed ring were being handed back last (``virtq_packed.h``)."""
        return int(self._page.ring[ring].burst)

    def ring(self, index: int, enabled: bool) -> RingLive:
        row = self._page.ring[index]
        queue = (getattr(self._page, "in") if index % 2 else self._page.out)[index // 2]
        return RingLive(
            index, bool(row.active), enabled, int(row.size), int(row.last_avail),
            int(row.used_idx), int(queue.frames), int(queue.bytes), sum(queue.drop),
        )  # fmt: skip

    def incoming(self) -> QueueCounters:
        """Frames that entered the switch from the port, all queues together."""
        return _sum(getattr(self._page, "in"))

    def outgoing(self) -> QueueCounters:
        return _sum(self._page.out)

    def queues(self) -> tuple[QueueLive, ...]:
        """The incoming queues that somebody serves."""
        return tuple(
            QueueLive(index, int(row.worker) - 1, int(row.frames), int(row.cycles))
            for index, row in enumerate(getattr(self._page, "in"))
            if row.worker
        )

    def nic(self) -> NicLive | None:
        """The adapter behind the port; None if there is none, or no dataplane has started it."""
        row = self._page.nic
        driver = bytes(row.driver).split(b"\0")[0]
        if not driver:
            return None
        counters = zip(_NIC_COUNTERS, row.counter, strict=False)
        return NicLive(
            driver=driver.decode("ascii", "replace"),
            pci_id=(int(row.pci_vendor), int(row.pci_device)),
            mac=bytes(row.mac),
            link_up=bool(row.link_up),
            speed_mbps=int(row.speed_mbps),
            full_duplex=bool(row.full_duplex),
            queues=int(row.n_queues),
            resets=int(row.resets),
            link_changes=int(row.link_changes),
            pool_bytes=int(row.pool_bytes),
            counters={name: int(n) for name, n in counters if n != _NO_COUNTER},
        )


def _sum(queues: Any) -> QueueCounters:
    """All queues together.  One read, then sums by column: listing many ports must be quick."""
    words = ffi.unpack(ffi.cast("uint64_t *", queues), len(queues) * _WORDS)
    rows = [words[at : at + _WORDS] for at in range(0, len(words), _WORDS)]
    totals = list(map(sum, zip(*rows, strict=True)))
    drops = {
        native.drop_name(reason): count
        for reason, count in enumerate(totals[_DROP_AT : _DROP_AT + _DROPS_MAX])
        if reason and count
    }
    return QueueCounters(drops=drops, **{name: totals[at] for name, at in _COLUMNS.items()})


class SwitchPage:
    """View of a dataplane's switch page.  ``fd`` is borrowed and may be closed after this."""

    def __init__(self, fd: int) -> None:
        self._map = _map(fd, SWITCH_PAGE_SIZE)
        self._page: Any = ffi.cast("struct us_switch_page *", ffi.from_buffer(self._map))
        if (self._page.magic, self._page.version) != (
            constant("US_SWITCH_MAGIC"), constant("US_ABI_VERSION")
        ):  # fmt: skip
            raise BadPage("not a switch page of this version")

    def close(self) -> None:
        self._page = None
        self._map.close()

    def live(self, starts: int, adopted: bool) -> DataplaneLive:
        page = self._page
        return DataplaneLive(
            pid=int(page.pid),
            starts=starts,
            adopted=adopted,
            tsc_khz=int(page.tsc_khz),
            fdb_entries=int(page.fdb_entries),
            fdb_capacity=int(page.fdb_capacity),
            fdb_moves=int(page.fdb_moves),
            fdb_evicted=int(page.fdb_evicted),
            fdb_refused=int(page.fdb_refused),
            workers=tuple(self._worker(i) for i in range(min(page.n_workers, len(page.worker)))),
        )

    def _worker(self, index: int) -> WorkerLive:
        row = self._page.worker[index]
        return WorkerLive(
            index=index, tid=int(row.tid), cpu=int(row.cpu), queues=int(row.queues),
            passes=int(row.passes), busy_passes=int(row.busy_passes), cycles=int(row.cycles),
            busy_cycles=int(row.busy_cycles), frames=int(row.frames), sleeps=int(row.sleeps),
            wakeups=int(row.wakeups),
        )  # fmt: skip
