# SPDX-License-Identifier: Apache-2.0
"""One vhost-user connection: whole messages out of a byte stream, replies into it.

Theory of operation: bytes are only looked at (MSG_PEEK) until a message is
complete, and then consumed in one go, so that a uswitchd that dies in between
leaves the stream at a message's border for the next one.  From before the
first byte is consumed until the reply is sent the port's ``busy`` flag is up:
it says that a request died with us.  File descriptors arrive with the first
byte of a sendmsg(), and a read never crosses such a border; SO_PEEK_OFF lets
the look-ahead do so.

A peer cannot hold anybody up: a message that stays incomplete for
``HALF_MESSAGE_S``, or a reply that finds no room, ends its session.
"""

from __future__ import annotations

import array
import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vif_uswitch.daemon.vhost import codec
from vif_uswitch.daemon.vhost.codec import Header
from vif_uswitch.daemon.vhost.fds import Fds
from vif_uswitch.daemon.vhost.msg import Message, Violation

HALF_MESSAGE_S = 1.0
_SO_PEEK_OFF = 42  # asm-generic/socket.h; Python has no name for it
_LOOK = codec.HEADER.size + codec.PAYLOAD_MAX
_RETRY_S = (0.001, 0.05)  # first and longest pause while a message is incomplete

Handler = Callable[[Message, Fds], Awaitable[bytes | None]]


class HungUp(Exception):
    """The peer closed its end."""


class Connection:
    """Owns ``sock``.  ``lock`` is the port's: held while a request is worked on."""

    def __init__(
        self, sock: socket.socket, lock: asyncio.Lock, set_busy: Callable[[bool], None]
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._lock = lock
        self._set_busy = set_busy

    def close(self) -> None:
        """Ends it for the peer, too: the dataplane holds a copy of the socket."""
        with suppress(OSError):  # not connected any more
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def forget(self) -> None:
        """Closes our copy only; the next uswitchd goes on with the dataplane's."""
        self.sock.close()

    @property
    def hung_up(self) -> bool:
        """Whether the peer is gone, even if messages of it are still to be read."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    async def serve(self, handle: Handler) -> str:
        """Until the session ends; returns the reason.  The socket is still open then."""
        try:
            while True:
                header = await self._next()
                async with self._lock:
                    await self._serve_one(header, handle)
                await asyncio.sleep(0)  # who sends without a pause is not alone here
        except HungUp:
            return ""
        except Violation as error:
            return str(error)

    async def _serve_one(self, header: Header, handle: Handler) -> None:
        self._set_busy(True)
        fds = Fds()
        try:
            payload, fds = self._consume(header)
            message = codec.decode(header, payload, len(fds))
            reply = await handle(message, fds)
            fds.close()  # before the peer hears of it
            if reply is not None:
                self._send(reply)
        except (HungUp, Violation):
            # Before the flag goes down: the next uswitchd must not serve this peer either.
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            fds.close()
        self._set_busy(False)

    # ---- reading ----

    async def _next(self) -> Header:
        """Waits until a whole message lies in the socket's buffer."""
        loop = asyncio.get_running_loop()
        began: float | None = None
        pause = _RETRY_S[0]
        while True:
            header, some = self._look()
            if header is not None:
                return header
            if not some:
                await _readable(loop, self.sock)
                continue
            # poll() would say "readable" all the time, so wait by the clock.
            began = loop.time() if began is None else began
            if loop.time() - began > HALF_MESSAGE_S:
                raise Violation(f"half a message for {HALF_MESSAGE_S:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RETRY_S[1])

    def _look(self) -> tuple[Header | None, bool]:
        """The header of the next message if it is complete, and whether anything is there."""
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        data = b""
        header = None
        while True:
            if header is None and len(data) >= codec.HEADER.size:
                header = codec.read_header(data[: codec.HEADER.size])
            if header is not None and len(data) >= codec.HEADER.size + header.size:
                return header, True
            try:
                part = self.sock.recv(_LOOK - len(data), socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return None, bool(data)
            except OSError as error:
                raise HungUp from error
            if not part:
                if data:
                    raise Violation("the peer hung up in the middle of a message")
                raise HungUp
            data += part

    def _consume(self, header: Header) -> tuple[bytes, Fds]:
        """Takes a complete message out of the socket; its payload and file descriptors."""
        want = codec.HEADER.size + header.size
        data, fds, cut = b"", array.array("i"), False
        while len(data) < want and not cut:
            try:
                part, control, flags, _ = self.sock.recvmsg(
                    want - len(data),
                    socket.CMSG_SPACE(codec.FDS_MAX * fds.itemsize),
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except OSError as error:
                _close(fds)
                raise HungUp from error
            for level, kind, rights in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
            cut = not part or bool(flags & socket.MSG_CTRUNC)
            data += part
        if cut:
            _close(fds)
            raise Violation("file descriptors of a message were lost; too many are open")
        return data[codec.HEADER.size :], Fds(fds)

    # ---- writing ----

    def _send(self, reply: bytes) -> None:
        try:
            sent = self.sock.send(reply, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise HungUp from error
        if sent != len(reply):
            raise Violation("the peer does not read its replies")


def _close(fds: array.array[int]) -> None:
    for fd in fds:
        os.close(fd)


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
