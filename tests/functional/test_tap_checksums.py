# SPDX-License-Identifier: Apache-2.0
"""Checksums of what comes from and goes to a network namespace, looked at by scapy.

A kernel leaves the checksum of what it sends through a TAP device to the other
side.  A receiver that did not ask for such frames gets complete ones: above all
DHCP clients, which read frames and not what a kernel has checked for them.

Between two namespaces a frame stays as it is, which the receiving kernel says
beside each frame (TP_STATUS_CSUMNOTREADY): then the field must hold the sum
that whoever completes it starts from.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import checksum

from testbed import netns
from testbed.daemons import Switch
from testbed.netns import Namespace, Tap
from testbed.qemu import Network

from .conftest import Guest, Lab
from .frontend import messages as m
from .frontend.peer import POLITE
from .hosts import SOL_PACKET

_missing = netns.available()
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.timeout(300),
]
PLAIN = POLITE & ~(
    m.F_EVENT_IDX | m.F_CSUM | m.F_GUEST_CSUM | m.F_HOST_TSO4 | m.F_HOST_TSO6 | m.F_GUEST_TSO4
    | m.F_GUEST_TSO6
)  # fmt: skip
PACKET_AUXDATA, CSUM_NOT_READY, ETH_P_ALL = 8, 1 << 3, 3
GUEST, GUEST6 = "10.9.0.201", "fd00:75::201"
PORT = 7777
FAR, FAR6 = "10.9.0.202", "fd00:75::202"
SIZES = (0, 1, 2, 547, 548, 1451)
_numbers = itertools.count(1)


def complete(frame: bytes) -> bool:
    """Whether scapy would have written the very same checksums."""
    ours = frame[: length(Ether(frame))]
    anew: Any = Ether(ours)
    for layer in (IP, UDP, TCP):
        if layer in anew:
            del anew[layer].chksum
    return bytes(anew) == ours


def length(frame: Ether) -> int:
    """Without what fills a short frame up."""
    return 14 + (frame[IP].len if IP in frame else frame[IPv6].plen + 40)


def begun(frame: bytes) -> bool:
    """Whether the checksum is the pseudo header's sum, from which a completed one starts."""
    seen = Ether(frame)
    upper = seen[TCP] if TCP in seen else seen[UDP]
    size = length(seen) - (34 if IP in seen else 54)
    if IP in seen:
        family, addresses = socket.AF_INET, (seen[IP].src, seen[IP].dst)
        tail = struct.pack("!BBH", 0, seen[IP].proto, size)
    else:
        family, addresses = socket.AF_INET6, (seen[IPv6].src, seen[IPv6].dst)
        tail = struct.pack("!IHBB", size, 0, 0, seen[IPv6].nh)
    pseudo = b"".join(socket.inet_pton(family, one) for one in addresses) + tail
    return bool(upper.chksum == checksum(pseudo) ^ 0xFFFF)


@dataclass
class Seen:
    frame: bytes
    complete: bool  # as the receiving kernel says


class Capture:
    """What arrives at a device of a namespace, and whether its kernel takes the checksum for
    complete."""

    def __init__(self, namespace: Namespace, ifname: str) -> None:
        self._sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._sock.bind((ifname, ETH_P_ALL))
        self._sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._sock.settimeout(10)

    def next(self, wanted: Callable[[Ether], bool]) -> Seen:
        while True:
            data, ancillary, _, address = self._sock.recvmsg(65536, 256)
            if address[2] != socket.PACKET_OUTGOING and wanted(Ether(data)):
                status = struct.unpack("<I", ancillary[0][2][:4])[0]
                return Seen(data, not status & CSUM_NOT_READY)

    def close(self) -> None:
        self._sock.close()


