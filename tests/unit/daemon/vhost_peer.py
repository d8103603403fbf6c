# SPDX-License-Identifier: Apache-2.0
"""A scripted vhost-user front-end for unit tests: sends what it is told, polite or not."""

from __future__ import annotations

import array
import asyncio
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Sequence

RAM = 1 << 20
UVA = 0x7F0000000000
GPA = 0
QSIZE = 256
RING_STEP = 0x8000  # room for one ring in the RAM

QEMU_FEATURES = 0x140208003 | 1 << 30  # VERSION_1, PROTOCOL, EVENT_IDX..., see golden test


def ram(size: int = RAM) -> int:
    fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def region(gpa: int = GPA, size: int = RAM, uva: int = UVA, offset: int = 0) -> bytes:
    return struct.pack("=QQQQ", gpa, size, uva, offset)


def table(*regions: bytes) -> bytes:
    return struct.pack("=II", len(regions), 0) + b"".join(regions)


def one_region(data: bytes) -> bytes:
    return struct.pack("=Q", 0) + data


def vring(index: int, num: int) -> bytes:
    return struct.pack("=II", index, num)


def addr(index: int, base: int | None = None, flags: int = 0, log: int = 0) -> bytes:
    at = UVA + index * RING_STEP if base is None else base
    return struct.pack("=IIQQQQ", index, flags, at, at + 0x6000, at + 0x4000, log)


def log(size: int, offset: int = 0) -> bytes:
    return struct.pack("=QQ", size, offset)


def number(value: int) -> bytes:
    return struct.pack("=Q", value)


def message(request: int, payload: bytes = b"", flags: int = 1) -> bytes:
    return struct.pack("=III", request, flags, len(payload)) + payload


class Peer:
    """One connection; closes its own descriptors."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    @classmethod
    async def connect(cls, path: str) -> Peer:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
        return cls(sock)

    def close(self) -> None:
        self.sock.close()

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([data], rights)
        assert sent == len(data)

    def send(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), need_reply: bool = False
    ) -> None:
        self.send_raw(message(request, payload, 9 if need_reply else 1), fds)

    async def receive(self, timeout: float = 30.0) -> tuple[int, bytes] | None:
        """Request and payload of the next reply; None when we were hung up on."""
        loop = asyncio.get_running_loop()

        async def exactly(n: int) -> bytes:
            data = b""
            while len(data) < n:
                try:
                    part = await loop.sock_recv(self.sock, n - len(data))
                except ConnectionResetError:
                    return b""
                if not part:
                    return b""
                data += part
            return data

        head = await asyncio.wait_for(exactly(12), timeout)
        if not head:
            return None
        request, flags, size = struct.unpack("=III", head)
        assert flags == 5, flags
        return request, await asyncio.wait_for(exactly(size), timeout)

    async def ask(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), need_reply: bool = False
    ) -> int:
        """The u64 (or the second u32 of a vring state) of the reply."""
        self.send(request, payload, fds, need_reply)
        reply = await self.receive()
        assert reply is not None, f"hung up instead of answering {request}"
        assert reply[0] == request
        if request == 11:
            return int(struct.unpack("=II", reply[1])[1])
        return int(struct.unpack("=Q", reply[1])[0])

    async def ack(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        return await self.ask(request, payload, fds, need_reply=True)

    async def is_hung_up(self, timeout: float = 30.0) -> bool:
        try:
            return await self.receive(timeout) is None
        except asyncio.TimeoutError:
            return False


async def set_up(peer: Peer, ram_fd: int, features: int = 1 << 32 | 1 << 30, base: int = 0
                 ) -> dict[str, int]:  # fmt: skip
    """The shortest way to two running rings; returns the eventfds by name (caller closes)."""
    fds = {}
    assert await peer.ack(2, number(features)) == 0
    assert await peer.ack(5, table(region()), [ram_fd]) == 0
    for index in (0, 1):
        kick, call = eventfd(), eventfd()
        fds[f"kick{index}"], fds[f"call{index}"] = kick, call
        assert await peer.ack(8, vring(index, QSIZE)) == 0
        assert await peer.ack(10, vring(index, base)) == 0
        assert await peer.ack(9, addr(index)) == 0
        assert await peer.ack(13, number(index), [call]) == 0
        assert await peer.ack(12, number(index), [kick]) == 0
        assert await peer.ack(18, vring(index, 1)) == 0
    return fds


def set_used_idx(ram_fd: int, index: int, value: int) -> None:
    """What the guest would see as used, written as a device would."""
    at = index * RING_STEP + 0x6000 + 2
    with mmap.mmap(ram_fd, RAM) as memory:
        memory[at : at + 2] = value.to_bytes(2, "little")


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def rss_kib() -> int:
    with open("/proc/self/statm", encoding="ascii") as text:
        return int(text.read().split()[1]) * (mmap.PAGESIZE // 1024)


def seal(fd: int, seals: int) -> None:
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
