# SPDX-License-Identifier: Apache-2.0
"""What Nova writes, a real libvirtd takes, starts, and its guests talk through the switch.

Users and groups are those of a compute node: QEMU runs as Debian's libvirt-qemu
and listens; uswitchd is a user without privileges that is in the socket
directory's group, and connects.
"""

from __future__ import annotations

import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from nova.network import model

from testbed import TestbedError, libvirt, parts, unprivileged
from testbed.cache import Cache
from testbed.daemons import Switch
from testbed.libvirt import Domain, Libvirt
from testbed.qemu import Network

from .nova_domain import Domains
from .nova_side import Compute, Server, mac_of

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(libvirt.available() is not None, reason=str(libvirt.available())),
]


@dataclass
class Node:
    """A compute node: its switch, its Nova, its libvirtd."""

    switch: Switch
    compute: Compute
    libvirt: Libvirt
    domains: Domains


@dataclass
class Booted:
    """A server with one interface, started as Nova starts it."""

    server: Server
    vif: model.VIF
    domain: Domain


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """As packaging sets it up: the directory has QEMU's group, with setgid, and so has uswitchd."""
    directory = Path(tempfile.mkdtemp(prefix="uswitch-lv-"))
    directory.chmod(0o755)
    group = libvirt.group_of_qemu()
    who = unprivileged.identity()
    unprivileged.own(directory, who)
    (directory / "vhost").mkdir()
    shutil.chown(directory / "vhost", who.uid, group)
    (directory / "vhost").chmod(0o2775)
    switch = Switch(directory, who=replace(who, groups=(*who.groups, group)))
    bed = parts.prepare(Cache(), lambda _: None)
    with switch, Libvirt(directory / "libvirt") as running:
        compute = Compute(switch)
        yield Node(switch, compute, running, Domains(running, bed.machine, compute))
        compute.close()
    assert "Traceback" not in switch.log.read_text()
    shutil.rmtree(directory)


def spawn(node: Node, number: int) -> Booted:
    """Nova's order: plug, then define and start."""
    server, vif = Server(name=f"instance-{number:08x}"), node.compute.vif(number)
    node.compute.plug(server, vif)
    interface = node.compute.interface(server, vif, node.domains.virt_type)
    domain = node.libvirt.start_domain(
        node.domains.of(server, [interface], Network(ip=f"10.4.0.{number}/24"))
    )
    wired = {"segment": vif["network"]["label"]}
    node.switch.call("port.set", name=vif["id"], changes=wired, create_segments=True)
    return Booted(server, vif, domain)


@pytest.fixture(scope="module")
def pair(node: Node) -> Iterator[tuple[Booted, Booted]]:
    both = spawn(node, 1), spawn(node, 2)
    for booted in both:
        booted.domain.wait_ready()
    yield both
    for booted in both:
        booted.domain.destroy()
        node.compute.unplug(booted.server, booted.vif)
    assert node.switch.call("port.list") == []
    assert list(node.switch.vhost.iterdir()) == []


def test_two_servers_talk(node: Node, pair: tuple[Booted, Booted]) -> None:
    a, b = pair
    assert "3 packets transmitted, 3 received" in a.domain.must("ping -c 3 -W 5 10.4.0.2")
    assert "3 packets transmitted, 3 received" in b.domain.must("ping -c 3 -W 5 10.4.0.1")
    for booted in pair:
        address = booted.domain.must("cat /sys/class/net/eth0/address").strip()
        assert address == booted.vif["address"]
        assert node.switch.call("port.show", name=booted.vif["id"])["port"]["link"] == "up"


def test_users_and_groups_are_those_of_a_compute_node(
    node: Node, pair: tuple[Booted, Booted]
) -> None:
    path = node.compute.socket(pair[0].vif["id"])
    assert (path.owner(), path.group()) == (libvirt.USER, libvirt.GROUP)
    assert path.stat().st_mode & 0o020, "uswitchd connects by its group"
    status = Path(f"/proc/{node.switch.daemon_pid}/status").read_text()
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {str(node.switch.who.uid)} != {"0"}
    assert int(fields["CapEff"], 16) == 0


