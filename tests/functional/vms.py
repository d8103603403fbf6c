# SPDX-License-Identifier: Apache-2.0
"""Real guests for the functional tests: Debian's kernel in QEMU, on ports of the test's switch.

``Vms`` makes them (restored from the saved state, so one costs a second or
two), numbers them, and ends them.  A guest's NIC is hot-plugged, so each
negotiates anew with the options it is given.  Checks that several modules
need are functions here; what they ask is asked of the guests' kernels, which
verify checksums, lengths and sequence numbers for us.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from testbed import parts, traffic, verdict
from testbed.cache import Cache
from testbed.daemons import Switch
from testbed.echo import Answers
from testbed.guest import Guest
from testbed.qemu import Mode, Network, Nic
from testbed.traffic import Ping

CONGESTION = {"ring_full"}  # what TCP does to find its rate; nothing else may be dropped
_numbers = itertools.count(1)


@dataclass
class Vm:
    """A guest, its port (of the same name) and its addresses."""

    guest: Guest
    nic: Nic
    ip: str
    ip6: str

    @property
    def name(self) -> str:
        return self.guest.name

    @property
    def mac(self) -> str:
        return self.nic.mac

    @property
    def network(self) -> Network:
        return Network(ip=f"{self.ip}/24", ip6=f"{self.ip6}/64")

    def ping(self, to: Vm | str, count: int = 10, options: str = "") -> Ping:
        address = to if isinstance(to, str) else to.ip
        return traffic.ping(self.guest, address, count, 0.02, options)

    def reaches(self, address: str) -> bool:
        """Whether anybody answers a few requests, within a second after the last."""
        return self.ping(address, 3, "-W 1").received > 0

    def checksum_errors(self) -> int:
        """TCP, UDP and ICMP packets that the guest's kernel found damaged."""
        lines = self.guest.must("cat /proc/net/snmp").splitlines()
        total = 0
        for head, values in itertools.pairwise(lines):
            if "InCsumErrors" in head and head.split(":")[0] == values.split(":")[0]:
                total += int(values.split()[head.split().index("InCsumErrors")])
        return total

    def carrier_changes(self) -> int:
        return int(self.guest.must("cat /sys/class/net/eth0/carrier_changes"))


class Vms:
    """The guests of a test module."""

    def __init__(self, switch: Switch, cpus: int = 1, hugepages: bool = False) -> None:
        self.switch = switch
        bed = parts.prepare(Cache(), _quiet)
        machine = replace(bed.machine, cpus=cpus, hugepages=hugepages)
        self.bed = replace(bed, machine=machine)
        self.all: list[Vm] = []

    def add(
        self, mode: Mode = "client", *, options: tuple[str, ...] = (), segment: str | None = "vms",
        queues: int = 1, **port: Any,
    ) -> Vm:  # fmt: skip
        """A port and a running guest on it, configured, its link up."""
        number = next(_numbers)
        name = f"vm{number}"
        path = self.switch.add_port(name, mode=mode, segment=segment, **port)
        nic = Nic(path, f"52:54:00:75:74:{number:02x}", mode, queues, options)
        vm = Vm(self._restored(name, number), nic, f"10.9.0.{number}", f"fd00:75::{number:x}")
        self.all.append(vm)
        self.plug(vm)
        return vm

    def _restored(self, name: str, number: int) -> Guest:
        # On the kernel's command line as well: there they survive a reboot.
        network = Network(ip=f"10.9.0.{number}/24", ip6=f"fd00:75::{number:x}/64")
        return self.bed.restored(name, self.switch.directory, _quiet, network=network)

    def plug(self, vm: Vm) -> None:
        assert vm.guest.plug(vm.nic, vm.network) == "eth0"
        self.switch.wait_link(vm.name)

    def restart(self, vm: Vm) -> None:
        """A killed QEMU is started again, on the same socket."""
        vm.guest = self._restored(vm.name, int(vm.ip.rpartition(".")[2]))
        self.plug(vm)

    def reset(self, vm: Vm) -> None:
        """Undo what a test changed of a port."""
        self.switch.call("port.set", name=vm.name, changes={"segment": "vms", "trunk": []})

    def remove(self, vm: Vm) -> None:
        vm.guest.kill()
        self.switch.call("port.delete", name=vm.name)
        self.all.remove(vm)

    def close(self) -> None:
        for vm in list(self.all):
            self.remove(vm)


def _quiet(_text: str) -> None:
    """Progress is for the demo."""


def running(switch: Switch, cpus: int = 1, hugepages: bool = False) -> Iterator[Vms]:
    """The body of a fixture."""
    vms = Vms(switch, cpus, hugepages)
    try:
        yield vms
    finally:
        vms.close()


def answered(ping: Ping | Answers) -> None:
    """Every request had exactly one answer."""
    assert (ping.sent > 0, ping.lost, ping.duplicates) == (True, 0, 0), ping


def talk(a: Vm, b: Vm) -> None:
    """Ping over IPv4 and IPv6, both ways, with frames from tiny to several fragments long."""
    for src, dst in ((a, b), (b, a)):
        answered(src.ping(dst))
        answered(src.ping(dst.ip6))
        answered(src.ping(dst, 5, "-s 1472"))
        answered(src.ping(dst.ip6, 5, "-s 4000"))


def send_file(src: Vm, dst: Vm, address: str, mib: int = 1) -> None:
    """Random bytes over TCP, from ``src`` at ``address``; what arrives is what was sent."""
    wanted = offer_file(src, mib)
    assert dst.guest.must(fetching(address, mib), 120) == wanted


def offer_file(src: Vm, mib: int) -> str:
    """Serve random bytes by HTTP; returns what ``fetching()`` shall print."""
    src.guest.must(f"head -c {mib << 20} /dev/urandom > /tmp/sent")
    src.guest.must("pidof httpd || httpd -p 80 -h /tmp")
    return src.guest.must("sha256sum < /tmp/sent")


def fetching(address: str, mib: int, nc: str = "nc") -> str:
    """The command that fetches the file, without the reply's head, and digests it."""
    request = r"printf 'GET /sent HTTP/1.0\r\n\r\n'"
    return f"{request} | {nc} {address} 80 | tail -c {mib << 20} | sha256sum"


def exchange_files(a: Vm, b: Vm, mib: int = 1) -> None:
    """TCP both ways over both protocols; neither kernel may find a damaged packet."""
    for src, dst in ((a, b), (b, a)):
        send_file(src, dst, src.ip, mib)
        send_file(src, dst, src.ip6, mib)
    assert (a.checksum_errors(), b.checksum_errors()) == (0, 0)


def balanced(switch: Switch, a: Vm, b: Vm, what: Callable[[], object],
             tolerated: set[str] = CONGESTION) -> None:  # fmt: skip
    """Run ``what``; the guests' counters and the switch's must agree to the frame."""
    guests = [a.guest, b.guest]
    before = verdict.settled(switch, guests)
    what()
    counts = verdict.difference(before, verdict.settled(switch, guests))
    assert verdict.balance(counts, frozenset(tolerated)) == [], counts


def drops(switch: Switch, name: str) -> dict[str, int]:
    """Drops of a port by reason."""
    return {reason: frames for port, _, reason, frames in switch.drops() if port == name}
