# SPDX-License-Identifier: Apache-2.0
"""``virsh migrate`` between two hosts, there and back, under a continuous ping.

The other host's switch has its sockets elsewhere, so that the path in the
guest's XML has to change on the way: by hand, or by the hook.  The commands
are those of doc/source/migration.rst.
"""

from __future__ import annotations

import contextlib
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest

from testbed.echo import Pinger
from testbed.libvirt import Domain
from testbed.libvirt_guests import Interface
from testbed.netns import Namespace
from testbed.qemu import Mode, Network

from . import libvirt_pair, migration_page
from .libvirt_bed import Host, mac_of
from .libvirt_pair import UPLINK, Pair, downtime_ms
from .xdp_bed import until

_missing = libvirt_pair.missing()
pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
]
IP = "10.9.0.1"
MAC = mac_of(1)
RARP = 0x8035
Move = Callable[[Domain, Host, Host], Domain]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both libvirtd have the hook; it leaves a port alone that somebody else has made."""
    with libvirt_pair.pair("lvm", hooks=True) as made:
        yield made


def learned(host: Host) -> str:
    """The port behind which a switch knows the guest's address, or nothing."""
    entries = host.switch.call("fdb.list")
    return next((entry["port"] for entry in entries if entry["mac"] == MAC), "")


@pytest.fixture(autouse=True)
def tidy(pair: Pair) -> Iterator[None]:
    """A guest that a test has left, for it has failed, is in nobody's way."""
    yield
    for host in (pair.a, pair.b):
        for name in host.libvirt.virsh("list", "--name").split():
            host.libvirt.virsh("destroy", name)
        for name in host.libvirt.virsh("list", "--all", "--name").split():
            host.libvirt.virsh("undefine", name)
        for port in host.switch.call("port.list"):
            if port["external_ids"].get("mac") == MAC:
                host.switch.call("port.delete", name=port["name"])


@contextlib.contextmanager
def announcements(peer: Namespace) -> Iterator[Callable[[], int]]:
    """RARP requests of the guest that a peer has got since the last look."""
    with peer.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(RARP)) as heard:
        heard.setblocking(False)

        def since() -> int:
            count = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    count += heard.recv(2048)[6:12].hex(":") == MAC
            return count

        yield since


def there_and_back(pair: Pair, domain: Domain, moving: Move) -> Domain:
    """The guest is where it was at the end; nothing of it stays where it has been."""
    here, there = pair.a, pair.b
    domain.wait_ready()
    domain.must("echo remembered > /tmp/note")
    with announcements(pair.peer) as announced, Pinger(pair.peer, IP) as pinger:
        pinger.wait_answer()
        for _ in range(2):
            began = time.monotonic()
            domain = moving(domain, here, there)
            pinger.wait_answer()
            print(f"migrated in {time.monotonic() - began:.1f} s, "
                  f"downtime {downtime_ms(domain)} ms")  # fmt: skip
            # Of the switch: QEMU has none sent for a driver that does it itself, and later.
            assert announced() == 1, "its peers are told where it is"
            until(lambda now=there: learned(now) not in ("", UPLINK), "it is known there")
            until(lambda old=here: learned(old) == UPLINK, "and that it has gone")
            assert there.switch.call("port.show", name=learned(there))["port"]["link"] == "up"
            assert f"{domain.name}.sock" not in here.sockets()
            assert here.libvirt.virsh("list", "--all", "--name").split() == []
            here, there = there, here
    told = pinger.answers
    print(f"{told.sent} requests, {told.lost} without an answer")
    assert (told.duplicates, told.damaged) == (0, 0)
    assert told.gaps <= 2, "nothing is lost but while the guest moves"
    assert domain.must("cat /tmp/note") == "remembered\n"
    for host in (pair.a, pair.b):
        assert "refused" not in host.switch.log.read_text()
    return domain


@pytest.mark.parametrize("mode", ["server", "client"])
@pytest.mark.spare
def test_by_hand(pair: Pair, mode: Mode) -> None:
    """A port is made on the other host, and virsh is told its socket's path."""
    domain = pair.a.start("vm", 1, mode)
    _, *steps = migration_page.blocks()
    assert [step.who for step in steps] == ["host2", "host1"]

    def by_hand(guest: Domain, source: Host, target: Host) -> Domain:
        guest.commands.close()
        for step in steps:
            migration_page.type_in(step, source, target, name=guest.name, mode=mode)
        for shown in paths(target, "vm"):
            assert str(target.switch.vhost) in shown and str(source.switch.vhost) not in shown
        return Domain(target.libvirt, guest.name)

    there_and_back(pair, domain, by_hand)


def test_by_the_hook(pair: Pair) -> None:
    """Nobody but the hook makes, moves or deletes a port or changes a path."""
    metadata = (f'<u:ports xmlns:u="urn:vif-uswitch:domain:1">'
                f'<u:port mac="{MAC}" segment="lan" mtu="1400"/></u:ports>')  # fmt: skip
    interface = Interface(pair.a.switch.vhost / "vm.sock", MAC)
    domain = pair.a.libvirt.start_domain(
        pair.a.guests.xml("vm", [interface], Network(ip=f"{IP}/24"), metadata))  # fmt: skip

    step = migration_page.blocks()[0]
    assert step.who == "host1"

    def by_hook(guest: Domain, source: Host, target: Host) -> Domain:
        guest.commands.close()
        # The page's command and nothing else, but for the test bed's serial ports.
        xml = source.libvirt.virsh("dumpxml", "--migratable", "vm")
        file = source.libvirt.directory / "vm-serial.xml"
        file.write_text(xml.replace(str(source.libvirt.guests), str(target.libvirt.guests)))
        migration_page.type_in(step, source, target, name="vm", mode="server",
                               more=f"--xml {file} --persistent-xml {file}")  # fmt: skip
        moved = Domain(target.libvirt, "vm")
        running, kept = paths(target, "vm")
        assert str(target.switch.vhost) in running and str(source.switch.vhost) not in running
        assert str(source.switch.vhost) in kept, "no hook is asked about what --persistent writes"
        port = target.switch.call("port.show", name=port_of(target))["port"]
        assert (port["segment"], port["mtu"]) == ("lan", 1400)
        until(lambda: not port_of(source), "its port is gone there")
        return moved

    domain = there_and_back(pair, domain, by_hook)
    domain.destroy()
    until(lambda: not port_of(pair.a) and not port_of(pair.b), "its ports are gone")


def paths(host: Host, name: str) -> tuple[str, str]:
    """Of its interfaces' sockets: as it runs, and as it is defined."""
    return _paths(host.libvirt.virsh("dumpxml", name)), _paths(
        host.libvirt.virsh("dumpxml", "--inactive", name))  # fmt: skip


def _paths(xml: str) -> str:
    sources = ET.fromstring(xml).iterfind("devices/interface/source")
    return " ".join(source.get("path", "") for source in sources)


def port_of(host: Host) -> str:
    """Name of the port that the hook has made for the guest."""
    wanted = {"owner": "libvirt", "mac": MAC}
    return next((port["name"] for port in host.switch.call("port.list")
                 if wanted.items() <= port["external_ids"].items()), "")  # fmt: skip
