# SPDX-License-Identifier: Apache-2.0
"""Tells when something appears in a directory: one inotify descriptor for all of uswitchd.

``watch()`` says whether it can: a directory may not exist yet, and the kernel's
watches may be used up.  Who waits for a file looks by itself then, and rarely
otherwise: a parent directory that is renamed away takes the news with it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_IN_CREATE = 0x100
_IN_MOVED_TO = 0x80
_IN_MOVE_SELF = 0x800
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x01000000
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class DirWatcher:
    """Calls back, in the event loop, when a name appears in a watched directory."""

    def __init__(self) -> None:
        self._fd = -1
        self._dirs: dict[int, str] = {}  # watch descriptor -> directory
        self._wanted: dict[str, set[Callable[[], None]]] = {}  # path -> who waits for it

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._dirs.clear()
        self._wanted.clear()

    def watch(self, path: str, wake: Callable[[], None]) -> bool:
        """Idempotent.  False: nobody will be told; look yourself, and call again."""
        self._wanted.setdefault(path, set()).add(wake)
        directory = os.path.dirname(path)
        if directory in self._dirs.values():
            return True
        if self._fd < 0:
            self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                return False
            asyncio.get_running_loop().add_reader(self._fd, self._on_readable)
        mask = _IN_CREATE | _IN_MOVED_TO | _IN_MOVE_SELF | _IN_ONLYDIR
        watch = _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask)
        if watch >= 0:
            self._dirs[watch] = directory
        return bool(watch >= 0)

    def unwatch(self, path: str, wake: Callable[[], None]) -> None:
        waiting = self._wanted.get(path, set())
        waiting.discard(wake)
        if waiting:
            return
        self._wanted.pop(path, None)
        directory = os.path.dirname(path)
        if any(os.path.dirname(other) == directory for other in self._wanted):
            return
        for watch, watched in list(self._dirs.items()):
            if watched == directory:
                _libc.inotify_rm_watch(self._fd, watch)
                del self._dirs[watch]

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fd, 16384)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            self._tell(watch, mask, os.fsdecode(name))

    def _tell(self, watch: int, mask: int, name: str) -> None:
        if mask & _IN_Q_OVERFLOW:  # something was not told
            self._wake(lambda path: True)
            return
        directory = self._dirs.get(watch)
        if mask & _IN_MOVE_SELF:
            _libc.inotify_rm_watch(self._fd, watch)  # IN_IGNORED follows
        elif mask & _IN_IGNORED:  # the directory itself is gone
            self._dirs.pop(watch, None)
            self._wake(lambda path: os.path.dirname(path) == directory)
        elif directory is not None:
            appeared = os.path.join(directory, name)
            for wake in list(self._wanted.get(appeared, ())):
                wake()

    def _wake(self, concerned: Callable[[str], bool]) -> None:
        for wake in [each for path, all_ in self._wanted.items() if concerned(path)
                     for each in all_]:  # fmt: skip
            wake()