def test_what_libvirt_made_of_novas_interface(node: Node, pair: tuple[Booted, Booted]) -> None:
    live = ET.fromstring(node.libvirt.virsh("dumpxml", pair[0].server.name))
    [interface] = live.findall("devices/interface")
    source, model_ = interface.find("source"), interface.find("model")
    assert interface.get("type") == "vhostuser"
    assert source is not None and source.get("mode") == "server"
    assert source.get("path") == str(node.compute.socket(pair[0].vif["id"]))
    assert model_ is not None and model_.get("type") == "virtio"
    access = live.find("memoryBacking/access")
    assert access is not None and access.get("mode") == "shared"
    shown = node.libvirt.virsh("domiflist", pair[0].server.name).split()
    assert "vhostuser" in shown and mac_of(1) in shown


def test_nova_compute_restarts(node: Node, pair: tuple[Booted, Booted]) -> None:
    """It plugs again: the guests, which ping meanwhile, lose nothing."""
    a, _ = pair
    a.domain.must("ping -i 0.1 -c 60 -W 5 10.4.0.2 > /tmp/ping 2>&1 &")
    for _ in range(5):
        for booted in pair:
            node.compute.plug(booted.server, booted.vif)
    said = a.domain.must("while pidof ping > /dev/null; do sleep 0.1; done; cat /tmp/ping")
    assert "60 packets transmitted, 60 received" in said


def test_hard_reboot(node: Node, pair: tuple[Booted, Booted]) -> None:
    """destroy, unplug, plug, start, as Nova does it; the agent wires the port anew."""
    a, b = pair
    b.domain.destroy()
    node.compute.unplug(b.server, b.vif)
    node.compute.plug(b.server, b.vif)
    wired = {"segment": b.vif["network"]["label"]}
    node.switch.call("port.set", name=b.vif["id"], changes=wired)
    b.domain.log.unlink()
    node.libvirt.virsh("start", b.server.name)
    b.domain.wait_ready()
    assert "3 received" in a.domain.must("ping -c 3 -W 5 10.4.0.2")


def test_attach_and_detach(node: Node, pair: tuple[Booted, Booted]) -> None:
    """A second interface while the guest runs."""
    a, _ = pair
    vif = node.compute.vif(9)
    node.compute.plug(a.server, vif)
    device = node.libvirt.directory / "device.xml"
    device.write_text(node.compute.interface(a.server, vif, node.domains.virt_type).to_xml())
    node.libvirt.virsh("attach-device", a.server.name, str(device), "--live")
    a.domain.must("for i in $(seq 300); do [ -e /sys/class/net/eth1 ] && exit 0; sleep 0.1; done;"
                  " exit 1")
    node.switch.wait_link(vif["id"])
    node.libvirt.virsh("detach-device", a.server.name, str(device), "--live")
    a.domain.must("for i in $(seq 300); do [ -e /sys/class/net/eth1 ] || exit 0; sleep 0.1; done;"
                  " exit 1")
    node.compute.unplug(a.server, vif)
    assert vif["id"] not in [port["name"] for port in node.switch.call("port.list")]


def test_without_shared_memory_libvirt_refuses(node: Node) -> None:
    """Why nova.rst says so: Nova shares a guest's memory only if it is told to."""
    server, vif = Server(name="instance-private"), node.compute.vif(7)
    node.compute.plug(server, vif)
    interface = node.compute.interface(server, vif, node.domains.virt_type)
    node.compute.configure("libvirt", file_backed_memory=0)
    try:
        xml = node.domains.of(server, [interface])
    finally:
        node.compute.configure("libvirt", file_backed_memory=1024)
    with pytest.raises(TestbedError, match="shared memory"):
        node.libvirt.start_domain(xml)
    node.compute.unplug(server, vif)
