# SPDX-License-Identifier: Apache-2.0
"""What happens in the life of libvirt's guests, on a switch, without a cloud.

Two guests by a real libvirtd: QEMU of one listens, QEMU of the other connects, so
that each direction sees everything.  A namespace behind a TAP port pings what
must lose nothing meanwhile, and waits for every answer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from testbed.echo import Pinger
from testbed.libvirt import Domain
from testbed.libvirt_guests import Disk
from testbed.netns import Namespace
from testbed.qemu import Mode

from . import libvirt_bed as bed
from .libvirt_bed import Host

_missing = bed.missing()
pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
]
CYCLES = 100
PATIENCE_S = 10.0
IPS = {"a": "10.9.0.1", "b": "10.9.0.2"}
# In as few processes as can be: each takes an emulated guest a while.
NIC_UP = "until [ -e /sys/class/net/eth1 ]; do usleep 20000; done; ip link set eth1 up"
NIC_GONE = "while [ -e /sys/class/net/eth1 ]; do usleep 20000; done"


def spare(value: str) -> ParameterSet:
    """What ``make test`` leaves out: the other direction has passed."""
    return pytest.param(value, marks=pytest.mark.spare)


@dataclass(frozen=True, slots=True)
class Home:
    """The host, its two guests, and who pings them."""

    host: Host
    a: Domain  # its QEMU listens
    b: Domain  # its QEMU connects
    peer: Namespace

    def talk(self) -> None:
        """Each guest hears the other one and the peer."""
        for one, other in ((self.a, IPS["b"]), (self.b, IPS["a"])):
            for address in (other, "10.9.0.250"):
                assert ", 0% packet loss" in one.must(f"ping -q -c 3 -i 0.1 -W 10 {address}")

    def pinging(self, domain: Domain) -> Pinger:
        return Pinger(self.peer, IPS[domain.name])

    def carrier_changes(self) -> list[str]:
        return [one.must("cat /sys/class/net/eth0/carrier_changes") for one in (self.a, self.b)]


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with bed.host("uswitch-lv-") as host, bed.peer(host.switch, "10.9.0.250") as peer:
        image = host.libvirt.guests / "a.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
        made = Home(host, host.start("a", 1, "server", Disk(image)),
                    host.start("b", 2, "client"), peer)  # fmt: skip
        for domain in (made.a, made.b):
            domain.wait_ready()
        yield made
        for domain in (made.a, made.b):
            domain.destroy()
            host.switch.call("port.delete", name=domain.name)
        assert host.sockets() == set()


def unharmed(pinger: Pinger) -> None:
    """Of a ping that has ended: every request had one answer."""
    told = pinger.answers
    assert told.sent > 0
    assert (told.lost, told.duplicates, told.damaged, told.refused) == (0, 0, 0, ""), told


def test_guests_of_both_directions_talk(home: Home) -> None:
    home.talk()
    for domain in (home.a, home.b):
        assert home.host.switch.call("port.show", name=domain.name)["port"]["link"] == "up"


def resources(home: Home) -> dict[str, object]:
    """What an interface that has gone must not have left behind."""
    switch, libvirt = home.host.switch, home.host.libvirt
    processes = {"uswitchd": switch.daemon_pid, "dataplane": switch.dataplane_pid,
                 "QEMU": libvirt.qemu("a")}  # fmt: skip
    found: dict[str, object] = {
        f"descriptors of {name}": len(os.listdir(f"/proc/{pid}/fd"))
        for name, pid in processes.items()
    }
    maps = Path(f"/proc/{switch.dataplane_pid}/maps").read_text()
    found["guests' memory mapped"] = maps.count("memfd:memory-backend-memfd")
    found["ports"], found["sockets"] = home.host.ports(), home.host.sockets()
    found["addresses"] = sorted(entry["mac"] for entry in switch.call("fdb.list"))
    found["interfaces"] = libvirt.virsh("domiflist", "a")
    return found


def left(before: dict[str, object], after: dict[str, object]) -> dict[str, tuple[object, object]]:
    """What is more than before, of counts, or different.  A connection may close a moment later."""
    found = {}
    for what, was in before.items():
        now = after[what]
        counts = isinstance(now, int) and isinstance(was, int)
        if (now > was) if counts else (now != was):  # type: ignore[operator]
            found[what] = was, now
    return found


def test_hundred_interfaces_come_and_go(home: Home) -> None:
    """Into guest a, of either direction by turns; nobody else notices and nothing is left."""
    host = home.host
    home.talk()
    plug_and_unplug(home, "server")  # what QEMU and the daemons allocate once
    plug_and_unplug(home, "client")
    before = resources(home)
    starts = host.switch.call("show")["dataplane"]["starts"]
    with home.pinging(home.b) as pinger:
        pinger.wait_answer()
        for cycle in range(CYCLES):
            plug_and_unplug(home, "client" if cycle % 2 else "server")
    unharmed(pinger)
    end = time.monotonic() + PATIENCE_S
    while (more := left(before, resources(home))) and time.monotonic() < end:
        time.sleep(0.05)
    assert more == {}
    assert host.switch.call("show")["dataplane"]["starts"] == starts
    home.talk()


def plug_and_unplug(home: Home, mode: Mode) -> None:
    """The guest's driver has it and its link is up in between."""
    host = home.host
    interface = host.interface("hot", 9, mode)
    device = host.libvirt.directory / "device.xml"
    device.write_text(interface.xml())
    host.libvirt.virsh("attach-device", "a", device, "--live")
    home.a.must(NIC_UP)
    host.switch.wait_link("hot")
    host.libvirt.virsh("detach-device", "a", device, "--live")
    home.a.must(NIC_GONE)
    host.switch.call("port.delete", name="hot")


