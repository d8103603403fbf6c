# SPDX-License-Identifier: Apache-2.0
"""A whole front-end: socket, negotiation, receive and transmit rings, frames.

Ring 0 receives, ring 1 transmits (the guest's view), and so on for each queue
pair.  ``start`` does what a polite QEMU does; the pieces can be called one by
one to do otherwise.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterable, Sequence

from . import messages as m
from .memory import GuestRam
from .virtq import DriverRing, PackedRing

POLITE = (
    m.F_VERSION_1
    | m.F_MRG_RXBUF
    | m.F_INDIRECT_DESC
    | m.F_EVENT_IDX
    | m.F_CSUM
    | m.F_GUEST_CSUM
    | m.F_HOST_TSO4
    | m.F_HOST_TSO6
    | m.F_GUEST_TSO4
    | m.F_GUEST_TSO6
    | m.F_PROTOCOL_FEATURES
)
RX, TX = 0, 1


class PeerClosed(Exception):
    """The switch closed the connection."""


class Frontend:
    """One vhost-user connection and the guest behind it."""

    def __init__(
        self,
        path: str,
        *,
        listen: bool = False,
        ram: GuestRam | None = None,
        ring_size: int = 256,
        pairs: int = 1,
        wanted: int = POLITE & ~m.F_EVENT_IDX,
    ) -> None:
        self.path, self.wanted = path, wanted if pairs == 1 else wanted | m.F_MQ
        self.ram = ram or GuestRam()
        self.layout: type[DriverRing] = PackedRing if wanted & m.F_RING_PACKED else DriverRing
        self.rings = [self.layout(self.ram, ring_size) for _ in range(2 * pairs)]
        self.features = 0
        self.protocol_features = 0
        self.rx_of: dict[int, dict[int, tuple[int, int]]] = {i: {} for i in self.rx_rings}
        self._tx_free: list[tuple[int, int]] = []
        self._tx_used: dict[tuple[int, int], tuple[int, int]] = {}
        self._listener: socket.socket | None = None
        if listen:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self._listener.bind(path)
            os.chmod(path, 0o666)
            self._listener.listen(1)
        self.sock: socket.socket | None = None

    @property
    def rx_rings(self) -> range:
        return range(0, len(self.rings), 2)

    @property
    def rx_buffers(self) -> dict[int, tuple[int, int]]:
        """The buffers in the first receive ring, by head."""
        return self.rx_of[RX]

    # -- the socket ---------------------------------------------------------

    def connect(self, timeout: float = 10.0) -> Frontend:
        """Connect to the switch, or wait until it connects to us."""
        end = time.monotonic() + timeout
        if self._listener is not None:
            self._listener.settimeout(timeout)
            self.sock, _ = self._listener.accept()
        else:
            while True:
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    self.sock.connect(self.path)
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    self.sock.close()
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)
        self.sock.settimeout(timeout)
        return self

    def disconnect(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def close(self) -> None:
        self.disconnect()
        if self._listener is not None:
            self._listener.close()
        for ring in self.rings:
            ring.close()
        self.ram.close()

    def __enter__(self) -> Frontend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        assert self.sock is not None
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.sock.sendmsg([data], anc)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise PeerClosed(str(e)) from e

    def _recv_exactly(self, n: int) -> bytes:
        assert self.sock is not None
        out = b""
        while len(out) < n:
            try:
                part = self.sock.recv(n - len(out))
            except ConnectionResetError as e:
                raise PeerClosed(str(e)) from e
            if not part:
                raise PeerClosed("end of stream")
            out += part
        return out

    def recv(self) -> tuple[int, int, bytes]:
        """One reply: (request, flags, payload)."""
        request, flags, size = m.HEADER.unpack(self._recv_exactly(m.HEADER.size))
        return request, flags, self._recv_exactly(size)

    def send(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        self.send_raw(m.pack(request, payload), fds)

    def ask(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a request that has a reply of its own; returns the reply's payload."""
        self.send(request, payload, fds)
        got, flags, data = self.recv()
        if got != request or not flags & m.REPLY:
            raise AssertionError(f"reply to {request} is {got} flags {flags:#x}")
        return data

    def ask_u64(self, request: int) -> int:
        value: int = struct.unpack("<Q", self.ask(request))[0]
        return value

    def acked(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """Send with "reply wanted" (REPLY_ACK negotiated); returns 0 or the error value."""
        self.send_raw(m.pack(request, payload, need_reply=True), fds)
        got, flags, data = self.recv()
        if got != request or not flags & m.REPLY:
            raise AssertionError(f"reply to {request} is {got} flags {flags:#x}")
        value: int = struct.unpack("<Q", data)[0]
        return value

    # -- negotiation --------------------------------------------------------

    def negotiate(self) -> None:
        offered = self.ask_u64(m.Req.GET_FEATURES)
        self.features = offered & self.wanted
        if offered & m.F_PROTOCOL_FEATURES:
            self.protocol_features = self.ask_u64(m.Req.GET_PROTOCOL_FEATURES) & (
                m.PF_REPLY_ACK | m.PF_CONFIGURE_MEM_SLOTS | m.PF_STATUS | m.PF_MTU
                | (m.PF_MQ if len(self.rings) > 2 else 0)
                | m.PF_LOG_SHMFD | m.PF_RARP
            )
            self.send(m.Req.SET_PROTOCOL_FEATURES, struct.pack("<Q", self.protocol_features))
        self.send(m.Req.SET_OWNER)
        self.send(m.Req.SET_FEATURES, struct.pack("<Q", self.features))

    def mem_table(self) -> tuple[bytes, list[int]]:
        payload = struct.pack("<II", len(self.ram.regions), 0)
        for r in self.ram.regions:
            payload += m.pack_region(r.gpa, r.size, r.uva, r.offset)
        return payload, [r.fd for r in self.ram.regions]

    def set_mem_table(self) -> None:
        payload, fds = self.mem_table()
        self.send(m.Req.SET_MEM_TABLE, payload, fds)

    def setup_ring(self, index: int, base: int | None = None, apart: int = 0) -> None:
        """``base``: where it goes on, by default as a new ring.

        ``apart``: how much further on our side its memory lies than ``ram`` says.
        """
        ring = self.rings[index]

        def uva(gpa: int) -> int:
            return self.ram.uva(gpa) + apart

        self.send(m.Req.SET_VRING_NUM, m.pack_state(index, ring.size))
        self.send(m.Req.SET_VRING_BASE, m.pack_state(index, ring.start if base is None else base))
        addr = m.pack_ring_addr(index, uva(ring.desc), uva(ring.used), uva(ring.avail))
        self.send(m.Req.SET_VRING_ADDR, addr)
        self.send(m.Req.SET_VRING_CALL, struct.pack("<Q", index), [ring.call_fd])
        self.send(m.Req.SET_VRING_ERR, struct.pack("<Q", index), [ring.err_fd])
        self.send(m.Req.SET_VRING_KICK, struct.pack("<Q", index), [ring.kick_fd])

    def enable(self, on: bool = True, rings: Iterable[int] | None = None) -> None:
        for index in range(len(self.rings)) if rings is None else rings:
            self.send(m.Req.SET_VRING_ENABLE, m.pack_state(index, int(on)))

    def sync(self) -> None:
        """Wait until the switch has worked off everything sent so far."""
        self.ask_u64(m.Req.GET_FEATURES)

    def start(self, rx_buffers: int = 64, buffer_size: int = 2048) -> Frontend:
        """Everything a polite front-end does until frames flow."""
        if self.sock is None:
            self.connect()
        self.negotiate()
        self.set_mem_table()
        for index in range(len(self.rings)):
            self.setup_ring(index)
        if self.features & m.F_PROTOCOL_FEATURES:
            self.enable()
        if self.protocol_features & m.PF_STATUS:
            self.send(m.Req.SET_STATUS, struct.pack("<Q", m.STATUS_DRIVER_OK))
        self.sync()
        for index in self.rx_rings:
            self.post_rx(rx_buffers, buffer_size, index)
        return self

    def stop_ring(self, index: int) -> int:
        """GET_VRING_BASE: stop a ring; returns the next avail index, or position."""
        data = self.ask(m.Req.GET_VRING_BASE, m.pack_state(index, 0))
        base: int = struct.unpack("<II", data)[1]
        if self.layout is PackedRing:
            assert base >> 16 == base & 0xFFFF, "nothing is in flight"
            base &= 0xFFFF
        return base

    def reset(self) -> None:
        """What a rebooted guest does: memory cleared, new rings, old buffers forgotten."""
        for ring in self.rings:
            ring.close()
        sizes = [ring.size for ring in self.rings]
        self.ram.clear()
        self.rings = [self.layout(self.ram, size) for size in sizes]
        for buffers in self.rx_of.values():
            buffers.clear()
        self._tx_used.clear()
        self._tx_free.clear()

    # -- frames ---------------------------------------------------------------

    @property
    def hdr_len(self) -> int:
        return 12 if self.features & (m.F_VERSION_1 | m.F_MRG_RXBUF) else 10

    def reset_ring(self, index: int, size: int) -> None:
        """VIRTIO_F_RING_RESET: this ring anew, of another size; its buffers come back to us."""
        self.stop_ring(index)
        self.rings[index].close()
        self.rings[index] = self.layout(self.ram, size)
        if index % 2 == 0:
            self.rx_of[index].clear()
        self.setup_ring(index)
        self.sync()

    def post_rx(self, count: int, size: int = 2048, index: int = RX) -> None:
        """Give the switch receive buffers."""
        ring = self.rings[index]
        for _ in range(count):
            gpa = self.ram.alloc(size)
            self.rx_of[index][ring.add([(gpa, size, True)])] = (gpa, size)
        ring.publish()
        ring.kick()

    def _tx_buffer(self, size: int) -> tuple[int, int]:
        for i, (gpa, room) in enumerate(self._tx_free):
            if room >= size:
                del self._tx_free[i]
                return gpa, room
        room = max(size, 2048)
        return self.ram.alloc(room), room

    def send_frames(
        self,
        frames: Iterable[bytes],
        header: bytes | None = None,
        wait: bool = True,
        timeout: float = 5.0,
        index: int = TX,
    ) -> int:
        """Transmit frames (zero virtio-net header unless given); returns how many came back."""
        ring = self.rings[index]
        n = 0
        for frame in frames:
            data = (header if header is not None else bytes(self.hdr_len)) + frame
            gpa, room = self._tx_buffer(len(data))
            self.ram.write(gpa, data)
            self._tx_used[index, ring.add([(gpa, len(data), False)])] = (gpa, room)
            n += 1
        ring.publish()
        ring.kick()
        return len(self.reap_tx(n, timeout, index)) if wait else n

    def reap_tx(self, count: int, timeout: float = 5.0, index: int = TX) -> list[int]:
        """Wait for completed transmissions, recycle their buffers; returns the heads."""
        heads = [head for head, _ in self.rings[index].wait_used(count, timeout)]
        for head in heads:
            if (index, head) in self._tx_used:
                self._tx_free.append(self._tx_used.pop((index, head)))
        return heads

    def recv_frames(
        self, count: int, timeout: float = 5.0, quiet: float | None = None, index: int = RX
    ) -> list[tuple[bytes, bytes]]:
        """Wait for frames; returns (virtio-net header, frame) each and posts the buffers again.

        ``quiet``: instead of a count, collect until nothing came for that many seconds.
        """
        ring, buffers = self.rings[index], self.rx_of[index]
        out: list[tuple[bytes, bytes]] = []
        pending = b""
        buffers_left = 0
        end = time.monotonic() + timeout
        while time.monotonic() < end and (quiet is not None or len(out) < count):
            done = ring.wait_used(1, quiet if quiet is not None else end - time.monotonic())
            if not done:
                break
            for head, written in done:
                gpa, size = buffers.pop(head)
                data = self.ram.read(gpa, written)
                buffers[ring.add([(gpa, size, True)])] = (gpa, size)
                pending += data
                if buffers_left == 0:
                    mergeable = self.hdr_len == 12 and self.features & m.F_MRG_RXBUF
                    buffers_left = struct.unpack("<H", data[10:12])[0] if mergeable else 1
                buffers_left -= 1
                if buffers_left == 0:
                    out.append((pending[: self.hdr_len], pending[self.hdr_len :]))
                    pending = b""
            ring.publish()
            ring.kick()
        return out
