# SPDX-License-Identifier: Apache-2.0
"""A blocking client of the control API, for plugins, hooks, agents and ``uswitchctl``.

Standard library only, and no part of the daemon: it imports on a host where
nothing else of this package works.  Every call has a deadline.  Errors are
those of ``exceptions.py``, whether they come from the daemon or from here.

    with Client() as client:
        client.port_ensure({"name": "vm1", "segment": "blue"}, create_segments=True)

Not for several threads at once: give each its own client.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time

from vif_uswitch import places
from vif_uswitch.api import wire
from vif_uswitch.exceptions import (
    DaemonUnreachable,
    InvalidInput,
    ProtocolError,
    TimedOut,
    rebuild,
)
from vif_uswitch.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Literal

    Json = dict[str, Any]
    Whose = Literal["system", "user"]

DEFAULT_SOCKET = f"{places.SYSTEM_RUN_DIR}/{places.CONTROL_SOCKET}"
SOCKET_VARIABLE = "USWITCH_SOCKET"
DEFAULT_TIMEOUT_S = 10.0

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def default_socket(whose: Whose | None = None) -> str:
    """The control socket of this host's switch, or of the one that is this user's own.

    Who does not say gets $USWITCH_SOCKET; else the host's if it is there and
    this user may use it; else the user's own if that is there; else the host's,
    so that the complaint is about that one.  Root's is always the host's.
    Whether somebody answers is not asked: a command must not go to another
    switch because one is being restarted.

    InvalidInput: "user" was asked for, who has no directory for sockets.
    """
    if whose == "user":
        return user_socket()
    if whose is None and (named := os.environ.get(SOCKET_VARIABLE)):
        return named
    if whose == "system" or os.geteuid() == 0 or os.access(DEFAULT_SOCKET, os.W_OK):
        return DEFAULT_SOCKET
    with contextlib.suppress(InvalidInput):
        if os.path.exists(own := user_socket()):
            return own
    return DEFAULT_SOCKET


def user_socket() -> str:
    """Where ``uswitchd --user`` of this user listens; InvalidInput if that can be nowhere."""
    return os.path.join(places.run_dir(), places.CONTROL_SOCKET)


def is_own(path: str) -> bool:
    """Whether a control socket is that of this user's own switch."""
    with contextlib.suppress(InvalidInput):
        return path == user_socket()
    return False


