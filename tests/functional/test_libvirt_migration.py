# SPDX-License-Identifier: Apache-2.0
"""``virsh migrate`` between two hosts, there and back, under a continuous ping.

    peer -- switch A -- AF_XDP == veth == AF_XDP -- switch B
               |                                       |
            libvirtd A      the guest moves         libvirtd B

Each host has a network namespace of its own, a libvirtd with an identity of its
own, and another socket directory: what the guest's XML says of its socket is
wrong on the other host, and is changed on the way.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.daemons import Switch
from testbed.echo import Pinger
from testbed.libvirt import Domain
from testbed.netns import Namespace
from testbed.qemu import Mode

from . import libvirt_bed, xdp_bed
from .libvirt_bed import Host

_missing = libvirt_bed.missing() or xdp_bed.missing()
pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
]
CABLE, UPLINK = "cable0", "up"
IP, PEER = "10.9.0.1", "10.9.0.250"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts, and who pings from the first one."""

    a: Host
    b: Host
    peer: Namespace


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        beds = [xdp_bed.Bed(f"lvm{os.getpid()}-{name}") for name in "ab"]
        for bed in beds:
            stack.callback(bed.close)
        lay_cable(*beds)
        a, b = [stack.enter_context(host_in(bed)) for bed in beds]
        peer = libvirt_bed.peer(a.switch, PEER, within=beds[0].near)
        yield Pair(a, b, stack.enter_context(peer))


@contextlib.contextmanager
def host_in(bed: xdp_bed.Bed) -> Iterator[Host]:
    """A host in the bed's near namespace, its switch on the cable's end there."""
    within = ["ip", "netns", "exec", bed.near.name]
    with libvirt_bed.host("uswitch-lv-", of_switch=bed.within(), of_libvirt=within) as host:
        attach(bed, host.switch)
        yield host


def lay_cable(a: xdp_bed.Bed, b: xdp_bed.Bed) -> None:
    """A veth pair with an end in each host."""
    a.veth(CABLE, CABLE)
    xdp_bed.ip("-n", a.far.name, "link", "set", CABLE, "netns", b.near.name)
    b.set_link(CABLE, "up")


def attach(bed: xdp_bed.Bed, switch: Switch) -> None:
    """The uplink: root gives the cable's end to the switch."""
    done = bed.helper("attach", CABLE)
    assert done.returncode == 0, done.stderr
    switch.ctl("uplink", "add", UPLINK, "--ifname", CABLE, "--create-segment",
               "--vlan", "untagged=lan", "--ring-size", "256")
    switch.wait_link(UPLINK)


def move(domain: Domain, source: Host, target: Host, mode: Mode) -> Domain:
    """As somebody without a hook does it: the port first, then the guest with its new paths."""
    name = domain.name
    path = target.ensure(name, mode, "lan")
    xml = source.libvirt.virsh("dumpxml", "--migratable", name)
    assert str(source.switch.vhost) in xml
    xml = xml.replace(str(source.switch.vhost / f"{name}.sock"), str(path))
    xml = xml.replace(str(source.libvirt.guests), str(target.libvirt.guests))
    file = target.libvirt.directory / f"{name}-migrating.xml"
    file.write_text(xml)
    domain.commands.close()
    migrate(name, source, target, "--xml", file, "--persistent-xml", file)
    source.switch.call("port.delete", name=name)
    return Domain(target.libvirt, name)


def migrate(name: str, source: Host, target: Host, *words: str | Path) -> None:
    """virsh's part.  The hosts share the files of this machine, so the stream has a Unix socket."""
    stream = target.libvirt.guests / f"{name}.migration"
    source.libvirt.virsh(
        "migrate", "--live", "--persistent", "--undefinesource", name, target.libvirt.uri,
        "--migrateuri", f"unix://{stream}", *words)  # fmt: skip


def downtime(domain: Domain) -> str:
    """QEMU's own figure."""
    said = domain.libvirt.virsh("domjobinfo", "--completed", domain.name)
    found = re.search(r"Downtime w/o network: +(.*)|Total downtime: +(.*)", said)
    return found[0] if found else said


def learned(host: Host, mac: str) -> str:
    """The port behind which a switch knows an address, or nothing."""
    entries = host.switch.call("fdb.list")
    return next((entry["port"] for entry in entries if entry["mac"] == mac), "")


@pytest.mark.parametrize("mode", ["server", pytest.param("client", marks=pytest.mark.spare)])
def test_there_and_back(pair: Pair, mode: Mode) -> None:
    here, there = pair.a, pair.b
    mac = libvirt_bed.mac_of(1)
    domain = here.start("vm", 1, mode)
    domain.wait_ready()
    domain.must("echo remembered > /tmp/note")
    with Pinger(pair.peer, IP) as pinger:
        pinger.wait_answer()
        assert learned(there, mac) == UPLINK
        for _ in range(2):
            began = time.monotonic()
            domain = move(domain, here, there, mode)
            pinger.wait_answer()
            print(f"migrated in {time.monotonic() - began:.1f} s; {downtime(domain)}")
            there.switch.wait_link("vm")
            xdp_bed.until(lambda now=there: learned(now, mac) == "vm", "it is known there")
            xdp_bed.until(lambda old=here: learned(old, mac) == UPLINK, "and that it has gone")
            assert "vm" not in here.ports() and "vm.sock" not in here.sockets()
            assert here.libvirt.virsh("list", "--all", "--name").split() == []
            assert str(there.switch.vhost) in there.libvirt.virsh("dumpxml", "--inactive", "vm")
            here, there = there, here
    told = pinger.answers
    print(f"{told.sent} requests, {told.lost} without an answer")
    assert (told.duplicates, told.damaged) == (0, 0)
    assert domain.must("cat /tmp/note") == "remembered\n"
    domain.destroy()
    here.switch.call("port.delete", name="vm")
    for host in (pair.a, pair.b):
        assert "refused" not in host.switch.log.read_text()