class Host:
    """A namespace behind a TAP port."""

    def __init__(self, switch: Switch, network: Network) -> None:
        number = next(_numbers)
        self.switch, self.port = switch, f"taphost{number}"
        self.namespace = Namespace(f"ustapsum-{os.getpid()}-{number}")
        self.tap = Tap(f"ustapsum{number}")
        switch.add_tap(self.port, self.tap.ifname, segment="lan")
        self.namespace.adopt(self.tap, network)
        self.address = network.ip.partition("/")[0] if network.ip else ""

    def knows(self, address: str, mac: bytes) -> None:
        """Nobody has to be asked for the address."""
        command = ["ip", "-n", self.namespace.name, "neighbour", "replace", address, "lladdr",
                   mac.hex(":"), "dev", self.tap.ifname]  # fmt: skip
        subprocess.run(command, check=True)

    def socket(self, address: str, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.namespace.socket(family, kind)

    def mac(self) -> bytes:
        shown = self.namespace.run(["cat", f"/sys/class/net/{self.tap.ifname}/address"])
        return bytes.fromhex(shown.output.strip().replace(":", ""))

    def errors(self) -> int:
        """UDP datagrams that this kernel found damaged."""
        lines = self.namespace.run(["cat", "/proc/net/snmp"]).output.splitlines()
        head, values = (line.split() for line in lines if line.startswith("Udp:"))
        return int(values[head.index("InCsumErrors")])

    def close(self) -> None:
        self.switch.call("port.delete", name=self.port)
        self.tap.close()
        self.namespace.close()


@pytest.fixture
def host(switch: Switch) -> Iterator[Host]:
    made = Host(switch, Network(ip="10.9.0.200/24", ip6="fd00:75::200/64"))
    yield made
    made.close()


@pytest.fixture
def far(switch: Switch) -> Iterator[Host]:
    made = Host(switch, Network(ip=f"{FAR}/24", ip6=f"{FAR6}/64"))
    yield made
    made.close()


def received(guest: Guest, wanted: Callable[[Ether], bool]) -> tuple[bytes, bytes]:
    """Header and frame of the next one of that kind that the guest got."""
    for _ in range(100):
        for header, frame in guest.front.recv_frames(1, timeout=10):
            if wanted(Ether(frame)):
                return header, frame
    raise AssertionError("no such frame came")


def udp_to(port: int) -> Callable[[Ether], bool]:
    return lambda frame: UDP in frame and frame[UDP].dport == port


def syn(frame: Ether) -> bool:
    return TCP in frame and frame[TCP].flags == "S"


# ---- from a namespace to a guest that takes nothing unfinished ----


def test_the_eye_sees_what_is_wrong() -> None:
    for good in (
        Ether() / IP(src="10.9.0.1", dst=GUEST) / UDP(sport=67, dport=68) / b"odd",
        Ether() / IPv6(src="fd00::1", dst=GUEST6) / TCP(dport=80) / b"even",
    ):
        frame = bytes(good)
        assert complete(frame) and complete(frame + bytes(7)) and not begun(frame)
        for at in (len(frame) - 1, 30):
            assert not complete(frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :])


def test_dhcp_answers_are_complete(lab: Lab, host: Host) -> None:
    """As dnsmasq sends them: UDP from 67 to 68, to one station and to all."""
    guest = lab.guest("lan", wanted=PLAIN)
    host.knows(GUEST, guest.mac)
    with host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, host.tap.ifname.encode())
        server.bind((host.address, 67))
        for address, size in itertools.product((GUEST, "255.255.255.255"), SIZES):
            server.sendto(os.urandom(size), (address, 68))
            header, frame = received(guest, udp_to(68))
            assert header[:2] == b"\0\0", "no flag and no segmentation asked for"
            assert complete(frame) and Ether(frame)[UDP].chksum != 0
    assert lab.show(host.port)["incoming"]["frames"] >= 2 * len(SIZES)
    assert lab.show(guest.name)["outgoing"]["csum_fixed"] >= 2 * len(SIZES)


