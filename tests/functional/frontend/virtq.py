# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a split virtqueue (virtio 1.2, 2.7), in a test's guest RAM.

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
DESC = struct.Struct("<QIHH")
_U16 = struct.Struct("<H")
_USED = struct.Struct("<II")


def make_eventfd() -> int:
    """A non-blocking eventfd (os.eventfd exists on Python >= 3.10)."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


class DriverRing:
    """One virtqueue with its memory, indexes and eventfds."""

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

    # -- what a driver does -----------------------------------------------

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
