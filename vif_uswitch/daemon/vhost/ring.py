# SPDX-License-Identifier: Apache-2.0
"""The parts of a vhost-user session that own file descriptors: rings and memory regions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from vif_uswitch.daemon.escrow import RingRecord
from vif_uswitch.daemon.vhost import msg
from vif_uswitch.daemon.vhost.fds import Fds, check_memory
from vif_uswitch.dataplane.base import MemRegion

EVENTFDS = ("kick", "call", "err")


@dataclass(slots=True)
class Ring:
    """One virtqueue: its record, and the eventfds (owned)."""

    index: int
    record: RingRecord = field(default_factory=RingRecord)
    kick: int | None = None
    call: int | None = None
    err: int | None = None

    @property
    def ready(self) -> bool:
        r = self.record
        return bool(r.size and r.addressed and r.kicked)

    def update(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)

    def swap(self, name: str, fd: int | None) -> None:
        """Replaces one of the eventfds; the old one is closed."""
        close_fd(getattr(self, name))
        setattr(self, name, fd)
        self.update(**{f"has_{name}": fd is not None})

    def close(self) -> None:
        for name in EVENTFDS:
            self.swap(name, None)

    def fds(self) -> tuple[int, ...]:
        return tuple(fd for fd in (self.kick, self.call, self.err) if fd is not None)


def close_fd(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)


def claim(regions: tuple[msg.Region, ...], fds: Fds) -> tuple[MemRegion, ...]:
    """Regions with their files, all checked before any is taken."""
    for region, fd in zip(regions, fds, strict=True):
        check_memory(fd, region.mmap_offset, region.size)
    rows = zip(regions, fds.take_all(), strict=True)
    return tuple(MemRegion(r.gpa, r.size, r.uva, r.mmap_offset, fd) for r, fd in rows)


def close_regions(regions: Iterable[MemRegion], keep: Iterable[MemRegion]) -> None:
    kept = {region.fd for region in keep}
    for region in regions:
        if region.fd not in kept:
            os.close(region.fd)


def region_of(regions: Iterable[MemRegion], uva: int, size: int) -> MemRegion | None:
    """The region that holds ``size`` bytes at a front-end's address."""
    for region in regions:
        if region.uva <= uva and uva + size <= region.uva + region.size:
            return region
    return None


def covers(regions: tuple[MemRegion, ...], r: RingRecord, packed: bool) -> bool:
    """Whether all three parts of a ring lie in the table (virtio 1.2 §2.7, §2.8.10.1)."""
    avail, used = (4, 4) if packed else (6 + 2 * r.size, 6 + 8 * r.size)
    parts = ((r.desc_uva, 16 * r.size), (r.avail_uva, avail), (r.used_uva, used))
    return all(region_of(regions, uva, size) is not None for uva, size in parts)
