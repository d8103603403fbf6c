# SPDX-License-Identifier: Apache-2.0
"""The dataplane link against a scripted other end: pipelining, deadlines, descriptors, nonsense."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import (
    DataplaneGone,
    DataplaneRefused,
    DirtyLog,
    Event,
    GuardPair,
    MemRegion,
    NicSetup,
    RateLimit,
    RingSetup,
)
from vif_uswitch.dataplane.link import Link

SETUP = RingSetup(
    ring=1, size=256, base=0, features=3, desc_uva=0x1000, avail_uva=0x2000, used_uva=0x3000,
    enabled=True, resume=False, kick_fd=None, call_fd=None,
)  # fmt: skip


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


class Other:
    """The other end of the link."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def receive(self) -> tuple[layout.Head, bytes, list[int]]:
        data, control, _, _ = self.sock.recvmsg(65536, 4096)
        fds = array.array("i")
        for _, _, rights in control:
            fds.frombytes(rights)
        return layout.read_head(data), data[layout.HEAD_SIZE :], list(fds)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], rights)

    def reply(
        self, seq: int, rc: int = 0, value: int = 0, body: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        self.send(layout.head(layout.REPLY, seq, len(body), rc, value) + body, fds)


def run(
    test: Callable[[Link, Other, list[Event]], Coroutine[Any, Any, None]], deadline_s: float = 2.0
) -> None:
    before = open_fds()

    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(3)
        events: list[Event] = []
        link = Link(ours, events.append, deadline_s)
        try:
            await test(link, Other(theirs), events)
        finally:
            link.close()
            theirs.close()

    asyncio.run(main())
    assert open_fds() == before, "file descriptors leak"


async def soon(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Starts it, far enough that its request is out."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0.005)
    return task


def test_replies_find_their_requests_in_any_order() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        first = await soon(link.ring_stop(1, 0))
        second = await soon(link.ring_stop(1, 1))
        heads = [other.receive()[0], other.receive()[0]]
        assert [head.kind for head in heads] == [layout.RING_STOP] * 2
        other.reply(heads[1].seq, value=22)
        other.reply(heads[0].seq, value=11)
        assert (await first, await second) == (11, 22)

    run(test)


def test_every_request_has_its_struct_and_fds() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        fd = os.eventfd(0)
        region = MemRegion(0, 4096, 0x1000, 0, fd)
        limits: dict[str, Any] = {
            "flood_rate": 1, "flood_burst": 2, "fdb_quota": 3, "max_frame": 1514,
            "rate": RateLimit(4, 5, 6, 7),
        }  # fmt: skip
        device: dict[str, Any] = {"device_fds": [fd] * 8, "nic": NicSetup(8, 512, 0, 2, 3)}
        log = DirtyLog(32, 64, fd, ((0, 0x1000), (1, 0x2000)))
        kicked = RingSetup(**{**{s: getattr(SETUP, s) for s in SETUP.__slots__}, "kick_fd": fd})
        for call, kind, size, n_fds in (
            (link.port_add(1, 1, state_fd=fd, **limits), layout.PORT_ADD, 64, 1),
            (link.port_add(1, 2, state_fd=fd, device_fds=[fd], **limits), layout.PORT_ADD, 64, 2),
            (link.port_add(1, 4, state_fd=fd, **device, **limits), layout.PORT_ADD, 64, 9),
            (link.nic_read(1), layout.NIC_READ, 8, 0),
            (link.nic_reset(1), layout.NIC_RESET, 8, 0),
            (link.port_del(1), layout.PORT_DEL, 8, 0),
            (link.port_tags(1, []), layout.PORT_TAGS, 8, 0),
            (link.port_tags(1, [(1, 2), (3, 4)]), layout.PORT_TAGS, 16, 0),
            (link.port_macs(1, [b"\2\0\0\0\0\1"]), layout.PORT_MACS, 14, 0),
            (link.port_guard(1, None), layout.PORT_GUARD, 16, 0),
            (link.port_guard(1, []), layout.PORT_GUARD, 16, 0),
            (link.port_guard(1, [GuardPair(b"\2\0\0\0\0\1")] * 2), layout.PORT_GUARD, 64, 0),
            (link.port_limits(1, **limits), layout.PORT_LIMITS, 40, 0),
            (link.vhost_mem(1, []), layout.VHOST_MEM, 8, 0),
            (link.vhost_mem(1, [region] * 64), layout.VHOST_MEM, 8 + 64 * 32, 64),
            (link.vhost_log(1, None), layout.VHOST_LOG, 160, 0),
            (link.vhost_log(1, log), layout.VHOST_LOG, 160, 1),
            (link.port_announce(1, b"\2\0\0\0\0\1"), layout.PORT_ANNOUNCE, 12, 0),
            (link.ring_start(1, SETUP), layout.RING_START, 64, 0),
            (link.ring_start(1, kicked), layout.RING_START, 64, 1),
            (link.ring_call(1, 0, fd), layout.RING_CALL, 16, 1),
            (link.ring_call(1, 0, None), layout.RING_CALL, 16, 0),
            (link.ring_enable(1, 0, True), layout.RING_ENABLE, 16, 0),
            (link.fdb_flush(None, 3), layout.FDB_FLUSH, 8, 0),
            (link.escrow_put(1, 2, b"blob", [fd]), layout.ESCROW_PUT, 20, 1),
            (link.escrow_drop(1, None), layout.ESCROW_DROP, 16, 0),
            (link.ping(), layout.PING, 0, 0),
        ):
            task = await soon(call)
            head, body, fds = other.receive()
            assert (head.kind, len(body), len(fds)) == (kind, size, n_fds)
            assert head.length == layout.HEAD_SIZE + size
            for got in fds:
                os.close(got)
            other.reply(head.seq)
            await task
        os.close(fd)

    run(test)


def test_refusal_and_stray_fds() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.port_del(7))
        other.reply(other.receive()[0].seq, rc=-2, fds=[0, 1])
        with pytest.raises(DataplaneRefused, match="port 7") as caught:
            await task
        assert caught.value.errno == 2
        assert not link.gone.done()

    run(test)


def test_hello() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.hello())
        head, body, _ = other.receive()
        abi, pid, _, _, build = struct.unpack("=IIIIQ", body)
        assert (abi, pid) == (layout.ABI_VERSION, os.getpid())
        answer = struct.pack("=IIIIQ", abi, 4711, 2, 3, build)
        other.reply(head.seq, body=answer, fds=[0])
        hello, fd = await task
        assert (hello.pid, hello.n_ports, hello.n_escrow) == (4711, 2, 3)
        assert fd is not None
        os.close(fd)
        # Another build says who it is.
        task = await soon(link.hello())
        other.reply(other.receive()[0].seq, rc=-71, body=answer)
        assert await task == (hello, None)
        # A second uswitchd is told so.
        task = await soon(link.hello())
        other.reply(other.receive()[0].seq, rc=-16, body=answer)
        with pytest.raises(DataplaneRefused):
            await task
        # ... perhaps before its question was read.
        task = await soon(link.hello())
        other.receive()
        other.reply(0, rc=-16, body=answer)
        with pytest.raises(DataplaneRefused):
            await task

    run(test)


