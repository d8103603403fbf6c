# SPDX-License-Identifier: Apache-2.0
"""The front-end's side of dirty logging: a log in a memfd, switched on and off, and read.

As a front-end does it that migrates its guest: the bits are taken away, then
the pages that had one are copied.  One bit a page of 4 KiB, the lowest bit of
the first byte is the page at guest physical address 0 (QEMU docs/interop/
vhost-user, "Migration").
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable

from . import messages as m
from .peer import RX, TX, Frontend

PAGE = 4096
F_LOG = 1  # of SET_VRING_ADDR


class DirtyLog:
    """A log for one front-end, just long enough for its memory."""

    def __init__(self, front: Frontend) -> None:
        self.front = front
        self.pages = max(r.gpa + r.size for r in front.ram.regions) // PAGE
        self.size = self.pages // 8
        self.fd = os.memfd_create("dirty-log", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.size)
        self.map = mmap.mmap(self.fd, self.size)

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)

    def __enter__(self) -> DirtyLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- messages -------------------------------------------------------------

    def set_base(self, size: int | None = None, offset: int = 0) -> None:
        payload = struct.pack("<QQ", self.size if size is None else size, offset)
        answer = self.front.ask(m.Req.SET_LOG_BASE, payload, [self.fd])
        assert struct.unpack("<Q", answer) == (0,)

    def set_features(self, on: bool) -> int:
        features = self.front.features | (m.F_LOG_ALL if on else 0)
        return self.front.acked(m.Req.SET_FEATURES, struct.pack("<Q", features))

    def set_ring(self, index: int, on: bool, gpa: int | None = None) -> int:
        """SET_VRING_ADDR again, with the used ring logged where it lies, or at ``gpa``."""
        ring, uva = self.front.rings[index], self.front.ram.uva
        where = ring.used if gpa is None else gpa
        addr = m.pack_ring_addr(
            index, uva(ring.desc), uva(ring.used), uva(ring.avail), F_LOG * on, where * on
        )
        return self.front.acked(m.Req.SET_VRING_ADDR, addr)

    def turn_on(self) -> None:
        self.set_base()
        assert self.set_features(True) == 0
        assert [self.set_ring(index, True) for index in (RX, TX)] == [0, 0]

    def turn_off(self) -> None:
        assert self.set_features(False) == 0
        assert [self.set_ring(index, False) for index in (RX, TX)] == [0, 0]

    # -- bits -----------------------------------------------------------------

    def dirty(self) -> set[int]:
        """Pages that have their bit."""
        data = self.map[:]
        return {8 * at + bit for at, byte in enumerate(data) if byte
                for bit in range(8) if byte >> bit & 1}  # fmt: skip

    def clear(self) -> None:
        self.map[:] = bytes(self.size)

    def snapshot(self) -> list[bytes]:
        return [region.map[:] for region in self.front.ram.regions]

    def changed(self, before: Iterable[bytes]) -> set[int]:
        """Pages that differ from a snapshot."""
        return {
            (region.gpa + at) // PAGE
            for region, old in zip(self.front.ram.regions, before, strict=True)
            for at in range(0, region.size, PAGE)
            if region.map[at : at + PAGE] != old[at : at + PAGE]
        }
