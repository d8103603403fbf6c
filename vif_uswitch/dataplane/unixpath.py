# SPDX-License-Identifier: Apache-2.0
"""Unix sockets by path, without the traps: symbolic links, races, the 107 byte limit.

The directory is opened once and the name below it is reached through
/proc/self/fd, so that neither a long path nor a link swapped in between check
and use matters.  Used for the dataplane link and for vhost-user sockets; all
calls return at once.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotASocket(OSError):
    """The path exists and is something else than a socket."""


class Escapes(OSError):
    """The path leads out of the directory it must lie in."""


@contextmanager
def directory(path: str, below: str | None = None) -> Iterator[int]:
    """An O_PATH descriptor of the directory of ``path``, checked to lie in or below ``below``."""
    fd = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if below is not None:
            real = Path(os.readlink(f"/proc/self/fd/{fd}"))
            if not real.is_relative_to(os.path.realpath(below)):
                raise Escapes(0, f"its directory is {real}, outside of {below}", path)
        yield fd
    finally:
        os.close(fd)


def connect(
    path: str, kind: int, below: str | None = None
) -> socket.socket:  # kind: SOCK_STREAM or SOCK_SEQPACKET
    """A non-blocking connected socket.  Never waits: a full backlog is BlockingIOError."""
    with directory(path, below) as at:
        name = os.path.basename(path)
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            if not stat.S_ISSOCK(os.fstat(target).st_mode):
                raise NotASocket(0, "not a socket", path)
            sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
            try:
                sock.connect(f"/proc/self/fd/{target}")
            except BaseException:
                sock.close()
                raise
            return sock
        finally:
            os.close(target)


def bind(
    path: str, kind: int, *, mode: int = 0o600, group: int = -1, below: str | None = None
) -> tuple[socket.socket, tuple[int, int]]:
    """A bound socket, not listening yet, and (device, inode) of its file.

    Nobody can connect before listen(), so the file has its mode and group in
    time.  The caller has made sure that nothing is in the way.
    """
    with directory(path, below) as at:
        name = os.path.basename(path)
        sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
        try:
            sock.bind(f"/proc/self/fd/{at}/{name}")
            os.chmod(name, mode, dir_fd=at)
            if group != -1:
                os.chown(name, -1, group, dir_fd=at)
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
        except BaseException:
            sock.close()
            raise
        return sock, (found.st_dev, found.st_ino)


def is_alive(path: str, kind: int) -> bool:
    """Whether somebody listens there.  No file and a stale socket are both False."""
    try:
        connect(path, kind).close()
    except BlockingIOError:
        return True  # a full backlog has an owner
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def remove_if(path: str, identity: tuple[int, int]) -> None:
    """Unlinks the socket file, if it is still the one that was bound."""
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity and stat.S_ISSOCK(found.st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return
