# SPDX-License-Identifier: Apache-2.0
"""A real guest moves between two switches and back, under traffic.

Two switches stand for two hosts; a bridge joins their segments, as the network
between hosts would.  A peer on the first switch sends numbered echo requests
to the guest all the time, large ones, so that the switch keeps writing into
the guest's memory while QEMU copies it.  After each migration, before the
guest goes on, the memory of both QEMUs is compared page by page: a write that
was not recorded shows there.
"""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.daemons import Switch
from testbed.guest import Guest, parse_size
from testbed.qemu import Nic

from .conftest import mac
from .frontend import Frontend
from .frontend import messages as m
from .frontend.memory import GuestRam
from .vms import Vm, Vms

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

PLAIN = m.F_VERSION_1 | m.F_MRG_RXBUF | m.F_PROTOCOL_FEATURES  # the switch completes checksums
SEGMENT = "lan"
PEER_IP, PEER_MAC = "10.9.0.250", mac(0xFFFF01)
PAGE = 4096
ARP, IPV4, RARP = b"\x08\x06", b"\x08\0", b"\x80\x35"


@pytest.fixture(scope="module")
def other() -> Iterator[Switch]:
    """The second host's switch."""
    directory = Path(tempfile.mkdtemp(prefix="uswitch-test-"))
    unprivileged.own(directory, unprivileged.identity())
    with Switch(directory) as running:
        yield running
        assert "Traceback" not in running.log.read_text()
    shutil.rmtree(directory)


def front_end(switch: Switch, name: str) -> Frontend:
    path = switch.add_port(name, segment=SEGMENT)
    front = Frontend(str(path), ram=GuestRam(16 << 20), wanted=PLAIN)
    return front.start(rx_buffers=200)


class Bridge:
    """The wire between two switches; looks at what goes by."""

    def __init__(self, a: Switch, b: Switch) -> None:
        self.ends = front_end(a, "wire"), front_end(b, "wire")
        self.announced: list[tuple[bytes, bytes]] = []  # source and type of what said "I am here"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            for src, dst in (self.ends, self.ends[::-1]):
                frames = [f for _, f in src.recv_frames(64, timeout=0.001)]
                self.announced += [(f[6:12], f[12:14]) for f in frames if f[12:14] in (ARP, RARP)]
                if frames:
                    dst.send_frames(frames, wait=False)
                    dst.reap_tx(len(frames), timeout=30)

    def __enter__(self) -> Bridge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for end in self.ends:
            end.close()


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class Echo:
    """One request, and when its answers came."""

    sent: float
    answers: list[float]


class Pinger:
    """Numbered echo requests with random bytes, to one guest, without a pause."""

    INTERVAL = 0.01

    def __init__(self, front: Frontend, guest_mac: bytes, guest_ip: str) -> None:
        self.front, self.to = front, guest_mac
        self.ip = socket.inet_aton(PEER_IP) + socket.inet_aton(guest_ip)
        self.echoes: list[Echo] = []
        self.damaged = 0
        self._bodies: list[bytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _request(self, number: int) -> bytes:
        body = os.urandom(1200)
        self._bodies.append(body)
        icmp = struct.pack(">BBHHH", 8, 0, 0, 0x7573, number & 0xFFFF) + body
        icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0) + self.ip
        ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
        return self.to + PEER_MAC + IPV4 + ip + icmp

    def _take(self, f: bytes) -> None:
        if f[12:14] != IPV4 or f[23] != 1 or f[34] != 0 or f[38:40] != b"\x75\x73":
            return
        number = int.from_bytes(f[40:42], "big")
        self.echoes[number].answers.append(time.monotonic())
        self.damaged += f[42:] != self._bodies[number]

    def _run(self) -> None:
        while not self._stop.is_set():
            self.echoes.append(Echo(time.monotonic(), []))
            self.front.send_frames([self._request(len(self.echoes) - 1)])
            for _, f in self.front.recv_frames(64, timeout=self.INTERVAL):
                self._take(f)
        for _, f in self.front.recv_frames(1 << 16, timeout=5, quiet=1.0):
            self._take(f)

    def answered_since(self, moment: float) -> bool:
        return any(e.answers and e.sent > moment for e in self.echoes[-50:])

    @property
    def lost(self) -> int:
        return sum(not e.answers for e in self.echoes)

    @property
    def duplicates(self) -> int:
        return sum(len(e.answers) > 1 for e in self.echoes)

    def __enter__(self) -> Pinger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Memory:
    """The RAM of a QEMU's guest, by the memfd it holds."""

    def __init__(self, guest: Guest) -> None:
        self.size = parse_size(guest.machine.memory)
        fds = Path(f"/proc/{guest.pid}/fd")
        (fd,) = [
            one for one in fds.iterdir()
            if "memfd:memory-backend-memfd" in os.readlink(one)
        ]  # fmt: skip
        with fd.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), self.size, prot=mmap.PROT_READ)

    def differs(self, other: Memory) -> list[int]:
        """Addresses of pages that are not the same in both."""
        pages = range(0, self.size, PAGE)
        return [at for at in pages if self.map[at : at + PAGE] != other.map[at : at + PAGE]]

    def used(self) -> int:
        """Pages that hold anything."""
        nothing = bytes(PAGE)
        return sum(self.map[at : at + PAGE] != nothing for at in range(0, self.size, PAGE))