@pytest.mark.parametrize("address", [GUEST, GUEST6])
def test_udp_and_tcp_to_a_plain_guest(lab: Lab, host: Host, address: str) -> None:
    guest = lab.guest("lan", wanted=PLAIN)
    host.knows(address, guest.mac)
    with host.socket(address, socket.SOCK_DGRAM) as sender:
        for size in SIZES:
            sender.sendto(os.urandom(size), (address, PORT))
            assert complete(received(guest, udp_to(PORT))[1])
    with host.socket(address, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.connect_ex((address, 80))
        assert complete(received(guest, syn)[1])


def test_a_guest_that_asked_for_it_gets_them_unfinished(lab: Lab, host: Host) -> None:
    """Or nothing above would have been the switch's work."""
    guest = lab.guest("lan")
    host.knows(GUEST, guest.mac)
    with host.socket(GUEST, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x" * 100, (GUEST, PORT))
    header, frame = received(guest, udp_to(PORT))
    assert header[0] & 1 and begun(frame) and not complete(frame)


# ---- from a guest to a namespace ----


@pytest.mark.parametrize("version", [4, 6])
def test_from_a_plain_guest(lab: Lab, host: Host, version: int) -> None:
    """The kernel's own check: a whole datagram is delivered, a damaged one is not."""
    guest = lab.guest("lan", wanted=PLAIN)
    address, source = (host.address, GUEST) if version == 4 else ("fd00:75::200", GUEST6)
    network = IP(src=source, dst=address) if version == 4 else IPv6(src=source, dst=address)
    ether = Ether(src=guest.mac.hex(":"), dst=host.mac().hex(":"))
    capture = Capture(host.namespace, host.tap.ifname)
    with host.socket(address, socket.SOCK_DGRAM) as server:
        server.settimeout(10)
        server.bind((address, PORT))
        for size in SIZES[1:]:
            good = bytes(ether / network / UDP(sport=9, dport=PORT) / os.urandom(size))
            bad = good[:-1] + bytes([good[-1] ^ 1])
            guest.front.send_frames([bad, good])
            assert server.recv(2048) == good[-size:]
            for want in (False, True):
                seen = capture.next(udp_to(PORT))
                assert seen.complete and complete(seen.frame) is want
    if version == 4:
        assert host.errors() == len(SIZES) - 1
    capture.close()


def test_from_a_guest_that_leaves_it_to_us(lab: Lab, host: Host) -> None:
    """VIRTIO_NET_HDR_F_NEEDS_CSUM of a guest reaches the namespace's kernel as it is."""
    guest = lab.guest("lan")
    frame = bytearray(bytes(
        Ether(src=guest.mac.hex(":"), dst=host.mac().hex(":"))
        / IP(src=GUEST, dst=host.address) / UDP(sport=9, dport=PORT) / b"left to us"
    ))  # fmt: skip
    pseudo = frame[26:34] + struct.pack("!BBH", 0, 17, len(frame) - 34)
    frame[40:42] = struct.pack("!H", checksum(bytes(pseudo)) ^ 0xFFFF)
    capture = Capture(host.namespace, host.tap.ifname)
    with host.socket(host.address, socket.SOCK_DGRAM) as server:
        server.settimeout(10)
        server.bind((host.address, PORT))
        header = struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0)
        guest.front.send_frames([bytes(frame)], header=header)
        assert server.recv(2048) == b"left to us"
    seen = capture.next(udp_to(PORT))
    assert begun(seen.frame) and not seen.complete and host.errors() == 0
    capture.close()


# ---- between two namespaces ----


@pytest.mark.parametrize("address", [FAR, FAR6])
def test_between_namespaces(lab: Lab, host: Host, far: Host, address: str) -> None:
    """UDP and a TCP conversation, both ways; every frame either complete or declared not to be."""
    captures = [Capture(one.namespace, one.tap.ifname) for one in (host, far)]
    payload = os.urandom(200_000)
    with far.socket(address, socket.SOCK_DGRAM) as server, \
            host.socket(address, socket.SOCK_DGRAM) as sender:  # fmt: skip
        server.settimeout(10)
        server.bind((address, PORT))
        for size in SIZES[1:]:
            sender.sendto(payload[:size], (address, PORT))
            assert server.recv(2048) == payload[:size]
            seen = captures[1].next(udp_to(PORT))
            assert seen.complete is complete(seen.frame) and seen.complete is not begun(seen.frame)
    with far.socket(address, socket.SOCK_STREAM) as server, \
            host.socket(address, socket.SOCK_STREAM) as client:  # fmt: skip
        server.bind((address, 80))
        server.listen()
        client.settimeout(10)
        client.connect((address, 80))
        peer = server.accept()[0]
        with peer:
            for one, other in ((client, peer), (peer, client)):
                one.settimeout(10)
                one.sendall(payload)
                got = b""
                while len(got) < len(payload):
                    got += other.recv(1 << 16)
                assert got == payload
    for capture in captures:
        for _ in range(5):
            seen = capture.next(lambda frame: TCP in frame)
            assert complete(seen.frame) if seen.complete else begun(seen.frame)
        capture.close()
    assert host.errors() == far.errors() == 0
