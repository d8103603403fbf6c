# SPDX-License-Identifier: Apache-2.0
"""The dataplane link: requests to the packet process and its replies, over one socket.

Theory of operation: SOCK_SEQPACKET keeps message borders and carries file
descriptors.  Requests are numbered and pipelined: nobody waits for another
one's reply.  The socket never blocks the event loop; what does not fit is
queued with duplicates of its descriptors.  A reply that is later than
``DEADLINE_S``, a malformed message or an end of file end the link as a whole:
every waiting request gets ``DataplaneGone``, and ``gone`` tells the supervisor.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import (
    NO_LIMIT,
    NO_NIC,
    DataplaneGone,
    DataplaneRefused,
    DirtyLog,
    EscrowEntry,
    Event,
    GuardPair,
    MemRegion,
    NicSetup,
    RateLimit,
    RingSetup,
)

DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The receiver owns ``fds``.  ``rc`` is 0, except where a refusal has something to say."""

    rc: int
    value: int
    body: bytes
    fds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Waiting:
    what: str
    future: asyncio.Future[Reply]
    timer: asyncio.TimerHandle
    refusal_has_body: bool


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


class Link:
    """Implements ``base.Dataplane``.  Owns ``sock``."""

    def __init__(
        self,
        sock: socket.socket,
        on_event: Callable[[Event], None],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_event = on_event
        self._deadline_s = deadline_s
        self._seq = 0
        self._waiting: dict[int, _Waiting] = {}
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._reason: str | None = None
        self.timed_out = False  # the process may be alive, and stuck
        self.gone: asyncio.Future[str] = self._loop.create_future()
        sock.setblocking(False)
        self._loop.add_reader(sock, self._on_readable)

    def close(self, reason: str = "the link was closed") -> None:
        """Idempotent; whoever still waits gets ``DataplaneGone``."""
        if self._reason is not None:
            return
        self._reason = reason
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, fds in self._unsent:
            close_all(fds)
        self._unsent.clear()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.timer.cancel()
            if not one.future.done():
                one.future.set_exception(DataplaneGone(f"while waiting for {one.what}", why=reason))
        if not self.gone.done():
            self.gone.set_result(reason)

    def _too_late(self, what: str) -> None:
        self.timed_out = True
        self.close(f"no answer to {what} for {self._deadline_s:g} s")

    # ---- sending ----

    async def _ask(
        self,
        what: str,
        kind: int,
        body: bytes = b"",
        fds: Sequence[int] = (),
        refusal_has_body: bool = False,
    ) -> Reply:
        if self._reason is not None:
            raise DataplaneGone(what, why=self._reason)
        self._seq = seq = (self._seq + 1) & 0xFFFFFFFF
        future: asyncio.Future[Reply] = self._loop.create_future()
        timer = self._loop.call_later(self._deadline_s, self._too_late, what)
        self._waiting[seq] = _Waiting(what, future, timer, refusal_has_body)
        self._send(layout.head(kind, seq, len(body)) + body, fds)
        return await future

    async def _do(self, what: str, kind: int, body: bytes = b"", fds: Sequence[int] = ()) -> int:
        """A request whose reply is a number."""
        reply = await self._ask(what, kind, body, fds)
        close_all(reply.fds)
        return reply.value

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        if not self._unsent and self._try_send(message, fds):
            return
        if self._reason is None:
            # The caller may close its descriptors before there is room.
            self._unsent.append((message, tuple(os.dup(fd) for fd in fds)))
            self._loop.add_writer(self._sock, self._on_writable)

    def _try_send(self, message: bytes, fds: Sequence[int]) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([message], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            self.close(f"sending failed: {error.strerror}")
            return False
        return True

    def _on_writable(self) -> None:
        while self._unsent:
            message, fds = self._unsent[0]
            if not self._try_send(message, fds):
                return
            self._unsent.popleft()
            close_all(fds)
        self._loop.remove_writer(self._sock)

    # ---- receiving ----

    def _on_readable(self) -> None:
        for _ in range(64):  # others of the loop have their turn, too
            if self._reason is not None or not self._receive_one():
                return

    def _receive_one(self) -> bool:
        room = socket.CMSG_SPACE(layout.LINK_FDS_MAX * 4)
        try:
            data, control, flags, _ = self._sock.recvmsg(
                layout.LINK_MSG_MAX, room, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.close(f"receiving failed: {error.strerror}")
            return False
        fds = _rights(control)
        if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(fds)
            self.close("a message arrived incomplete" if data else "the dataplane hung up")
            return False
        try:
            self._take(data, fds)
        except layout.Malformed as error:
            close_all(fds)
            self.close(f"the dataplane sent a malformed message: {error}")
        return True

    def _take(self, data: bytes, fds: tuple[int, ...]) -> None:
        """Hands a message to whom it is for; the fds with it, unless this raises."""
        head = layout.read_head(data)
        body = data[layout.HEAD_SIZE :]
        if head.kind == layout.EVENT:
            event = layout.read_event(body)
            close_all(fds)
            self._on_event(event)
            return
        if head.kind == layout.REPLY and head.seq == 0 and head.rc < 0:
            # To whoever connected, before our HELLO was read: there is another controller.
            close_all(fds)
            for waiting in self._waiting.values():
                if not waiting.future.done():
                    waiting.future.set_exception(DataplaneRefused(waiting.what, -head.rc))
            return
        if head.kind != layout.REPLY or head.seq not in self._waiting:
            raise layout.Malformed(f"type {head.kind}, sequence number {head.seq}")
        waiting = self._waiting.pop(head.seq)
        waiting.timer.cancel()
        if waiting.future.done():  # its caller was cancelled
            close_all(fds)
        elif head.rc < 0 and not (waiting.refusal_has_body and body):
            close_all(fds)
            waiting.future.set_exception(DataplaneRefused(waiting.what, -head.rc))
        else:
            waiting.future.set_result(Reply(head.rc, head.value, body, fds))

    # ---- base.Dataplane ----

    async def hello(self) -> tuple[layout.Hello, int | None]:
        """Who is there, and the fd of its switch page (the caller owns it).

        A dataplane of another build still says who it is, and gets no fd:
        its escrow can be read and it can be shut down, nothing more.
        """
        body = layout.hello(os.getpid())
        reply = await self._ask("hello", layout.HELLO, body, refusal_has_body=True)
        try:
            found = layout.read_hello(reply.body)
        except layout.Malformed as error:
            close_all(reply.fds)
            raise DataplaneGone("hello", why=str(error)) from error
        if reply.rc == 0 and len(reply.fds) == 1:
            return found, reply.fds[0]
        close_all(reply.fds)
        if reply.rc != -errno.EPROTO:
            raise DataplaneRefused("hello", -reply.rc)
        return found, None

    async def port_add(
        self, port_id: int, kind: int, *, flood_rate: int, flood_burst: int, fdb_quota: int,
        max_frame: int, rate: RateLimit = NO_LIMIT, nic: NicSetup = NO_NIC, state_fd: int,
        device_fds: Sequence[int] = (),
    ) -> None:  # fmt: skip
        body = layout.port_add(
            port_id, kind, flood_rate, flood_burst, fdb_quota, max_frame, rate, nic
        )
        fds = (state_fd, *device_fds)
        await self._do(f"port_add of port {port_id}", layout.PORT_ADD, body, fds)

    async def port_del(self, port_id: int) -> None:
        await self._do(f"port_del of port {port_id}", layout.PORT_DEL, layout.port_del(port_id))

    async def port_tags(self, port_id: int, rows: Sequence[tuple[int, int]]) -> None:
        body = layout.port_tags(port_id, rows)
        await self._do(f"the tag table of port {port_id}", layout.PORT_TAGS, body)

    async def port_macs(self, port_id: int, macs: Sequence[bytes]) -> None:
        body = layout.port_macs(port_id, macs)
        await self._do(f"the pinned addresses of port {port_id}", layout.PORT_MACS, body)

    async def port_guard(self, port_id: int, pairs: Sequence[GuardPair] | None) -> None:
        body = layout.port_guard(port_id, pairs)
        await self._do(f"the guard of port {port_id}", layout.PORT_GUARD, body)

    async def port_limits(
        self, port_id: int, *, flood_rate: int, flood_burst: int, fdb_quota: int, max_frame: int,
        rate: RateLimit = NO_LIMIT,
    ) -> None:  # fmt: skip
        body = layout.port_limits(port_id, flood_rate, flood_burst, fdb_quota, max_frame, rate)
        await self._do(f"the limits of port {port_id}", layout.PORT_LIMITS, body)

    async def nic_read(self, port_id: int) -> None:
        body = layout.port_ref(port_id)
        await self._do(f"the adapter's counters of port {port_id}", layout.NIC_READ, body)

    async def nic_reset(self, port_id: int) -> None:
        body = layout.port_ref(port_id)
        await self._do(f"to reset the adapter of port {port_id}", layout.NIC_RESET, body)

    async def vhost_mem(self, port_id: int, regions: Sequence[MemRegion]) -> None:
        body = layout.vhost_mem(port_id, regions)
        fds = tuple(region.fd for region in regions)
        await self._do(f"the memory table of port {port_id}", layout.VHOST_MEM, body, fds)

    async def vhost_log(self, port_id: int, log: DirtyLog | None) -> None:
        body = layout.vhost_log(port_id, log)
        fds = () if log is None else (log.fd,)
        await self._do(f"the dirty log of port {port_id}", layout.VHOST_LOG, body, fds)

    async def ring_start(self, port_id: int, setup: RingSetup) -> None:
        body = layout.ring_start(port_id, setup)
        fds = tuple(fd for fd in (setup.kick_fd, setup.call_fd) if fd is not None)
        what = f"to start ring {setup.ring} of port {port_id}"
        await self._do(what, layout.RING_START, body, fds)

    async def ring_stop(self, port_id: int, ring: int) -> int:
        body = layout.ring_ref(port_id, ring)
        return await self._do(f"to stop ring {ring} of port {port_id}", layout.RING_STOP, body)

    async def ring_call(self, port_id: int, ring: int, call_fd: int | None) -> None:
        body = layout.ring_ref(port_id, ring)
        fds = () if call_fd is None else (call_fd,)
        await self._do(f"the call fd of ring {ring} of port {port_id}", layout.RING_CALL, body, fds)

    async def ring_enable(self, port_id: int, ring: int, enabled: bool) -> None:
        body = layout.ring_ref(port_id, ring, enabled)
        await self._do(f"to enable ring {ring} of port {port_id}", layout.RING_ENABLE, body)

    async def port_announce(self, port_id: int, mac: bytes) -> None:
        body = layout.port_announce(port_id, mac)
        await self._do(f"to announce an address at port {port_id}", layout.PORT_ANNOUNCE, body)

    async def fdb_dump(self, cursor: int) -> tuple[int, list[tuple[bytes, int, int, int, bool]]]:
        reply = await self._ask("the address table", layout.FDB_DUMP, layout.cursor(cursor))
        close_all(reply.fds)
        return reply.value, layout.read_fdb(reply.body)

    async def fdb_flush(self, port_id: int | None, segment_id: int | None) -> int:
        body = layout.fdb_flush(port_id, segment_id)
        return await self._do("to flush the address table", layout.FDB_FLUSH, body)

    async def escrow_put(self, port_id: int, slot: int, blob: bytes, fds: Sequence[int]) -> None:
        body = layout.escrow(port_id, slot, blob, len(fds))
        await self._do(f"escrow of port {port_id}, slot {slot}", layout.ESCROW_PUT, body, fds)

    async def escrow_get(self, cursor: int) -> tuple[int, EscrowEntry | None]:
        reply = await self._ask("escrow", layout.ESCROW_GET, layout.cursor(cursor))
        if not reply.body:
            close_all(reply.fds)
            return reply.value, None
        try:
            port_id, slot, blob = layout.read_escrow(reply.body, len(reply.fds))
        except layout.Malformed as error:
            close_all(reply.fds)
            self.close(f"the dataplane sent a malformed message: {error}")
            raise DataplaneGone("escrow", why=str(error)) from error
        return reply.value, EscrowEntry(port_id, slot, blob, reply.fds)

    async def escrow_drop(self, port_id: int, slot: int | None) -> None:
        body = layout.escrow(port_id, layout.SLOT_ALL if slot is None else slot)
        await self._do(f"to drop escrow of port {port_id}", layout.ESCROW_DROP, body)

    async def ping(self) -> None:
        await self._do("ping", layout.PING)

    async def shutdown(self) -> None:
        """An orderly end of the process; it may hang up before it answers."""
        try:
            await self._do("shutdown", layout.SHUTDOWN)
        except DataplaneGone:
            return


def _rights(control: list[tuple[int, int, bytes]]) -> tuple[int, ...]:
    """The file descriptors of a received message."""
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return tuple(fds)