def test_escrow_and_fdb_come_back() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.escrow_get(0))
        body = layout.escrow(3, 1, b"blob", 2)
        other.reply(other.receive()[0].seq, value=9, body=body, fds=[0, 1])
        cursor, entry = await task
        assert cursor == 9
        assert (entry.port_id, entry.slot, entry.blob, len(entry.fds)) == (3, 1, b"blob", 2)
        for fd in entry.fds:
            os.close(fd)
        task = await soon(link.escrow_get(9))
        other.reply(other.receive()[0].seq)
        assert await task == (0, None)
        task = await soon(link.fdb_dump(0))
        row = bytes.fromhex("020000000001") + struct.pack("=HIHH", 5, 9, 30, 1)
        other.reply(other.receive()[0].seq, value=0, body=row * 2)
        assert await task == (0, [(row[:6], 5, 9, 30, True)] * 2)

    run(test)


def test_events() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        body = struct.pack("=IIIIQ", 1, 5, 1, 2, 99)
        other.send(layout.head(layout.EVENT, 0, len(body)) + body, [0])
        await asyncio.sleep(0.01)
        assert [(e.kind, e.port_id, e.ring, e.detail) for e in events] == [(1, 5, 1, 99)]
        assert not link.gone.done()

    run(test)


def test_deadline() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        tasks = [await soon(link.ping()), await soon(link.port_del(1))]
        for task in tasks:
            with pytest.raises(DataplaneGone):
                await task
        assert "no answer to ping" in await link.gone
        with pytest.raises(DataplaneGone, match="no answer"):
            await link.ping()

    run(test, deadline_s=0.05)


