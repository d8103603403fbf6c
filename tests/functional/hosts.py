# SPDX-License-Identifier: Apache-2.0
"""Hosts beside the guests, for the TAP tests: raw frames in a namespace, and a guest that answers.

``RawSocket`` is an AF_PACKET socket inside a network namespace, so that tags
are seen as the kernel has them.  ``Responder`` makes the Python front-end
answer ARP and ping, which is all a host needs to believe in it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from testbed.netns import Namespace

from .conftest import Guest

SOL_PACKET, PACKET_AUXDATA = 263, 8
VLAN_VALID = 0x10  # TP_STATUS_VLAN_VALID
ETH_P_ALL = 3
ARP, IPV4 = b"\x08\x06", b"\x08\x00"


class RawSocket:
    """Sends and receives whole frames at an interface of a namespace."""

    def __init__(self, namespace: Namespace, ifname: str) -> None:
        every = socket.htons(ETH_P_ALL)
        self.sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, every)
        self.sock.bind((ifname, ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)

    def send(self, data: bytes) -> None:
        self.sock.send(data)

    def receive(self, ethertype: bytes, timeout: float = 5) -> tuple[int | None, bytes]:
        """VLAN id (None: untagged) and frame, of the next one of that type that came in."""
        self.sock.settimeout(timeout)
        while True:
            data, ancillary, _, address = self.sock.recvmsg(65536, 256)
            if address[2] == socket.PACKET_OUTGOING or data[12:14] != ethertype:
                continue
            # struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid
            status, _, _, _, _, tci, _ = struct.unpack("<IIIHHHH", ancillary[0][2][:20])
            return (tci & 0xFFF if status & VLAN_VALID else None), data

    def close(self) -> None:
        self.sock.close()


class Responder:
    """Answers ARP and ping in the name of a Python front-end, until it is told to stop."""

    def __init__(self, guest: Guest, ip: str) -> None:
        self.guest, self.ip = guest, socket.inet_aton(ip)
        self.pings = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            answers = [self._answer(f) for _, f in self.guest.front.recv_frames(1, timeout=0.2)]
            self.guest.front.send_frames([a for a in answers if a])

    def _answer(self, f: bytes) -> bytes:
        eth = f[6:12] + self.guest.mac + f[12:14]
        if f[12:14] == ARP and f[20:22] == b"\0\1" and f[38:42] == self.ip:
            return eth + f[14:20] + b"\0\2" + self.guest.mac + self.ip + f[22:32]
        if f[12:14] == IPV4 and f[23] == 1 and f[30:34] == self.ip and f[34] == 8:
            self.pings += 1
            # Type 8 becomes 0: the sum's complement grows by 0x0800 (RFC 1624).
            csum = int.from_bytes(f[36:38], "big") + 0x0800
            csum = (csum & 0xFFFF) + (csum >> 16)
            ip = f[14:26] + f[30:34] + f[26:30]
            return eth + ip + b"\0\0" + csum.to_bytes(2, "big") + f[38:]
        return b""

    def __enter__(self) -> Responder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def raw_socket(namespace: Namespace, ifname: str) -> Iterator[RawSocket]:
    raw = RawSocket(namespace, ifname)
    try:
        yield raw
    finally:
        raw.close()