@pytest.mark.parametrize("name", ["a", spare("b")])
def test_guest_killed(home: Home, name: str) -> None:
    """The other one notices nothing; the next start finds the port as it was."""
    victim, other = (home.a, home.b) if name == "a" else (home.b, home.a)
    with home.pinging(other) as pinger:
        pinger.wait_answer()
        victim.kill()
        home.host.switch.wait_link(name, "waiting")
        victim.again()
    unharmed(pinger)
    home.host.switch.wait_link(name)
    home.talk()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_libvirtd_restarted(home: Home, sig: signal.Signals) -> None:
    before = [home.host.libvirt.qemu(name) for name in IPS]
    with home.pinging(home.a) as to_a, home.pinging(home.b) as to_b:
        to_a.wait_answer()
        home.host.libvirt.restart(sig)
        assert (home.a.state(), home.b.state()) == ("running", "running")
        to_b.wait_answer()
    unharmed(to_a)
    unharmed(to_b)
    assert [home.host.libvirt.qemu(name) for name in IPS] == before
    plug_and_unplug(home, "server")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_uswitchd_restarted(home: Home, sig: signal.Signals) -> None:
    """Frames flow without it, and the guests' links stay up."""
    changes, dataplane = home.carrier_changes(), home.host.switch.dataplane_pid
    with home.pinging(home.a) as to_a, home.pinging(home.b) as to_b:
        to_a.wait_answer()
        home.host.switch.restart_daemon(sig)
        to_b.wait_answer()
    unharmed(to_a)
    unharmed(to_b)
    assert (home.carrier_changes(), home.host.switch.dataplane_pid) == (changes, dataplane)
    plug_and_unplug(home, "client")


@pytest.mark.spare
def test_dataplane_killed(home: Home) -> None:
    """Packets may be lost, for an instant; links stay up and libvirt does not notice."""
    changes = home.carrier_changes()
    with home.pinging(home.a) as to_a, home.pinging(home.b) as to_b:
        to_a.wait_answer()
        home.host.switch.wait_replaced(home.host.switch.kill_dataplane())
        to_a.wait_answer()
        to_b.wait_answer()
    assert home.carrier_changes() == changes
    assert (home.a.state(), home.b.state()) == ("running", "running")
    home.talk()


@pytest.mark.parametrize("name", ["a", spare("b")])
def test_managed_save_and_restore(home: Home, name: str) -> None:
    """The guest goes on where it was: its memory is there, its address and its link."""
    domain, other = (home.a, home.b) if name == "a" else (home.b, home.a)
    domain.must("echo remembered > /tmp/note")
    with home.pinging(other) as pinger:
        pinger.wait_answer()
        domain.commands.close()
        home.host.libvirt.virsh("managedsave", name)
        assert domain.state() == "shut off"
        home.host.switch.wait_link(name, "waiting")
        home.host.libvirt.virsh("start", name)
        assert domain.must("cat /tmp/note") == "remembered\n"
    unharmed(pinger)
    home.host.switch.wait_link(name)
    home.talk()


@pytest.mark.spare
def test_snapshot_taken_and_reverted(home: Home) -> None:
    """Of a running guest, with its memory: it goes back, and its interface with it."""
    a, libvirt = home.a, home.host.libvirt
    a.must("echo before > /tmp/note")
    with home.pinging(home.b) as pinger:
        pinger.wait_answer()
        libvirt.virsh("snapshot-create-as", "a", "early")
        home.talk()
        a.must("echo after > /tmp/note; ip link set eth0 down")
        a.commands.close()
        libvirt.virsh("snapshot-revert", "a", "early", "--running")
        assert a.must("cat /tmp/note") == "before\n"
    unharmed(pinger)
    home.host.switch.wait_link("a")
    home.talk()
    libvirt.virsh("snapshot-delete", "a", "early")


@pytest.mark.spare
@pytest.mark.parametrize("how", ["by its kernel", "by the reset button"])
def test_reboot(home: Home, how: str) -> None:
    """Under the same QEMU, in both guests at once."""
    before = [home.host.libvirt.qemu(name) for name in IPS]
    for domain in (home.a, home.b):
        boots = domain.boots()
        if how == "by its kernel":
            domain.must("( sleep 0.3; reboot -f ) &")
        else:
            home.host.libvirt.virsh("reset", domain.name)
        domain.wait_ready(boots + 1)
    assert [home.host.libvirt.qemu(name) for name in IPS] == before
    for domain in (home.a, home.b):
        home.host.switch.wait_link(domain.name)
    home.talk()
