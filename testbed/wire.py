# SPDX-License-Identifier: Apache-2.0
"""The cable of an emulated adapter: frames between QEMU and this process, none lost on the way.

QEMU's ``-netdev dgram`` sends each frame as one datagram of a Unix socket.  A full socket makes
either side wait, so what is counted here is exact.  ``Wire`` is that socket with a thread that
empties it; ``Peer`` is a network namespace at the other end of the cable, whose kernel knows
nothing of the switch: a TAP device without offloads, so that it computes and verifies every
checksum itself.

A Peer may be in a VLAN of the wire.  The tag is put on and taken off here: the host's kernel need
not have 8021q.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from testbed import TestbedError, unprivileged
from testbed.netns import Namespace, configure
from testbed.qemu import Network

FRAME_MAX = 65536 + 64
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 2, 0x1000
TAG = b"\x81\x00"
SEND_SECONDS = 30.0


class Wire:
    """What passes the cable: counted, kept where somebody asked for it, handed to peers."""

    def __init__(self, path: Path) -> None:
        """``path`` names two sockets, path.nic (QEMU's) and path.wire (ours)."""
        self.path = path
        self.frames = 0  # from the adapter, counted by the pump
        self.bytes = 0
        self._nic = f"{path}.nic"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"{path}.wire")
        unprivileged.own(Path(f"{path}.wire"), unprivileged.identity())
        self._socket.settimeout(0.2)
        self._kept: deque[bytes] | None = None
        self._arrived = threading.Condition()
        self._peers: tuple[Callable[[bytes], None], ...] = ()
        self._ended = threading.Event()
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.settimeout(SEND_SECONDS)
        self._pump = threading.Thread(target=self._run, name=f"wire {path.name}", daemon=True)
        self._pump.start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def send(self, frame: bytes) -> None:
        """A frame to the adapter; waits while QEMU's socket is full."""
        self._sender.sendto(frame, self._nic)

    def send_all(self, frames: Iterable[bytes]) -> int:
        """Many; returns how many."""
        sent = 0
        for frame in frames:
            self._sender.sendto(frame, self._nic)
            sent += 1
        return sent

    def keep(self) -> None:
        """Keep frames from now on, for receive()."""
        self._kept = deque()

    def receive(self, wanted: Callable[[bytes], bool], timeout: float = 30.0) -> bytes | None:
        """The next kept frame that is wanted; others are dropped.  None: there was none in time."""
        kept = self._kept
        assert kept is not None, "keep() comes first"
        with self._arrived:
            while True:
                while kept:
                    frame = kept.popleft()
                    if wanted(frame):
                        return frame
                if not self._arrived.wait(timeout):
                    return None

    def connect(self, peer: Callable[[bytes], None]) -> None:
        """Hand every frame to that function too, in the pump's thread."""
        self._peers += (peer,)

    def disconnect(self, peer: Callable[[bytes], None]) -> None:
        """No longer."""
        self._peers = tuple(other for other in self._peers if other != peer)

    def close(self) -> None:
        """End the pump and remove the socket."""
        self._ended.set()
        self._pump.join()
        self._socket.close()
        self._sender.close()
        Path(f"{self.path}.wire").unlink(missing_ok=True)

    def _run(self) -> None:
        buffer = bytearray(FRAME_MAX)
        receive = self._socket.recv_into
        while not self._ended.is_set():
            try:
                length = receive(buffer)
            except TimeoutError:
                continue
            self.frames += 1
            self.bytes += length
            if self._kept is None and not self._peers:
                continue
            frame = bytes(buffer[:length])
            if self._kept is not None:
                with self._arrived:
                    self._kept.append(frame)
                    self._arrived.notify_all()
            for peer in self._peers:
                peer(frame)


class Peer:
    """A namespace at the cable."""

    def __init__(self, wire: Wire, namespace: Namespace, ifname: str, network: Network, *,
                 vid: int | None = None) -> None:
        self.wire, self.namespace, self.ifname = wire, namespace, ifname
        self._tag = None if vid is None else TAG + struct.pack("!H", vid)
        self._device = _tap(ifname)
        self._wake, self._stop = os.pipe()
        try:
            namespace.take(ifname)
            configure(namespace, ifname, network)
        except TestbedError:
            os.close(self._device)
            raise
        self._thread = threading.Thread(target=self._run, name=f"peer {ifname}", daemon=True)
        self._thread.start()
        wire.connect(self._to_kernel)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take it off the cable; the TAP device goes with its descriptor."""
        self.wire.disconnect(self._to_kernel)
        os.write(self._stop, b"x")
        self._thread.join()
        for fd in (self._device, self._wake, self._stop):
            os.close(fd)

    def _to_kernel(self, frame: bytes) -> None:
        tagged = frame[12:14] == TAG
        if self._tag is None:
            if tagged:
                return
        else:
            if not tagged or (frame[14] & 0x0F, frame[15]) != (self._tag[2], self._tag[3]):
                return
            frame = frame[:12] + frame[16:]
        with contextlib.suppress(OSError):  # the device is down or full: as on any cable
            os.write(self._device, frame)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._device, self._wake], [], [])
            if self._wake in ready:
                return
            try:
                frame = os.read(self._device, FRAME_MAX)
            except BlockingIOError:
                continue
            if self._tag is not None:
                frame = frame[:12] + self._tag + frame[12:]
            with contextlib.suppress(OSError):  # the adapter is gone
                self.wire.send(frame)


def _tap(ifname: str) -> int:
    """A TAP device that lives as long as its descriptor."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", ifname.encode(), IFF_TAP | IFF_NO_PI))
    except OSError as error:
        raise TestbedError(f"cannot make the TAP device {ifname}: {error.strerror}") from error
    return fd