def test_hang_up() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.ping())
        other.sock.close()
        with pytest.raises(DataplaneGone, match=r"hung up|failed"):
            await task
        assert await link.gone

    run(test)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        layout.head(layout.REPLY, 1, 5),
        layout.head(layout.REPLY, 77, 0),
        layout.head(layout.PING, 1, 0),
        layout.head(layout.EVENT, 0, 3) + b"abc",
    ],
)
def test_nonsense_ends_the_link_and_its_fds(data: bytes) -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.ping())
        other.receive()
        other.send(data, [0, 1, 2])
        with pytest.raises(DataplaneGone, match="malformed"):
            await task

    run(test)


@pytest.mark.parametrize("body", [layout.escrow(3, 1, b"blob", 1), layout.escrow(3, 1, b"b")[:-1]])
def test_escrow_that_lies_about_its_size(body: bytes) -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.escrow_get(0))
        other.reply(other.receive()[0].seq, body=body, fds=[0, 1])
        with pytest.raises(DataplaneGone):
            await task

    run(test)


def test_a_cancelled_callers_reply_is_dropped_with_its_fds() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        task = await soon(link.escrow_get(0))
        task.cancel()
        await asyncio.sleep(0)
        other.reply(other.receive()[0].seq, body=layout.escrow(3, 1, b"", 2), fds=[0, 1])
        await asyncio.sleep(0.01)
        assert not link.gone.done()

    run(test)


def test_a_full_socket_delays_and_loses_nothing() -> None:
    """The caller's descriptors may be closed, and reused, while a message waits for room."""

    async def test(link: Link, other: Other, events: list[Event]) -> None:
        tasks, n = [], 200
        names = []
        for i in range(n):
            fd = os.memfd_create(f"number-{i}")
            names.append(f"/memfd:number-{i} (deleted)")
            tasks.append(asyncio.ensure_future(link.escrow_put(1, 0, b"x" * 30000, [fd])))
            await asyncio.sleep(0)
            os.close(fd)
        seen: list[str] = []
        while len(seen) < n:
            head, _, fds = other.receive()
            seen.append(os.readlink(f"/proc/self/fd/{fds[0]}"))
            os.close(fds[0])
            other.reply(head.seq)
            await asyncio.sleep(0)
        assert seen == names
        await asyncio.gather(*tasks)

    run(test)


def test_closing_with_a_full_queue_leaks_nothing() -> None:
    async def test(link: Link, other: Other, events: list[Event]) -> None:
        fd = os.eventfd(0)
        tasks = [
            asyncio.ensure_future(link.escrow_put(1, 0, b"x" * 30000, [fd])) for _ in range(100)
        ]
        await asyncio.sleep(0.01)
        os.close(fd)
        link.close("enough")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, DataplaneGone) for result in results)

    run(test)
