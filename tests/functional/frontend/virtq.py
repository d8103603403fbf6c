# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a virtqueue, split or packed (virtio 1.2, 2.7, 2.8), in a test's guest RAM.

Chains are given as lists of ``(gpa, length, device_writes)``; every field can be
written raw to misbehave.  Notifications: ``kick`` writes the kick eventfd,
``wait_call`` waits for the call eventfd.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time

from .memory import GuestRam

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15
EVENT_DESC = 2  # RING_EVENT_FLAGS_DESC
DESC = struct.Struct("<QIHH")
_U16 = struct.Struct("<H")
_USED = struct.Struct("<II")


def make_eventfd() -> int:
    """A non-blocking eventfd (os.eventfd exists on Python >= 3.10)."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


class DriverRing:
    """One virtqueue with its memory, indexes and eventfds."""

    start = 0  # avail index of a new ring

    def __init__(self, ram: GuestRam, size: int = 256) -> None:
        self.ram, self.size = ram, size
        self.desc = ram.alloc(16 * size, 16)
        self.avail = ram.alloc(6 + 2 * size, 2)
        self.used = ram.alloc(6 + 8 * size, 4)
        self.kick_fd, self.call_fd, self.err_fd = make_eventfd(), make_eventfd(), make_eventfd()
        self.avail_idx = 0
        self.last_used = 0
        self.free = list(range(size))
        self.chains: dict[int, list[int]] = {}

    def close(self) -> None:
        for fd in (self.kick_fd, self.call_fd, self.err_fd):
            with contextlib.suppress(OSError):
                os.close(fd)

    # -- raw access -------------------------------------------------------

    def write_desc(
        self, index: int, addr: int, length: int, flags: int = 0, next_: int = 0
    ) -> None:
        packed = DESC.pack(addr & (2**64 - 1), length & 0xFFFFFFFF, flags & 0xFFFF, next_ & 0xFFFF)
        self.ram.write(self.desc + 16 * index, packed)

    def put_avail(self, head: int) -> None:
        """Write one entry of the avail ring, not yet visible to the device."""
        self.ram.write(self.avail + 4 + 2 * (self.avail_idx % self.size), _U16.pack(head & 0xFFFF))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF

    def publish(self, index: int | None = None) -> None:
        """Make the entries visible; ``index`` overrides the avail index."""
        shown = self.avail_idx if index is None else index & 0xFFFF
        self.ram.write(self.avail + 2, _U16.pack(shown))

    def used_idx(self) -> int:
        value: int = _U16.unpack(self.ram.read(self.used + 2, 2))[0]
        return value

    def set_no_interrupt(self, on: bool) -> None:
        self.ram.write(self.avail, _U16.pack(1 if on else 0))

    def set_used_event(self, index: int) -> None:
        self.ram.write(self.avail + 4 + 2 * self.size, _U16.pack(index & 0xFFFF))

    @staticmethod
    def entry(addr: int, length: int, flags: int = 0, next_: int = 0) -> bytes:
        """An entry of an indirect table."""
        return DESC.pack(addr, length, flags, next_)

    # -- what a driver does -----------------------------------------------

    def room(self) -> int:
        """Descriptors that can be queued now."""
        return len(self.free)

    def add(self, parts: list[tuple[int, int, bool]]) -> int:
        """Queue a chain (visible after publish()); returns its head."""
        if len(parts) > len(self.free):
            raise BufferError("no free descriptors")
        chain = [self.free.pop(0) for _ in parts]
        for i, (gpa, length, writes) in enumerate(parts):
            last = i == len(parts) - 1
            flags = (WRITE if writes else 0) | (0 if last else NEXT)
            self.write_desc(chain[i], gpa, length, flags, 0 if last else chain[i + 1])
        self.chains[chain[0]] = chain
        self.put_avail(chain[0])
        return chain[0]

    def add_indirect(self, parts: list[tuple[int, int, bool]], table: int) -> int:
        """Queue a chain through an indirect table at gpa ``table``."""
        head = self.free.pop(0)
        for i, (gpa, length, writes) in enumerate(parts):
            last = i == len(parts) - 1
            flags = (WRITE if writes else 0) | (0 if last else NEXT)
            self.ram.write(table + 16 * i, DESC.pack(gpa, length, flags, 0 if last else i + 1))
        self.write_desc(head, table, 16 * len(parts), INDIRECT)
        self.chains[head] = [head]
        self.put_avail(head)
        return head

    def take_used(self) -> list[tuple[int, int]]:
        """Completed chains since the last call: (head, bytes written); frees their descriptors."""
        out = []
        index = self.used_idx()
        while self.last_used != index:
            entry = self.ram.read(self.used + 4 + 8 * (self.last_used % self.size), 8)
            head, written = _USED.unpack(entry)
            self.free.extend(self.chains.pop(head, []))
            out.append((head, written))
            self.last_used = (self.last_used + 1) & 0xFFFF
        return out

    def kick(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.kick_fd, 1)

    def wait_used(self, count: int = 1, timeout: float = 5.0) -> list[tuple[int, int]]:
        """Wait until ``count`` more chains came back, or the time is over; returns what came."""
        done: list[tuple[int, int]] = []
        end = time.monotonic() + timeout
        while True:
            done += self.take_used()
            left = end - time.monotonic()
            if len(done) >= count or left <= 0:
                return done
            # Poll as well: a driver may have switched interrupts off.
            if select.select([self.call_fd], [], [], min(left, 0.01))[0]:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.call_fd)


class PackedRing(DriverRing):
    """The same for a packed ring: ``avail_idx`` and ``last_used`` are positions.

    A position has the wrap counter in bit 15.
    Its areas are those of a split ring; the events' areas need less.
    """

    start = 0x8000

    def __init__(self, ram: GuestRam, size: int = 256) -> None:
        super().__init__(ram, size)
        self.avail = ram.alloc(4, 4)
        self.avail_idx = self.last_used = self.start
        self._heads: list[tuple[int, bytes]] = []  # flags to be stored by publish()
        self._chains: list[tuple[int, int, bool]] = []  # id, descriptors, id to be freed; in order
        self._raw: dict[int, tuple[int, int, int, int]] = {}

    def _after(self, position: int, n: int = 1) -> int:
        index = (position & 0x7FFF) + n
        wrap = position & 0x8000
        return wrap | index if index < self.size else (wrap ^ 0x8000) | (index - self.size)

    # A chain may be written as for a split ring; put_avail() lays it into the ring, whatever it
    # says, with its head as its id.  One without an end is cut when it has filled the ring.

    def write_desc(
        self, index: int, addr: int, length: int, flags: int = 0, next_: int = 0
    ) -> None:
        self._raw[index] = addr & (2**64 - 1), length & 0xFFFFFFFF, flags, next_

    def put_avail(self, head: int) -> None:
        parts: list[tuple[int, int, int]] = []
        index = head
        while len(parts) < self.size:
            addr, length, flags, index = self._raw[index]
            parts.append((addr, length, flags))
            if not flags & NEXT:
                break
        self._put(parts, head)

    @staticmethod
    def entry(addr: int, length: int, flags: int = 0, next_: int = 0) -> bytes:
        return DESC.pack(addr, length, next_, flags)

    def set_used_event(self, index: int) -> None:
        self.ram.write(self.avail, _U16.pack(index) + _U16.pack(EVENT_DESC))

    def _put(self, parts: list[tuple[int, int, int]], head: int | None = None) -> int:
        """Descriptors in a row, the first one's flags left to publish()."""
        ident = self.free.pop(0) if head is None else head
        for i, (gpa, length, kind) in enumerate(parts):
            flags = kind | (AVAIL if self.avail_idx & 0x8000 else USED)
            at = self.desc + 16 * (self.avail_idx & 0x7FFF)
            entry = DESC.pack(gpa, length, ident, flags)
            self.ram.write(at, entry[:14])
            if i == 0:
                self._heads.append((at + 14, entry[14:]))
            else:
                self.ram.write(at + 14, entry[14:])
            self.avail_idx = self._after(self.avail_idx)
        self._chains.append((ident, len(parts), head is None))
        return ident

    def room(self) -> int:
        return self.size - sum(n for _, n, _ in self._chains)

    def publish(self, index: int | None = None) -> None:
        for at, flags in reversed(self._heads):
            self.ram.write(at, flags)
        self._heads.clear()

    def used_idx(self) -> int:
        """Where the device goes on, if everything that it handed back was taken."""
        return self.last_used

    def set_no_interrupt(self, on: bool) -> None:
        self.ram.write(self.avail + 2, _U16.pack(1 if on else 0))

    def add(self, parts: list[tuple[int, int, bool]]) -> int:
        if len(parts) > self.room():
            raise BufferError("no free descriptors")
        last = len(parts) - 1
        return self._put(
            [
                (gpa, length, (WRITE if writes else 0) | (0 if i == last else NEXT))
                for i, (gpa, length, writes) in enumerate(parts)
            ]
        )

    def add_indirect(self, parts: list[tuple[int, int, bool]], table: int) -> int:
        for i, (gpa, length, writes) in enumerate(parts):
            entry = DESC.pack(gpa, length, 0, WRITE if writes else 0)
            self.ram.write(table + 16 * i, entry)
        return self._put([(table, 16 * len(parts), INDIRECT)])

    def take_used(self) -> list[tuple[int, int]]:
        out: list[tuple[int, int]] = []
        while True:
            entry = self.ram.read(self.desc + 16 * (self.last_used & 0x7FFF), 16)
            _, written, ident, flags = DESC.unpack(entry)
            want = AVAIL | USED if self.last_used & 0x8000 else 0
            if (flags & (AVAIL | USED)) != want or not self._chains:
                return out
            mine, length, ours = self._chains.pop(0)
            assert ident == mine, "chains come back in the order in which they were offered"
            self.last_used = self._after(self.last_used, length)
            if ours:
                self.free.append(ident)
            out.append((ident, written))
