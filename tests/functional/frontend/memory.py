# SPDX-License-Identifier: Apache-2.0
"""Guest RAM for tests: regions backed by memfds (of huge pages too), with a bump allocator.

Addresses are guest physical (gpa) throughout; ``uva`` is what the front-end
claims its own address to be and needs no relation to our process.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field


@dataclass(slots=True)
class Region:
    """One memory slot."""

    gpa: int
    size: int
    uva: int
    fd: int
    offset: int = 0
    map: mmap.mmap = field(init=False)

    def __post_init__(self) -> None:
        self.map = mmap.mmap(self.fd, self.size, offset=self.offset)

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


class GuestRam:
    """A guest's memory: one region by default, more on demand."""

    def __init__(
        self, size: int = 8 << 20, gpa: int = 0, uva: int = 0x7F00_0000_0000, kind: int = 0
    ) -> None:
        """``kind``: flags of memfd_create(), for example os.MFD_HUGETLB."""
        self.regions: list[Region] = []
        self._kind = kind
        self.add_region(size, gpa, uva)
        self._next = gpa + 0x1000

    def add_region(self, size: int, gpa: int, uva: int) -> Region:
        fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC | self._kind)
        os.ftruncate(fd, size)
        region = Region(gpa, size, uva, fd)
        self.regions.append(region)
        return region

    def alloc(self, size: int, align: int = 64) -> int:
        """Reserve bytes in the first region; returns their gpa."""
        start = -(-self._next // align) * align
        first = self.regions[0]
        if start + size > first.gpa + first.size:
            raise MemoryError("guest RAM of the test is used up")
        self._next = start + size
        return start

    def skip_to(self, gpa: int) -> None:
        """What comes next is allocated from there on."""
        self._next = gpa

    def clear(self) -> None:
        """Zeros everywhere, nothing allocated: the guest rebooted."""
        for region in self.regions:
            region.map[:] = bytes(region.size)
        self._next = self.regions[0].gpa + 0x1000

    def _at(self, gpa: int, size: int) -> tuple[Region, int]:
        for region in self.regions:
            if region.gpa <= gpa and gpa + size <= region.gpa + region.size:
                return region, gpa - region.gpa
        raise ValueError(f"gpa {gpa:#x}+{size} is outside the guest's memory")

    def write(self, gpa: int, data: bytes) -> None:
        region, off = self._at(gpa, len(data))
        region.map[off : off + len(data)] = data

    def read(self, gpa: int, size: int) -> bytes:
        region, off = self._at(gpa, size)
        return region.map[off : off + size]

    def uva(self, gpa: int) -> int:
        region, off = self._at(gpa, 1)
        return region.uva + off

    def close(self) -> None:
        for region in self.regions:
            region.close()
        self.regions.clear()