class Client:
    def __init__(
        self, path: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S,
        until: float | None = None,
    ) -> None:  # fmt: skip
        """``timeout_s``: that each call may take, and each page of a list is one; ``until``: when
        all of them must be done, on the clock of time.monotonic()."""
        self.path = path or default_socket()
        self._timeout_s = timeout_s
        self._until = until
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._last_id = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer.clear()

    def peer_uid(self) -> int:
        """The user that uswitchd runs as, by the kernel's word: who must own its devices."""
        try:
            connection = self._connected(self._deadline())
            found = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except TimeoutError:
            raise TimedOut("control socket", self.path, "nobody answers") from None
        return int(_CREDENTIALS.unpack(found)[1])

    # ---- the methods of the API ----

    def version(self) -> Json:
        return self.call("version")

    def schema(self) -> Json:
        return self.call("schema")

    def show(self) -> Json:
        return self.call("show")

    def port_add(self, port: Json, *, create_segments: bool = False) -> Json:
        return self.call("port.add", port=port, create_segments=create_segments)

    def port_ensure(self, port: Json, *, create_segments: bool = False) -> Json:
        return self.call("port.ensure", port=port, create_segments=create_segments)

    def port_set(self, name: str, changes: Json, *, create_segments: bool = False) -> Json:
        return self.call("port.set", name=name, changes=changes, create_segments=create_segments)

    def port_delete(self, name: str, external_ids: dict[str, str] | None = None) -> bool:
        """Whether it existed, with these external ids if some are given; others are left alone."""
        only = {} if external_ids is None else {"external_ids": external_ids}
        return bool(self.call("port.delete", name=name, **only)["existed"])

    def port_show(self, name: str) -> Json:
        return self.call("port.show", name=name)

    def port_list(
        self, segment: str | None = None, external_id: tuple[str, str] | None = None
    ) -> list[Json]:
        """``external_id``: only ports that have this key with this value."""
        wanted: Json = {"segment": segment}
        if external_id is not None:
            wanted["external_id"] = {"key": external_id[0], "value": external_id[1]}
        return list(self._pages("port.list", "ports", **wanted))

    def uplink_ensure(self, uplink: Json, *, create_segments: bool = False) -> Json:
        return self.call("uplink.ensure", uplink=uplink, create_segments=create_segments)

    def uplink_map(
        self, name: str, vid: int | None, segment: str | None, create_segments: bool = False
    ) -> Json:
        """One row of an uplink's tag table; ``vid`` None: untagged, ``segment`` None: no row."""
        return self.call(
            "uplink.map", name=name, vid=vid, segment=segment, create_segments=create_segments
        )

    def uplink_delete(self, name: str) -> bool:
        """Whether it existed."""
        return bool(self.call("uplink.delete", name=name)["existed"])

    def uplink_show(self, name: str) -> Json:
        return self.call("uplink.show", name=name)

    def uplink_list(self) -> list[Json]:
        return list(self._pages("uplink.list", "uplinks"))

    def segment_add(self, name: str, description: str = "") -> Json:
        return self.call("segment.add", name=name, description=description)

    def segment_delete(self, name: str) -> bool:
        """Whether it existed."""
        return bool(self.call("segment.delete", name=name)["existed"])

    def segment_show(self, name: str) -> Json:
        return self.call("segment.show", name=name)

    def segment_list(self) -> list[Json]:
        return list(self._pages("segment.list", "segments"))

    def fdb_list(
        self, port: str | None = None, segment: str | None = None, mac: str | None = None
    ) -> list[Json]:
        return list(self._pages("fdb.list", "entries", port=port, segment=segment, mac=mac))

    def fdb_flush(self, port: str | None = None, segment: str | None = None) -> int:
        """How many addresses were forgotten."""
        return int(self.call("fdb.flush", port=port, segment=segment)["removed"])

    def drops(self) -> list[Json]:
        return list(self._pages("drops", "drops"))

    def stats(self) -> list[Json]:
        return list(self._pages("stats", "ports"))

    def worker_list(self) -> Json:
        return self.call("worker.list")

    def worker_show(self, index: int) -> Json:
        return self.call("worker.show", index=index)

    # ---- how a call is made ----

    def call(self, verb: str, **params: Any) -> Json:
        """The result of method ``v1.<verb>``.

        A request that was sent may have been carried out even when this
        raises DaemonUnreachable or TimedOut; all verbs but ``*.add`` can
        simply be repeated.
        """
        deadline = self._deadline()
        allowed = round(max(deadline - time.monotonic(), 0), 1)
        self._last_id += 1
        line = wire.request(self._last_id, wire.PREFIX + verb, params)
        try:
            connection = self._connected(deadline)
            self._send(connection, line, deadline)
            reply = wire.decode_reply(self._receive(connection, deadline))
        except TimeoutError:
            self.close()
            raise TimedOut(
                "uswitchd", None, f"no answer to {verb} within {allowed:g} s",
                "It may still be at it: look with 'uswitchctl show', or allow more time.",
            ) from None  # fmt: skip
        except BaseException:
            self.close()
            raise
        return self._result(reply)

    def _deadline(self) -> float:
        """Of a call that begins now."""
        deadline = time.monotonic() + self._timeout_s
        return deadline if self._until is None else min(deadline, self._until)

    def _result(self, reply: Json) -> Json:
        failure = reply.get("error")
        if failure is not None:
            if reply.get("id") is None:
                self.close()  # the daemon closes a connection whose requests it could not read
            raise rebuild(failure["code"], failure["message"], failure.get("data"))
        result = reply["result"]
        if reply.get("id") != self._last_id or not isinstance(result, dict):
            self.close()
            raise ProtocolError("uswitchd", None, "answered something that was not asked")
        return result

    def _pages(self, verb: str, member: str, **params: Any) -> Iterator[Json]:
        cursor = ""
        while True:
            page = self.call(verb, cursor=cursor, **params)
            yield from page[member]
            cursor = page["next"]
            if not cursor:
                return

    def _connected(self, deadline: float) -> socket.socket:
        if self._socket is not None and _is_over(self._socket):
            self.close()  # uswitchd was restarted since the last call
        if self._socket is None:
            self._socket = self._connect(deadline)
        return self._socket

    def _connect(self, deadline: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            while True:
                connection.settimeout(_left(deadline))
                try:
                    connection.connect(self.path)
                    return connection
                except BlockingIOError:  # its queue of new connections is full
                    time.sleep(0.05)
        except TimeoutError:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from None

    def _send(self, connection: socket.socket, line: bytes, deadline: float) -> None:
        connection.settimeout(_left(deadline))
        # A refusal may be waiting to be read: it says more than EPIPE.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(line)

    def _receive(self, connection: socket.socket, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > wire.MAX_LINE:
                raise ProtocolError("uswitchd", None, "sent a line that is too long")
            connection.settimeout(_left(deadline))
            try:
                data = connection.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise DaemonUnreachable(
                    "uswitchd", None, "closed the connection without an answer",
                    "If it was restarted, try again; else see its log.",
                )  # fmt: skip
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _unreachable(self, error: OSError) -> DaemonUnreachable:
        why, todo = f"cannot be reached: {error.strerror or error}", ""
        own = " --user" if is_own(self.path) else ""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            why = "is not there: uswitchd is not running, or listens elsewhere"
            todo = (f"Start uswitchd (a switch of your own: uswitchd --user), or give --socket PATH"
                    f" or {SOCKET_VARIABLE}.")  # fmt: skip
        elif isinstance(error, ConnectionRefusedError):
            why = "has nobody behind it: uswitchd is not running any more"
            todo = f"Start uswitchd (for example: systemctl{own} start uswitchd) and see its log."
        elif isinstance(error, PermissionError):
            why = "may not be used by you"
            todo = ("Use the user of uswitchd or root, or become a member of its control_group; a"
                    " switch of your own: uswitchd --user.")  # fmt: skip
        return DaemonUnreachable("control socket", self.path, why, todo)


def _is_over(connection: socket.socket) -> bool:
    """Whether the other side has closed, or has said something unasked: both end a session."""
    try:
        connection.settimeout(0)
        connection.recv(1, socket.MSG_PEEK)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
