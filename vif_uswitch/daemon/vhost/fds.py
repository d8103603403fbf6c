# SPDX-License-Identifier: Apache-2.0
"""Is a file descriptor from a peer what the message says it is?

The peer chooses the file behind it, so the questions asked here must not
reach a file system server of its own: a FUSE file could hold up fstat() for
ever.  fcntl(F_GET_SEALS) works on tmpfs and hugetlbfs only and asks nobody;
the link in /proc/self/fd of an anonymous inode is made by the kernel.  The
dataplane checks the same again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterable, Iterator

_F_SEAL_FUTURE_WRITE = 0x10


class Unfit(Exception):
    """Why a file descriptor is refused."""


class Fds:
    """The file descriptors of one message: taken one by one, the rest is closed."""

    def __init__(self, fds: Iterable[int] = ()) -> None:
        self._fds = list(fds)

    def __len__(self) -> int:
        return len(self._fds)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._fds))

    def take_one(self) -> int | None:
        """The first, or None."""
        return self._fds.pop(0) if self._fds else None

    def take_all(self) -> tuple[int, ...]:
        """The caller owns them from here on."""
        fds, self._fds = tuple(self._fds), []
        return fds

    def close(self) -> None:
        for fd in self.take_all():
            os.close(fd)


def check_eventfd(fd: int) -> None:
    """Kick, call and err: nothing but an eventfd; a pipe or a terminal can block who writes."""
    name = os.readlink(f"/proc/self/fd/{fd}")
    if name != "anon_inode:[eventfd]":
        raise Unfit(f"not an eventfd but {name[:60]!r}")


def check_memory(fd: int, mmap_offset: int, size: int, what: str = "guest memory") -> None:
    """Guest memory, or its log: a writable file in memory, at least as long as the region."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise Unfit(
            f"{what} is not a file on tmpfs or hugetlbfs; it must be shared memory "
            "(memory-backend-memfd or memory-backend-file with share=on)"
        ) from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Unfit(f"{what} is not a regular file")
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        raise Unfit(f"the file of {what} is not open for reading and writing")
    if seals & (fcntl.F_SEAL_WRITE | _F_SEAL_FUTURE_WRITE):
        raise Unfit(f"the file of {what} is sealed against writing")
    if mmap_offset + size > found.st_size:
        raise Unfit(
            f"the file of {what} has {found.st_size} bytes, where {mmap_offset + size} are needed"
        )


def write_eventfds(fds: Iterable[int]) -> threading.Thread:
    """Raises each eventfd by one, in a thread of its own.

    The peer owns the flags of the file: it can make a write block for ever, so
    the event loop must not do it.  The thread has copies of the fds; the caller
    sees to it that a port has one such thread at most.
    """
    copies = [os.dup(fd) for fd in fds]

    def write() -> None:
        for fd in copies:
            with contextlib.suppress(OSError):
                os.eventfd_write(fd, 1)
            os.close(fd)

    thread = threading.Thread(target=write, name="err-eventfds", daemon=True)
    thread.start()
    return thread