def move(vms: Vms, vm: Vm, path: Path, directory: Path) -> tuple[Guest, dict[str, object]]:
    """Migrate to a QEMU on another switch; both are paused when this returns."""
    nic = Nic(path, vm.mac, "client", options=vm.nic.options)
    there = Guest(vm.name, vms.bed.machine, directory, network=vm.guest.network)
    uri = f"unix:{directory}/migrate"
    there.receive([nic], uri)
    try:
        info = vm.guest.migrate(uri)
        there.wait_migrated()
    except BaseException:
        there.kill()
        raise
    return there, info


@pytest.mark.parametrize("announce", ["on", "off"])
def test_there_and_back(switch: Switch, other: Switch, announce: str) -> None:
    """Twice each way.  Without the guest's own announcement the switch makes one in its name."""
    vms = Vms(switch)
    bridge = Bridge(switch, other)
    peer = front_end(switch, "peer")
    try:
        vm = vms.add(segment=SEGMENT, options=(f"guest_announce={announce}",))
        vm.guest.must(f"ip neigh replace {PEER_IP} lladdr {PEER_MAC.hex(':')} dev eth0 "
                      "nud permanent")  # fmt: skip
        paths = {other: other.add_port(vm.name, segment=SEGMENT), switch: vm.nic.socket}
        address = bytes.fromhex(vm.mac.replace(":", ""))
        with bridge, Pinger(peer, address, vm.ip) as pinger:
            _wait(lambda: pinger.answered_since(0), "the first answer")
            for to in (other, switch, other, switch):
                began, bridge.announced[:] = time.monotonic(), []
                there, info = move(vms, vm, paths[to], to.directory)
                differs = Memory(vm.guest).differs(Memory(there))
                used = Memory(there).used()
                assert differs == [], f"{len(differs)} pages, first {differs[:8]}"
                vm.guest.kill()
                vm.guest = there
                there.resume()
                resumed = time.monotonic()
                _wait(lambda since=resumed: pinger.answered_since(since), "answers")
                print(f"moved in {resumed - began:.1f} s, {used} pages the same, "
                      f"downtime {info['downtime']} ms; answers again after "
                      f"{time.monotonic() - resumed:.1f} s")  # fmt: skip
                to.wait_link(vm.name)
                if announce == "off":
                    _wait(lambda: (address, RARP) in bridge.announced, "a RARP")
        print(f"{len(pinger.echoes)} requests, {pinger.lost} without an answer")
        assert (pinger.damaged, pinger.duplicates) == (0, 0)
        assert vm.checksum_errors() == 0
        assert vm.ip in vm.guest.must("ip address show eth0")
        assert vm.carrier_changes() <= 2
        logs = switch.log.read_text() + other.log.read_text()
        assert "refused" not in logs, logs[-2000:]
    finally:
        peer.close()
        vms.close()
        for host in (switch, other):
            for port in host.call("port.list"):
                host.call("port.delete", name=port["name"])


def _wait(condition, what: str, timeout: float = 60) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain: {what}"
        time.sleep(0.02)
