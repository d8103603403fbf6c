# SPDX-License-Identifier: Apache-2.0
"""The control socket: who may connect, how much they may ask, and for how long.

One coroutine a connection: read a line, let the service answer, write the
line, again.  So a client has one request in flight; what it sends ahead waits
in the kernel.  A client that sends half a line and stops, does not read what
it asked for, or sends what is no request, loses its connection and nothing
else happens.  Whatever goes wrong inside, a client gets an error without a
traceback; the log has the traceback.

    accept > peer allowed? > room for one more? > line > request > service > reply
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import stat
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from vif_uswitch.api import wire
from vif_uswitch.daemon.control.peer import Peer, may_control, peer_of
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    Forbidden,
    InternalError,
    ProtocolError,
    Unavailable,
    USwitchError,
)

LOG = logging.getLogger(__name__)

BACKLOG = 128
ACCEPTS_A_TURN = 8  # of the event loop
REQUESTS_A_TURN = 8

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Limits:
    clients: int = 64
    half_line_s: float = 5.0  # from a line's first byte to its end
    slow_reader_s: float = 5.0  # until a reply has left for the kernel
    idle_s: float = 5.0  # when all places are taken, who was silent this long makes room
    refusals_logged_a_second: int = 5


# Newer releases of Python would remove it when the server closes.
KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class _Connection:
    """One client.  ``busy_since`` and ``quiet_since`` are of the monotonic clock."""

    def __init__(self, peer: Peer, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.writer = writer
        self.busy = False
        self.quiet_since = time.monotonic()

    def drop(self) -> None:
        self.writer.transport.abort()


class Turns:
    """Lets some requests begin in each turn of the event loop, in order of arrival.

    So a crowd of clients does not keep the guests' sessions waiting.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def mine(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._next)
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        for _ in range(min(REQUESTS_A_TURN, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled: its client was dropped
                turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)


class LineReader:
    """Lines of at most ``wire.MAX_LINE`` bytes, each complete within a deadline once begun."""

    def __init__(self, reader: asyncio.StreamReader, half_line_s: float) -> None:
        self._reader = reader
        self._half_line_s = half_line_s
        self._buffer = bytearray()

    async def line(self) -> bytes | None:
        """The next line without its end; None when the client is gone.

        TimeoutError: half a line, then silence.  ProtocolError: too long.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched >= wire.MAX_LINE:
                raise ProtocolError(
                    "message", None, f"a line has more than {wire.MAX_LINE} bytes",
                    "Send shorter requests.",
                )  # fmt: skip
            room = wire.MAX_LINE - searched
            if self._buffer:
                left = begun + self._half_line_s - loop.time()
                data = await asyncio.wait_for(self._reader.read(room), left)
            else:
                data = await self._reader.read(room)
                begun = loop.time()
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


class ControlServer:
    """Listens on ``path``; ``call`` answers the requests."""

    def __init__(
        self, path: str, call: Call, control_gid: int | None = None, limits: Limits | None = None
    ) -> None:
        self._path = path
        self._call = call
        self._gid = control_gid
        self._limits = limits or Limits()
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._server: asyncio.AbstractServer | None = None
        self._turns = Turns()
        self._incidents = itertools.count(1)
        self._refusals = (0.0, 0)  # second, how many were logged in it

    async def start(self) -> None:
        listener = listen(self._path, self._gid)
        # The stream's own buffer stays small: our limit is in LineReader.
        self._server = await asyncio.start_unix_server(
            self._accepted, sock=listener, limit=wire.MAX_LINE // 2, backlog=ACCEPTS_A_TURN,
            **KEEP_FILE,
        )  # fmt: skip
        listener.listen(BACKLOG)  # asyncio makes one number of what are two
        LOG.info("control socket %s is ready", self._path)

    async def stop(self, grace_s: float = 2.0) -> None:
        """Takes no new requests, lets those in progress finish, closes everything.

        The socket's file stays, for the next uswitchd to replace: by it clients know that this is
        their switch, and that it is away.
        """
        if self._server is not None:
            self._server.close()
        for task, connection in list(self._connections.items()):
            if not connection.busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=grace_s)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # ---- one connection ----

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            peer = peer_of(writer.get_extra_info("socket"))
            refusal = self._refusal(peer)
            if refusal is not None:
                await self._refuse(peer, writer, refusal)
                return
            connection = _Connection(peer, writer)
            self._connections[task] = connection
            await self._serve(LineReader(reader, self._limits.half_line_s), connection)
        except (ConnectionError, BrokenPipeError):
            pass  # the client went away: its right
        except asyncio.CancelledError:
            pass  # stop(), or a place was needed
        except OSError as error:
            LOG.debug("control connection ended: %s", error)
        finally:
            self._connections.pop(task, None)
            writer.close()

    def _refusal(self, peer: Peer) -> USwitchError | None:
        if not may_control(peer, self._gid):
            return Forbidden(
                "control socket", None, f"uid {peer.uid} may not use it",
                "Use the user of uswitchd or root, or become a member of control_group.",
            )  # fmt: skip
        if len(self._connections) >= self._limits.clients and not self._make_room():
            return Busy(
                "control socket", None, f"{self._limits.clients} clients are connected already",
                "Try again in a moment.",
            )  # fmt: skip
        return None

    def _make_room(self) -> bool:
        """Drops the client that has been silent longest, if any was for long enough."""
        idle = [item for item in self._connections.items() if not item[1].busy]
        if not idle:
            return False
        task, connection = min(idle, key=lambda item: item[1].quiet_since)
        if time.monotonic() - connection.quiet_since < self._limits.idle_s:
            return False
        connection.drop()
        task.cancel()
        del self._connections[task]
        return True

    async def _refuse(
        self, peer: Peer, writer: asyncio.StreamWriter, refusal: USwitchError
    ) -> None:
        second, logged = self._refusals
        now = float(int(time.monotonic()))
        logged = logged + 1 if now == second else 1
        self._refusals = (now, logged)
        if logged <= self._limits.refusals_logged_a_second:
            LOG.warning("control connection from %s refused: %s", peer, refusal)
        writer.write(wire.error(None, refusal))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(writer.drain(), self._limits.slow_reader_s)

    async def _serve(self, lines: LineReader, connection: _Connection) -> None:
        connection.writer.transport.set_write_buffer_limits(high=0)
        goes_on = True
        while goes_on:
            try:
                line = await lines.line()
                if line is None:
                    return
                connection.busy = True
                reply = await self._answer(line)
            except asyncio.TimeoutError:
                reply, goes_on = self._half_line(), False
            except ProtocolError as error:
                reply, goes_on = wire.error(None, error), False
            if not await self._write(connection, reply):
                return
            connection.busy = False
            connection.quiet_since = time.monotonic()

    async def _write(self, connection: _Connection, reply: bytes) -> bool:
        connection.writer.write(reply)
        try:
            await asyncio.wait_for(connection.writer.drain(), self._limits.slow_reader_s)
        except asyncio.TimeoutError:
            LOG.warning("control client (%s) does not read its replies: dropped", connection.peer)
            connection.drop()
            return False
        return True

    def _half_line(self) -> bytes:
        return wire.error(
            None,
            ProtocolError(
                "message", None, f"incomplete after {self._limits.half_line_s:g} s",
                "A request ends with a line feed.",
            ),
        )  # fmt: skip

    async def _answer(self, line: bytes) -> bytes:
        """The reply to one line, whatever is in it.  A request once begun is finished."""
        id_: wire.Id | None = None
        try:
            await self._turns.mine()
            request = wire.decode_request(line)
            id_ = request.id
            work = asyncio.ensure_future(self._work(request))
            return wire.result(id_, await asyncio.shield(work))
        except wire.BadRequest as bad:
            return wire.error(bad.id, bad.error)
        except USwitchError as error:
            return wire.error(id_, error)
        except asyncio.CancelledError:
            raise
        except Exception:
            number = next(self._incidents)
            LOG.exception("incident %d while answering a request", number)
            return wire.error(
                id_,
                InternalError(
                    "uswitchd", None, "an internal error, nothing you did",
                    f"Its log has the details, as incident {number} of pid {os.getpid()}.",
                ),
            )  # fmt: skip

    async def _work(self, request: wire.Request) -> Any:
        begun = time.monotonic()
        result = await self._call(request.method, request.params)
        LOG.debug("%s took %.1f ms", request.method, 1e3 * (time.monotonic() - begun))
        return result


def listen(path: str, gid: int | None) -> socket.socket:
    """A listening socket at ``path``, mode 0660, of group ``gid``.

    The caller holds the lock of the run directory, so what is there already
    was left behind by a dead uswitchd.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Conflict("control_socket", path, "exists and is no socket", "Remove it.")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    umask = os.umask(0o117)  # never open for others, not even between bind and chmod
    try:
        listener.bind(path)
        if gid is not None:
            os.chown(path, -1, gid)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        why = "the path is too long" if error.errno is None else os.strerror(error.errno)
        hint = "Check control_socket in the configuration."
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "The directory must be writable for the user of uswitchd."
        raise Unavailable("control socket", path, f"cannot be opened: {why}", hint) from None
    finally:
        os.umask(umask)
    return listener
