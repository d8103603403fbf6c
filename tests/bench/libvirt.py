# SPDX-License-Identifier: Apache-2.0
"""What libvirt's users wait for: the hook at a start and an end, the pause of a migration.

Real libvirtds in namespaces of their own, and the test bed's guest.  Both
figures are differences, taken by turns in one run: a start with the hook
beside one without, a migration of a guest on this switch beside that of the
same guest on a kernel bridge, between the same two hosts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from testbed import TestbedError, libvirt_hook
from testbed.echo import Pinger
from testbed.libvirt import Domain
from testbed.libvirt_guests import Interface, Tap
from testbed.netns import Namespace
from testbed.qemu import Network
from tests.functional import libvirt_bed, libvirt_pair, xdp_bed
from tests.functional.libvirt_bed import Host, mac_of

STARTS = 50
MOVES = 10
INTERVAL_S = 0.01
HOOK_MS, DOWNTIME_MS = 50, 50  # at most this much more
BRIDGE, BRIDGE_CABLE, TAP = "join", "cable1", "guest0"


@dataclass(frozen=True, slots=True)
class Value:
    """One figure: a median of differences, or what it is a difference of."""

    name: str
    subject: str
    ms: float
    at_most: float | None = None


def _need(reason: str | None) -> None:
    if reason:
        raise TestbedError(reason)


# -- the hook --------------------------------------------------------------------------------------


def hook() -> Iterator[Value]:
    """``virsh start`` and ``destroy`` of a guest that never runs, with and without the hook."""
    _need(libvirt_bed.missing())
    took: dict[str, list[float]] = {"no hook": [], "uswitch": []}
    with libvirt_bed.host("uswitch-lv-") as without, libvirt_bed.host("uswitch-lv-") as hooked:
        libvirt_hook.install(hooked.libvirt, control_socket=hooked.switch.control,
                             default_segment="lan")
        hooked.libvirt.restart()
        _define(without, without.interface("vm", 1, "server"))
        _define(hooked, Interface(hooked.switch.vhost / "vm.sock", mac_of(1)))
        for host in (without, hooked):
            _start_and_destroy(host)  # what is done once
        for _ in range(STARTS):
            took["no hook"].append(_start_and_destroy(without))
            took["uswitch"].append(_start_and_destroy(hooked))
            xdp_bed.until(lambda: not hooked.ports(), "its port is gone")
    name = f"libvirt: start and end, median of {STARTS}"
    for subject, times in took.items():
        yield Value(name, subject, median(times) * 1e3)
    yield Value(f"libvirt: a bare start of Python, median of {STARTS}", "python3",
                median(_bare_start() for _ in range(STARTS)) * 1e3)
    more = [ours - theirs for ours, theirs in zip(took["uswitch"], took["no hook"], strict=True)]
    yield Value("libvirt: what the hook adds", "uswitch", median(more) * 1e3, HOOK_MS)


def _define(host: Host, interface: Interface) -> None:
    host.libvirt.define(host.guests.xml("vm", [interface]))


def _bare_start() -> float:
    """Of the interpreter that runs the hook, with nothing to do."""
    began = time.monotonic()
    subprocess.run(["/usr/bin/python3", "-I", "-c", "pass"], check=True)
    return time.monotonic() - began


def _start_and_destroy(host: Host) -> float:
    began = time.monotonic()
    host.libvirt.virsh("start", "--paused", "vm")
    host.libvirt.virsh("destroy", "vm")
    return time.monotonic() - began


# -- a migration -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Mover:
    """One guest that goes to and fro, and what became of it."""

    subject: str
    domain: Domain
    move: Callable[[Domain, Host, Host], Domain]
    peer: Namespace
    ip: str
    downtimes: list[float]
    silences: list[float]  # ms between requests that were answered, as those see it who wait

    def go(self, source: Host, target: Host) -> None:
        with Pinger(self.peer, self.ip, interval=INTERVAL_S) as pinger:
            pinger.wait_answer()
            self.domain = self.move(self.domain, source, target)
            pinger.wait_answer()
        self.downtimes.append(libvirt_pair.downtime_ms(self.domain))
        self.silences.append(pinger.answers.silence * 1e3)


def migration() -> Iterator[Value]:
    """QEMU's downtime of the same guest, here and on a kernel bridge, and how long it is silent."""
    _need(libvirt_pair.missing())
    with libvirt_pair.pair("uslb") as pair, _bridges(pair) as peer:
        movers = _on_switch(pair), _on_bridge(pair, peer)
        for mover in movers:
            mover.domain.wait_ready()
        hosts = pair.a, pair.b
        for _ in range(MOVES):
            for mover in movers:
                mover.go(*hosts)
            hosts = hosts[::-1]
    for mover in movers:
        yield Value(f"libvirt: downtime of a migration, median of {MOVES}", mover.subject,
                    median(mover.downtimes))
        yield Value(f"libvirt: silence of a migration, median of {MOVES}", mover.subject,
                    median(mover.silences))
    ours, theirs = movers
    more = [a - b for a, b in zip(ours.downtimes, theirs.downtimes, strict=True)]
    yield Value("libvirt: downtime more than on a bridge", "uswitch", median(more), DOWNTIME_MS)
    # QEMU's clock stops before the other host's switch serves the guest: what comes then is ours.
    for mover in movers:
        after = [a - b for a, b in zip(mover.silences, mover.downtimes, strict=True)]
        yield Value("libvirt: silence more than QEMU's downtime of the same migration",
                    mover.subject, median(after), DOWNTIME_MS if mover is ours else None)
    more = [a - b for a, b in zip(ours.silences, theirs.downtimes, strict=True)]
    yield Value("libvirt: silence more than QEMU's downtime on a bridge", "uswitch", median(more),
                DOWNTIME_MS)


