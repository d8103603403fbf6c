# SPDX-License-Identifier: Apache-2.0
"""UDP segmentation between a namespace's kernel and guests with and without it.

The kernel makes the requests (socket option UDP_SEGMENT), takes ours apart
into datagrams, and, as a guest's without any offload, verifies the checksums
that software wrote.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import socket
from collections.abc import Iterator

import pytest

from testbed import netns
from testbed.daemons import Switch
from testbed.netns import Namespace, Tap
from testbed.qemu import Network
from tests.unit.dataplane.offload_requests import VNET, ones_sum, pseudo_header

from . import vms as v
from .conftest import Guest, Lab
from .frontend import messages as m
from .vms import Vm, Vms

_missing = netns.available()
_release = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.skipif(_release < (6, 2), reason="TAP devices have UDP segmentation since 6.2"),
    pytest.mark.timeout(600),
]
UDP_SEGMENT = 103
PORT, SIZE, DATAGRAMS = 7777, 1000, 40
NEEDS_CSUM, GSO_UDP_L4 = 1, 5
HOST = {4: "10.9.0.200", 6: "fd00:75::200"}
GUEST = {4: "10.9.0.201", 6: "fd00:75::201"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
PLAIN = m.F_VERSION_1 | m.F_MRG_RXBUF | m.F_PROTOCOL_FEATURES
_numbers = itertools.count(1)


class Host:
    """A namespace on a TAP port."""

    def __init__(self, switch: Switch, namespace: Namespace, tap: Tap, port: str) -> None:
        self.switch, self.namespace, self.tap, self.port = switch, namespace, tap, port

    @property
    def mac(self) -> bytes:
        shown = self.namespace.run(["cat", f"/sys/class/net/{self.tap.ifname}/address"]).output
        return bytes.fromhex(shown.strip().replace(":", ""))

    def knows(self, address: str, mac: str) -> None:
        words = f"ip neigh replace {address} lladdr {mac} dev {self.tap.ifname} nud permanent"
        assert self.namespace.run(words.split()).rc == 0

    def send(self, version: int, to: str, data: bytes, size: int) -> None:
        """One call, one request: the device gets it uncut."""
        with self.namespace.socket(FAMILY[version], socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
            assert sock.sendto(data, (to, PORT)) == len(data)

    def counters(self, direction: str) -> dict[str, int]:
        found: dict[str, int] = self.switch.call("port.show", name=self.port)[direction]
        return found


@pytest.fixture
def host(switch: Switch) -> Iterator[Host]:
    number = next(_numbers)
    name = f"uso{number}"
    namespace = Namespace(f"uswitch-{os.getpid()}-{name}")
    with namespace, Tap(f"ustestu{number}") as tap:
        switch.add_tap(name, tap.ifname, segment="lan")
        namespace.adopt(tap, Network(ip=f"{HOST[4]}/24", ip6=f"{HOST[6]}/64"))
        yield Host(switch, namespace, tap, name)
        switch.call("port.delete", name=name)


def content(seed: int) -> bytes:
    """The last datagram is shorter, and of an odd length."""
    return random.Random(seed).randbytes(DATAGRAMS * SIZE - 301)


def cut(data: bytes, size: int = SIZE) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def received(guest: Guest, version: int, frames: int) -> list[tuple[bytes, bytes]]:
    """Frames to our UDP port, with their virtio-net headers, without what else a host says."""
    found: list[tuple[bytes, bytes]] = []
    l4 = 14 + (20 if version == 4 else 40)
    while len(found) < frames:
        more = guest.front.recv_frames(1, timeout=10)
        assert more, f"{len(found)} of {frames} frames came"
        found += [
            (header, f)
            for header, f in more
            if f[12:14] == ETHERTYPE[version] and f[l4 + 2 : l4 + 4] == PORT.to_bytes(2, "big")
        ]
    return found


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("features", [0, m.F_GUEST_CSUM], ids=["no offload", "checksum"])
def test_kernel_to_guest_without(lab: Lab, host: Host, version: int, features: int) -> None:
    """Cut in software: every datagram is whole, with the checksum or with its beginning."""
    guest, data, l3 = lab.guest("lan", wanted=PLAIN | features), content(version), 14
    host.knows(GUEST[version], guest.mac.hex(":"))
    guest.send(b"\xff" * 6, [b"here"])
    host.send(version, GUEST[version], data, SIZE)
    l4 = l3 + (20 if version == 4 else 40)
    got = received(guest, version, DATAGRAMS)
    assert [f[l4 + 8 :] for _, f in got] == cut(data)
    for header, f in got:
        length = len(f) - l4
        pseudo = pseudo_header(f, l3, version == 6, True, length)
        assert int.from_bytes(f[l4 + 4 : l4 + 6], "big") == length
        if features:
            assert VNET.unpack(header[:10]) == (NEEDS_CSUM, 0, 0, 0, l4, 6)
            assert int.from_bytes(f[l4 + 6 : l4 + 8], "big") == ones_sum(pseudo)
        else:
            assert not any(header[:10])
            assert ones_sum(pseudo + f[l4:]) == 0xFFFF
        if version == 4:
            assert ones_sum(f[l3:l4]) == 0xFFFF
            assert int.from_bytes(f[l3 + 2 : l3 + 4], "big") == len(f) - l3
        else:
            assert int.from_bytes(f[l3 + 4 : l3 + 6], "big") == length
    assert host.counters("incoming")["gso"] == 1, "the kernel left it to us"


@pytest.mark.parametrize("version", [4, 6])
def test_kernel_to_guest_with(lab: Lab, host: Host, version: int) -> None:
    """In one piece; a guest that takes the other version of IP only gets datagrams."""
    bits = {4: m.F_GUEST_USO4, 6: m.F_GUEST_USO6}
    guest, data = lab.guest("lan", wanted=PLAIN | m.F_GUEST_CSUM | bits[version]), content(9)
    guest.send(b"\xff" * 6, [b"here"])
    for to in (4, 6):
        host.knows(GUEST[to], guest.mac.hex(":"))
        host.send(to, GUEST[to], data, SIZE)
        l4 = 14 + (20 if to == 4 else 40)
        got = received(guest, to, 1 if to == version else DATAGRAMS)
        kinds = {VNET.unpack(header[:10])[1] for header, _ in got}
        assert kinds == {GSO_UDP_L4 if to == version else 0}
        assert b"".join(f[l4 + 8 :] for _, f in got) == data


def datagram(guest: Guest, host: Host, version: int, data: bytes) -> tuple[int, bytes]:
    """Offset of the UDP header, and a frame of one long datagram, its checksum left to do."""
    addresses = b"".join(socket.inet_pton(FAMILY[version], to[version]) for to in (GUEST, HOST))
    length, l3 = 8 + len(data), 14
    if version == 4:
        ip = b"\x45\0" + (20 + length).to_bytes(2, "big") + b"\0\1\x40\0\x40\x11\0\0" + addresses
        ip = ip[:10] + (ones_sum(ip) ^ 0xFFFF).to_bytes(2, "big") + ip[12:]
    else:
        ip = b"\x60\0\0\0" + length.to_bytes(2, "big") + b"\x11\x40" + addresses
    ports = (7776).to_bytes(2, "big") + PORT.to_bytes(2, "big")
    f = host.mac + guest.mac + ETHERTYPE[version] + ip + ports + length.to_bytes(2, "big")
    pseudo = pseudo_header(f, l3, version == 6, True, length)
    return l3 + len(ip), f + ones_sum(pseudo).to_bytes(2, "big") + data


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [SIZE, 300], ids=["whole", "more than a receiver takes"])
def test_guest_to_kernel(lab: Lab, host: Host, version: int, size: int) -> None:
    """The device gets the request as it is, or datagrams if it is for too many; a socket does."""
    guest = lab.guest("lan", wanted=PLAIN | m.F_CSUM | m.F_HOST_USO)
    data = content(5 + version)
    l4, f = datagram(guest, host, version, data)
    header = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, l4 + 8, size, l4, 6) + b"\0\0"
    with host.namespace.socket(FAMILY[version], socket.SOCK_DGRAM) as sock:
        sock.bind((HOST[version], PORT))
        sock.settimeout(10)
        host.knows(GUEST[version], guest.mac.hex(":"))
        assert guest.front.send_frames([f], header) == 1
        assert [sock.recv(65536) for _ in cut(data, size)] == cut(data, size)
    outgoing = host.counters("outgoing")
    assert (outgoing["gso"], outgoing["gso_fixed"]) == ((1, 0) if size == SIZE else (0, 1))


def udp_counters(vm: Vm) -> dict[str, int]:
    """Datagrams to a closed port, and damaged ones: the kernel looks at the checksum first."""
    lines = vm.guest.must("cat /proc/net/snmp").splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    four = dict(zip(names, map(int, values), strict=True))
    six = {
        name: int(value)
        for name, value in (
            line.split() for line in vm.guest.must("cat /proc/net/snmp6").splitlines()
        )
    }
    return {
        "4": four["NoPorts"], "6": six["Udp6NoPorts"],
        "errors": four["InCsumErrors"] + six["Udp6InCsumErrors"] + four["InErrors"],
    }  # fmt: skip


@pytest.mark.guest
def test_kernel_verifies_software(switch: Switch, host: Host) -> None:
    """A real guest without any offload: its kernel finds every datagram, and none damaged."""
    vms = Vms(switch)
    off = ("csum=off", "gso=off", "guest_csum=off", "guest_tso4=off", "guest_tso6=off",
           "guest_ecn=off", "host_tso4=off", "host_tso6=off", "host_ecn=off")  # fmt: skip
    try:
        vm = vms.add(segment="lan", options=off)
        v.answered(vm.ping(HOST[4]))
        before = udp_counters(vm)
        for version, to in ((4, vm.ip), (6, vm.ip6)):
            host.knows(to, vm.mac)
            host.send(version, to, content(20 + version), SIZE)
        # Two requests of 40 datagrams fit the guest's ring of 256 buffers: none may be missing.
        v.answered(vm.ping(HOST[4]))
        after = udp_counters(vm)
        grown = {name: after[name] - before[name] for name in before}
        assert grown == {"4": DATAGRAMS, "6": DATAGRAMS, "errors": 0}
    finally:
        vms.close()
