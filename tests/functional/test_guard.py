# SPDX-License-Identifier: Apache-2.0
"""Guarded ports of real daemons: lies die under their names, honest hosts notice nothing.

The liar is a front-end with scapy's frames, the honest host the kernel of this
machine behind a TAP device.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from testbed import echo, netns
from testbed.daemons import Switch
from testbed.netns import Namespace, Tap
from testbed.qemu import Network

from .conftest import Guest, Lab, Witnesses
from .hosts import raw_socket

KILLS = True
LAYOUTS = ("split", "packed")
IP4, LINK_LOCAL, GLOBAL = "10.0.0.5", "fe80::5", "2001:db8::5"
BROADCAST = "ff:ff:ff:ff:ff:ff"
_missing = netns.available()
_numbers = itertools.count(1)


def text(mac: bytes) -> str:
    return mac.hex(":")


def guard_of(mac: bytes, *addresses: str) -> dict[str, Any]:
    return {"pairs": [{"mac": text(mac), "ip": ip} for ip in addresses]}


def guarded(lab: Lab, segment: str, *addresses: str) -> Guest:
    guest = lab.guest(segment)
    lab.client.port_set(guest.name, {"guard": guard_of(guest.mac, *addresses)})
    return guest


def guard_drops(lab: Lab, name: str) -> Counter[str]:
    drops = lab.drops(name).items()
    return Counter({reason: n for reason, n in drops if reason.startswith("guard_")})


def lies(mac: str) -> list[tuple[str, Packet]]:
    """What a guarded guest with these addresses may not say, and how it is counted."""
    other = "52:54:00:ff:ff:fe"
    own = Ether(src=mac, dst=BROADCAST)
    target = ICMPv6ND_NA(tgt="2001:db8::1")
    own_na = ICMPv6ND_NA(tgt=GLOBAL)
    nd = IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255)
    return [
        ("guard_mac", Ether(src=other, dst=BROADCAST) / IP(src=IP4) / TCP()),
        ("guard_mac", Ether(src=other, dst=BROADCAST) / ARP(hwsrc=other, psrc=IP4)),
        ("guard_ip", own / IP(src="10.0.0.6") / TCP()),
        ("guard_ip", own / IP(src="10.0.0.6", flags="MF", frag=5) / Raw(b"x" * 16)),
        ("guard_ip", own / IP(src="0.0.0.0") / ICMP()),
        ("guard_ip", own / IPv6(src="2001:db8::6") / TCP()),
        ("guard_ip", own / IPv6(src="fe80::6") / IPv6ExtHdrHopByHop() / UDP()),
        ("guard_ip", own / IPv6(src="::") / ICMPv6EchoRequest()),
        ("guard_arp", own / ARP(op=2, hwsrc=mac, psrc="10.0.0.1", pdst="10.0.0.1")),
        ("guard_arp", own / ARP(op=1, hwsrc=other, psrc=IP4)),
        ("guard_nd", own / nd / target / ICMPv6NDOptDstLLAddr(lladdr=mac)),
        ("guard_nd", own / nd / own_na / ICMPv6NDOptDstLLAddr(lladdr=other)),
        ("guard_nd", own / nd / ICMPv6ND_NS(tgt=GLOBAL) / ICMPv6NDOptSrcLLAddr(lladdr=other)),
        ("guard_nd", own / nd / ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::")),
        ("guard_nd", own / nd / IPv6ExtHdrHopByHop() / ICMPv6ND_RA()),
        ("guard_nd", own / nd / IPv6ExtHdrFragment() / ICMPv6ND_RA()),
        ("guard_nd", own / nd / ICMPv6ND_Redirect(tgt=LINK_LOCAL, dst="2001:db8::1")),
        ("guard_dhcp", own / IP(src=IP4) / UDP(sport=67, dport=68) / Raw(b"x" * 240)),
        ("guard_dhcp", own / IP(src=IP4) / UDP(sport=9999, dport=68) / Raw(b"x" * 240)),
        ("guard_dhcp", own / IPv6(src=LINK_LOCAL) / UDP(sport=547, dport=546) / DHCP6_Advertise()),
        ("guard_dhcp", own / IPv6(src=LINK_LOCAL) / UDP(sport=9999, dport=546) / DHCP6_Advertise()),
        ("guard_type", own / Dot1Q(vlan=0, type=0x8100) / Dot1Q(vlan=7) / IP(src=IP4) / UDP()),
        ("guard_type", Ether(src=mac, dst=BROADCAST, type=0x88CC) / Raw(b"x" * 46)),
    ]


def truths(mac: str) -> list[Packet]:
    own = Ether(src=mac, dst=BROADCAST)
    nd = IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255)
    nobody = IPv6(src="::", dst="ff02::1:ff00:5", hlim=255)
    return [
        own / ARP(op=2, hwsrc=mac, psrc=IP4, pdst=IP4), own / ARP(hwsrc=mac, psrc="0.0.0.0"),
        own / IP(src=IP4) / TCP() / Raw(b"x" * 1400), own / IP(src=IP4) / ICMP(),
        own / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / Raw(b"x" * 300),
        own / IPv6(src=GLOBAL) / TCP() / Raw(b"x" * 1000), own / IPv6(src=GLOBAL) / UDP(),
        own / nd / ICMPv6ND_NA(tgt=GLOBAL) / ICMPv6NDOptDstLLAddr(lladdr=mac),
        own / nd / ICMPv6ND_NS(tgt="2001:db8::1") / ICMPv6NDOptSrcLLAddr(lladdr=mac),
        own / nobody / ICMPv6ND_NS(tgt=GLOBAL),
    ]  # fmt: skip


def padded(packet: Packet) -> bytes:
    return bytes(packet).ljust(60, b"\0")


def test_lies_die_and_truths_arrive(lab: Lab, witnesses: Witnesses) -> None:
    liar = guarded(lab, "spoof", IP4, LINK_LOCAL, GLOBAL)
    victim = lab.guest("spoof")
    told = lies(text(liar.mac))
    honest = [padded(packet) for packet in truths(text(liar.mac))]
    frames = [padded(packet) for _, packet in told]
    mixed = [*frames, *itertools.chain(*zip(frames, itertools.cycle(honest), strict=False))]
    assert liar.front.send_frames(mixed) == len(mixed)
    arrived = [data for _, data in victim.front.recv_frames(len(frames))]
    assert arrived == list(itertools.islice(itertools.cycle(honest), len(frames)))
    assert guard_drops(lab, liar.name) == Counter(reason for reason, _ in told for _ in (1, 2))
    witnesses.check()


def test_another_guard_takes_over_at_once(lab: Lab) -> None:
    guest = guarded(lab, "swap", "10.0.0.1")
    victim = lab.guest("swap")
    own = Ether(src=text(guest.mac), dst=BROADCAST)
    frames = [padded(own / IP(src=f"10.0.0.{n}") / TCP(seq=n)) for n in (1, 2, 3)]
    for allowed in (2, 3, 1):
        changes = {"guard": guard_of(guest.mac, f"10.0.0.{allowed}")}
        lab.client.port_set(guest.name, changes)
        guest.front.send_frames(frames)
        assert [data for _, data in victim.front.recv_frames(1)] == [frames[allowed - 1]]
    for guard, expected in (({"pairs": []}, []), (None, frames)):
        lab.client.port_set(guest.name, {"guard": guard})
        guest.front.send_frames(frames)
        assert [data for _, data in victim.front.recv_frames(len(expected))] == expected
    assert guard_drops(lab, guest.name) == Counter(guard_ip=6, guard_mac=3)


class Shouting:
    """A guest that sends one frame it may send and one that it may not, again and again."""

    def __init__(self, guest: Guest, frames: list[bytes]) -> None:
        self._guest, self._frames = guest, frames
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Shouting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        front = self._guest.front
        while not self._stop.is_set():
            front.send_frames(self._frames, wait=False)
            front.reap_tx(len(self._frames), timeout=30)


def hear(victim: Guest, wanted: int) -> list[bytes]:
    """Frames that come in until so many have."""
    heard: list[bytes] = []
    end = time.monotonic() + 30
    while len(heard) < wanted:
        assert time.monotonic() < end, f"{len(heard)} frames of {wanted} in 30 s"
        heard += [data for _, data in victim.front.recv_frames(1, timeout=1)]
    return heard


def test_killed_processes_open_no_hole(switch: Switch, layout: str) -> None:
    """Whoever dies, and however often: not one frame that is forbidden comes through."""
    lab = Lab(switch, layout == "packed")
    guest = guarded(lab, "hole", IP4)
    victim = lab.guest("hole")
    own = Ether(src=text(guest.mac), dst=text(victim.mac))
    truth, lie = (padded(own / IP(src=ip) / TCP()) for ip in (IP4, "10.0.0.6"))
    victim.send(guest, [b"here I am"])
    guest.front.recv_frames(1)
    try:
        with Shouting(guest, [lie, truth, lie]):
            for _ in range(3):
                assert set(hear(victim, 50)) == {truth}
                switch.wait_replaced(switch.kill_dataplane())
                assert set(hear(victim, 50)) == {truth}
                switch.restart_daemon()
                assert set(hear(victim, 50)) == {truth}
        assert guard_drops(lab, guest.name)["guard_ip"] > 0
        shown = lab.show(guest.name)["port"]["guard"]
        assert shown == {"pairs": [{"mac": text(guest.mac), "ip": IP4}]}
    finally:
        lab.close()


# ---- an honest kernel ----

MAC = "02:00:00:00:75:05"
LEASE, ROUTER = "10.9.0.50", "10.9.0.1"
PREFIX = "fd00:75::"
needs_root = pytest.mark.skipif(_missing is not None, reason=str(_missing))


def from_mac(prefix: str) -> str:
    """The address that a kernel makes of a prefix and its MAC address (RFC 4291, appendix A)."""
    raw = bytes.fromhex(MAC.replace(":", ""))
    interface = bytes([raw[0] ^ 2, *raw[1:3], 0xFF, 0xFE, *raw[3:]])
    network = int(ipaddress.IPv6Address(prefix))
    return str(ipaddress.IPv6Address(network | int.from_bytes(interface, "big")))


@pytest.fixture
def wire(switch: Switch) -> Iterator[tuple[Namespace, str, Namespace, str]]:
    """A guarded host and a router, each with its device: (namespace, ifname) twice."""
    number = next(_numbers)
    names = [f"uswitch-guard-{os.getpid()}-{number}{who}" for who in ("h", "r")]
    with (
        Tap(f"usgh{number}") as host_tap, Tap(f"usgr{number}") as router_tap,
        Namespace(names[0]) as host, Namespace(names[1]) as router,
    ):  # fmt: skip
        addresses = (LEASE, from_mac("fe80::"), from_mac(PREFIX))
        guard = guard_of(bytes.fromhex(MAC.replace(":", "")), *addresses)
        switch.add_tap("honest", host_tap.ifname, segment="home", guard=guard)
        switch.add_tap("router", router_tap.ifname, segment="home")
        router.adopt(router_tap, Network(ip=f"{ROUTER}/24", ip6=f"{PREFIX}1/64"))
        host.take(host_tap.ifname)
        host_tap.namespace = host
        must(host, "ip", "link", "set", host_tap.ifname, "address", MAC)
        must(host, "ip", "link", "set", host_tap.ifname, "up")
        yield host, host_tap.ifname, router, router_tap.ifname
        for name in ("honest", "router"):
            switch.call("port.delete", name=name)


def must(where: Namespace, *command: str) -> str:
    done = where.run(command)
    assert done.rc == 0, f"{' '.join(command)}: {done.output}"
    return done.output


def wait_for(condition: Any, what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, f"waited 20 s in vain: {what}"
        time.sleep(0.05)


def lease(host: Namespace, ifname: str, router: Namespace, router_if: str) -> None:
    """The host asks by DHCP, the router answers."""
    with tempfile.TemporaryDirectory() as directory:
        script, config = Path(directory, "script"), Path(directory, "udhcpd.conf")
        script.write_text('#!/bin/sh\n[ "$1" = bound ] && ip address add $ip/24 dev $interface\n')
        script.chmod(0o755)
        Path(directory, "leases").touch()
        config.write_text(
            f"start {LEASE}\nend {LEASE}\ninterface {router_if}\nlease_file {directory}/leases\n"
            f"pidfile {directory}/pid\noption subnet 255.255.255.0\nstatic_lease {MAC} {LEASE}\n"
        )
        must(router, "busybox", "udhcpd", str(config))
        try:
            must(host, "busybox", "udhcpc", "-i", ifname, "-n", "-q", "-f", "-t", "10", "-T", "1",
                 "-s", str(script))  # fmt: skip
        finally:
            os.kill(int(Path(directory, "pid").read_text()), 15)


def fetch(client: Namespace, server: Namespace, where: str, directory: Path) -> None:
    """A file of some megabytes, by TCP."""
    made = os.urandom(4 << 20)
    (directory / "file").write_bytes(made)
    got = directory / "got"
    command = ["ip", "netns", "exec", server.name, "busybox", "httpd", "-f", "-p", "80",
               "-h", str(directory)]  # fmt: skip
    with subprocess.Popen(command) as serving:
        try:
            wait_for(lambda: ":80 " in must(server, "ss", "-Hltn"), "a server that listens")
            must(client, "busybox", "wget", "-q", "-O", str(got), f"http://{where}/file")
        finally:
            serving.kill()
    assert got.read_bytes() == made


def advertise(router: Namespace, ifname: str) -> None:
    with raw_socket(router, ifname) as raw:
        source = next(
            line.split()[1].partition("/")[0]
            for line in must(router, "ip", "-6", "address", "show", "dev", ifname).splitlines()
            if " fe80:" in line
        )
        raw.send(bytes(
            Ether(src=must(router, "cat", f"/sys/class/net/{ifname}/address").strip(),
                  dst="33:33:00:00:00:01")
            / IPv6(src=source, dst="ff02::1", hlim=255) / ICMPv6ND_RA()
            / ICMPv6NDOptPrefixInfo(prefix=PREFIX, prefixlen=64, A=1, L=1)
        ))  # fmt: skip


@needs_root
@pytest.mark.layouts("split")
def test_an_honest_kernel_notices_nothing(
    switch: Switch, wire: tuple[Namespace, str, Namespace, str], tmp_path: Path, layout: str
) -> None:
    """Duplicate address detection, MLD, SLAAC, DHCP, ARP, ping, and TCP with segmentation."""
    host, ifname, router, router_if = wire
    lab = Lab(switch)

    def addresses() -> list[str]:
        """Those that may be used: not tentative any more."""
        lines = must(host, "ip", "-o", "address", "show", "dev", ifname).splitlines()
        return [line.split()[3].partition("/")[0] for line in lines if "tentative" not in line]

    wait_for(lambda: from_mac("fe80::") in addresses(), "a link-local address")
    advertise(router, router_if)
    wait_for(lambda: from_mac(PREFIX) in addresses(), "an address of the router's prefix")
    lease(host, ifname, router, router_if)
    assert LEASE in addresses()
    for address in (ROUTER, f"{PREFIX}1"):
        for size in (56, 1400):
            answers = echo.ping(host, address, 5, interval=0.02, size=size)
            assert answers.lost == 0, f"{address}, {size} bytes: {answers}"
        must(host, "ping", "-c", "5", "-i", "0.05", "-W", "5", "-s", "5000", address)  # fragments
    fetch(host, router, ROUTER, tmp_path)
    fetch(router, host, f"[{from_mac(PREFIX)}]", tmp_path)
    assert guard_drops(lab, "honest") == Counter()
    assert lab.show("honest")["incoming"]["gso"] > 0


@needs_root
@pytest.mark.layouts("split")
def test_a_kernel_with_a_stolen_address(
    switch: Switch, wire: tuple[Namespace, str, Namespace, str], layout: str
) -> None:
    host, ifname, router, router_if = wire
    lab = Lab(switch)
    stolen = {"10.9.0.99": ROUTER, "fd00:75::99": f"{PREFIX}1"}
    must(host, "ip", "address", "add", f"{LEASE}/24", "dev", ifname)
    for address, target in stolen.items():
        size = "64" if ":" in address else "24"
        nodad = ["nodad"] if ":" in address else []
        must(host, "ip", "address", "add", f"{address}/{size}", "dev", ifname, *nodad)
        assert host.run(["ping", "-c", "2", "-i", "0.2", "-W", "1", "-I", address, target]).rc
    must(host, "ip", "neighbor", "flush", "dev", ifname)  # it still asks in the stolen one's name
    must(host, "ping", "-c", "2", "-i", "0.2", "-W", "2", "-I", LEASE, ROUTER)
    assert guard_drops(lab, "honest")["guard_arp"] > 0
    assert guard_drops(lab, "honest")["guard_ip"] > 0
    lines = must(router, "ip", "neighbor", "show", "dev", router_if).splitlines()
    assert LEASE in [line.split()[0] for line in lines if MAC in line]
    assert not [line for line in lines if line.split()[0] in stolen]
