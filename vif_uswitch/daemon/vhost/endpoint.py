# SPDX-License-Identifier: Apache-2.0
"""Where the connections of vhost-user ports come from: we listen, or QEMU does.

Both classes hand over connected sockets, one at a time as the port asks for
them, and say why they cannot.  Paths are opened without following symbolic
links and must lie below the configured directory.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress

from vif_uswitch.daemon.vhost.inotify import DirWatcher
from vif_uswitch.dataplane import unixpath
from vif_uswitch.exceptions import Conflict, InvalidInput, Unavailable
from vif_uswitch.places import UNIX_PATH_MAX

LOG = logging.getLogger(__name__)

ACCEPT_PAUSE_S = 1.0
RETRY_FIRST_S = 0.005
RETRY_MAX_S = 1.0
LOOK_S = 60.0  # where news of the file comes by itself

Taker = Callable[[socket.socket], None]


def peer_pid(sock: socket.socket) -> int | None:
    """Process behind a connected unix socket; None if it is in another pid namespace."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    return struct.unpack("3i", data)[0] or None


def check_path(path: str, below: str) -> None:
    """What can be said about a path without looking at the file system."""
    what = "the vhost-user socket"
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        raise InvalidInput(what, path, "not a plain absolute path", "give it without . and ..")
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise InvalidInput(
            what, path, f"longer than {UNIX_PATH_MAX} bytes, the kernel's limit",
            "use a shorter path",
        )  # fmt: skip
    try:
        inside = os.path.commonpath([path, below]) == os.path.normpath(below)
    except ValueError:
        inside = False
    if not inside or path == os.path.normpath(below):
        raise InvalidInput(
            what, path, f"not below {below}", "use a path below it, or change vhost_socket_dir"
        )


class Listener:
    """We listen, QEMU connects (mode client).  Owns the listening socket."""

    def __init__(
        self, path: str, sock: socket.socket, identity: tuple[int, int], take: Taker
    ) -> None:
        self.path = path
        self.sock = sock
        self.identity = identity  # device and inode of the socket file
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock, self._accept)

    @classmethod
    def make(cls, path: str, below: str, mode: int, group: int, take: Taker) -> Listener:
        """Creates the socket file; a stale one is replaced."""
        check_path(path, below)
        try:
            _clear(path)
            sock, identity = unixpath.bind(
                path, socket.SOCK_STREAM, mode=mode, group=group, below=below
            )
        except OSError as error:
            raise Unavailable(
                "cannot listen on the vhost-user socket", path, error.strerror or str(error),
                "check that uswitchd may write to its directory",
            ) from error  # fmt: skip
        sock.listen(8)
        return cls(path, sock, identity, take)

    def close(self) -> None:
        """Nobody can connect any more; the file is gone."""
        unixpath.remove_if(self.path, self.identity)
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # the dataplane holds a copy
        self.forget()

    def forget(self) -> None:
        """Closes our copy only."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.sock)
        self.sock.close()

    def _accept(self) -> None:
        try:
            sock, _ = self.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors or memory: the connection waits in line, and so do we.
            LOG.warning("%s: cannot accept a connection: %s", self.path, error.strerror)
            self._loop.remove_reader(self.sock)
            self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._resume)
            return
        self._take(sock)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self.sock, self._accept)


def _clear(path: str) -> None:
    """Removes what a dead process left; refuses to touch anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(
            "the vhost-user socket", path, "something that is no socket is in the way",
            "remove it, or choose another path",
        )  # fmt: skip
    if unixpath.is_alive(path, socket.SOCK_STREAM):
        raise Conflict(
            "the vhost-user socket", path, "another process listens on it",
            "stop that process, or choose another path",
        )  # fmt: skip
    os.unlink(path)


class Connector:
    """QEMU listens, we connect (mode server).  Idle while the port has a connection."""

    def __init__(
        self, path: str, below: str, watcher: DirWatcher, take: Taker, say: Callable[[str], None]
    ) -> None:
        check_path(path, below)
        self.path = path
        self._below = below
        self._watcher = watcher
        self._take = take
        self._say = say
        self._said = ""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = RETRY_FIRST_S

    def resume(self, at_once: bool = True) -> None:
        """Start trying; ``at_once`` is False after a peer that misbehaved."""
        self._pause = RETRY_FIRST_S if at_once else RETRY_MAX_S
        self._watcher.watch(self.path, self._appeared)
        self._arm(0 if at_once else self._pause)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watcher.unwatch(self.path, self._appeared)

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, self._try)

    def _appeared(self) -> None:
        """The file is there; its owner may not have called listen() yet."""
        self._pause = RETRY_FIRST_S
        self._arm(0)

    def _try(self) -> None:
        self._timer = None
        told = self._watcher.watch(self.path, self._appeared)  # the directory may be new
        try:
            sock = unixpath.connect(self.path, socket.SOCK_STREAM, self._below)
        except FileNotFoundError:
            if told:
                self._pause = LOOK_S
            self._again("")
        except ConnectionRefusedError:
            self._again("", LOOK_S)  # not listening yet, or a dead one's: the next one is news
        except BlockingIOError:
            self._again("")  # its backlog is full
        except OSError as error:
            self._again(f"cannot connect to {self.path}: {error.strerror or _name(error)}")
        else:
            self._said = ""
            self.close()
            self._take(sock)

    def _again(self, complaint: str, longest: float = RETRY_MAX_S) -> None:
        """Try again after a pause that doubles each time, up to ``longest`` seconds."""
        if complaint and complaint != self._said:
            self._say(complaint)
        self._said = complaint
        self._arm(self._pause)
        self._pause = min(2 * self._pause, longest)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))