def _on_switch(pair: libvirt_pair.Pair) -> Mover:
    def move(domain: Domain, source: Host, target: Host) -> Domain:
        return libvirt_pair.move(domain, source, target, source.switch.vhost / "vm.sock", "vm")

    return Mover("uswitch", pair.a.start("vm", 1, "server"), move, pair.peer, "10.9.0.1", [], [])


def _on_bridge(pair: libvirt_pair.Pair, peer: Namespace) -> Mover:
    def move(domain: Domain, source: Host, target: Host) -> Domain:
        return libvirt_pair.migrate(domain, source, target, {})

    guests = pair.a.guests
    xml = guests.xml("bridged", [Tap(TAP, mac_of(2))], Network(ip="10.8.0.1/24"))
    return Mover("kernel", pair.a.libvirt.start_domain(xml), move, peer, "10.8.0.1", [], [])


@contextlib.contextmanager
def _bridges(pair: libvirt_pair.Pair) -> Iterator[Namespace]:
    """A bridge on each host, joined by a cable, with a TAP device for the guest; who pings."""
    ip, (a, b) = xdp_bed.ip, pair.near
    ip("-n", a.name, "link", "add", BRIDGE_CABLE, "type", "veth",
       "peer", "name", BRIDGE_CABLE, "netns", b.name)
    for near in pair.near:
        ip("-n", near.name, "link", "add", BRIDGE, "type", "bridge")
        ip("-n", near.name, "tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr")
        for device in (BRIDGE_CABLE, TAP):
            ip("-n", near.name, "link", "set", device, "master", BRIDGE, "up")
        ip("-n", near.name, "link", "set", BRIDGE, "up")
    with Namespace(f"uslb{os.getpid()}-p") as peer:
        ip("-n", a.name, "link", "add", "peer0", "type", "veth",
           "peer", "name", "peer0", "netns", peer.name)
        ip("-n", a.name, "link", "set", "peer0", "master", BRIDGE, "up")
        ip("-n", peer.name, "link", "set", "peer0", "up")
        ip("-n", peer.name, "address", "add", "10.8.0.250/24", "dev", "peer0")
        yield peer
