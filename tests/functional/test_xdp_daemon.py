# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl uplink add --ifname``: a whole switch, unprivileged, on sockets of root's helper.

Two hosts, each in a namespace of its own behind a veth pair; between them nothing but the switch.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import TestbedError, unprivileged
from testbed.daemons import Switch
from testbed.netns import Namespace
from testbed.traffic import parse_ping

from .xdp_bed import PATIENCE_S, Bed, ip, missing, until

_missing = missing()
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.timeout(300),
]
NEAR, FAR = ("near0", "near1"), ("far0", "far1")
IPS = ("192.0.2.1", "192.0.2.2")
TCP_BYTES = 4 << 20
_numbers = itertools.count(1)


@dataclass
class Host:
    """One end."""

    namespace: Namespace
    ifname: str
    address: str

    def set_up(self) -> None:
        """Addresses, and no offloads: XDP sees frames before a checksum is filled in."""
        name = self.namespace.name
        ip("-n", name, "address", "replace", f"{self.address}/24", "dev", self.ifname)
        done = self.namespace.run(["ethtool", "-K", self.ifname, "tx", "off"])
        assert done.rc == 0, done.output

    def ping(self, address: str, count: int = 5) -> int:
        """How many were answered."""
        words = f"ping -q -c {count} -i 0.05 -W 5 {address}".split()
        done = self.namespace.run(words)
        return parse_ping(done.output).received


class Wire:
    """Two hosts, and a switch that has an uplink to each."""

    def __init__(self, bed: Bed, other: Namespace, switch: Switch) -> None:
        self.bed, self.switch = bed, switch
        self.hosts = tuple(Host(*one) for one in zip((bed.far, other), FAR, IPS, strict=True))

    def lay(self, number: int) -> None:
        """The veth pair of a host; root gives its near end to the switch."""
        host = self.hosts[number]
        self.bed.veth(NEAR[number], FAR[number])
        if host.namespace is not self.bed.far:
            ip("-n", self.bed.far.name, "link", "set", FAR[number], "netns", host.namespace.name)
            ip("-n", host.namespace.name, "link", "set", FAR[number], "up")
        host.set_up()

    def join(self) -> None:
        for number, near in enumerate(NEAR):
            self.lay(number)
            done = self.bed.helper("attach", near)
            assert done.returncode == 0, done.stderr
            self.switch.ctl("uplink", "add", f"up{number}", "--ifname", near, "--create-segment",
                            "--vlan", "untagged=wire", "--ring-size", "256")
        for number in range(2):
            self.switch.wait_link(f"up{number}")

    def link(self, number: int) -> tuple[str, str]:
        """State and reason as uswitchd knows them; it does not ask the dataplane for that."""
        port = self.switch.call("port.show", name=f"up{number}")["port"]
        return port["link"], port["reason"]

    def pings(self) -> bool:
        """Whether all requests are answered, both ways.

        Asked up to three times: ping(8) waits for its last answers no longer than two round trips,
        which a busy machine exceeds.
        """
        a, b = self.hosts
        return any(a.ping(b.address) == 5 and b.ping(a.address) == 5 for _ in range(3))


@pytest.fixture
def wire() -> Iterator[Wire]:
    number = next(_numbers)
    bed = Bed(f"uswd{os.getpid()}-{number}")
    directory = Path(tempfile.mkdtemp(prefix="uswitch-test-"))
    unprivileged.own(directory, unprivileged.identity())
    try:
        with (Namespace(f"uswd{os.getpid()}-{number}-other") as other,
              Switch(directory, within=bed.within()) as switch):
            other.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
            made = Wire(bed, other, switch)
            made.join()
            yield made
            assert "Traceback" not in switch.log.read_text(), switch.tail(40)
    finally:
        bed.close()
        shutil.rmtree(directory)


def tcp(sender: Host, receiver: Host) -> None:
    """A stream arrives exactly."""
    data = os.urandom(TCP_BYTES)
    got: list[bytes] = []
    with (receiver.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
          sender.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as out):
        listener.bind((receiver.address, 0))
        listener.listen(1)
        for one in (listener, out):
            one.settimeout(60)

        def receive() -> None:
            with listener.accept()[0] as peer:
                peer.settimeout(60)
                while part := peer.recv(1 << 16):
                    got.append(part)

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            out.connect(listener.getsockname())
            out.sendall(data)
            out.shutdown(socket.SHUT_WR)
        finally:
            thread.join(90)
    assert hashlib.sha256(b"".join(got)).digest() == hashlib.sha256(data).digest()


def test_ping_and_tcp_both_ways(wire: Wire) -> None:
    a, b = wire.hosts
    assert wire.pings()
    tcp(a, b)
    tcp(b, a)
    shown = wire.switch.ctl("uplink", "show", "up0")
    assert "af_xdp" in str(shown) and NEAR[0] in str(shown)


def test_either_process_killed(wire: Wire) -> None:
    a, b = wire.hosts
    assert wire.pings()
    for _ in range(2):
        wire.switch.wait_replaced(wire.switch.kill_dataplane())
        for number in range(2):
            wire.switch.wait_link(f"up{number}")
        until(wire.pings, "the next dataplane has sockets of its own")
    dataplane = wire.switch.dataplane_pid
    wire.switch.kill_daemon()
    assert wire.pings(), "frames flow without uswitchd"
    wire.switch.start()
    for sig in (signal.SIGTERM, signal.SIGKILL):
        wire.switch.restart_daemon(sig)
        assert wire.switch.dataplane_pid == dataplane
        assert [wire.link(number) for number in range(2)] == [("up", ""), ("up", "")]
        assert wire.pings()
    tcp(a, b)


def test_down_and_up_without_a_frame(wire: Wire) -> None:
    wire.bed.set_link(NEAR[1], "down")
    until(lambda: wire.link(1)[0] != "up", "somebody tells that the device is down")
    assert wire.link(1)[1] and wire.link(0) == ("up", "")
    wire.bed.set_link(NEAR[1], "up")
    until(lambda: wire.link(1)[0] == "up", "and that it is up again")
    assert wire.pings()


def test_device_vanishes_and_comes_back_without_a_frame(wire: Wire) -> None:
    ip("-n", wire.bed.near.name, "link", "delete", NEAR[1])
    until(lambda: wire.link(1)[0] != "up", "somebody tells that the device is gone")
    assert wire.link(1)[1] and wire.link(0) == ("up", "")
    wire.lay(1)  # root has said already who gets it: the helper attaches its program again
    wire.switch.wait_link("up1", timeout=PATIENCE_S)
    assert wire.pings()


def test_what_root_did_not_give(wire: Wire) -> None:
    wire.bed.veth("near2", "far2")
    with pytest.raises(TestbedError, match="uswitch-xdp attach near2"):
        wire.switch.ctl("uplink", "add", "up2", "--ifname", "near2")
    assert wire.pings()


def rows(wire: Wire, name: str) -> dict[str, object]:
    port = wire.switch.call("uplink.show", name=name)["uplink"]["port"]
    tagged = {str(row["vid"]): row["segment"] for row in port["trunk"]}
    return {"segment": port["segment"], **tagged}


def each_killed(wire: Wire) -> Iterator[str]:
    """Kills both processes, one at a time and together."""
    for how in ("uswitchd", "dataplane", "both"):
        dataplane = wire.switch.dataplane_pid
        if how != "dataplane":
            wire.switch.kill_daemon()
        if how != "uswitchd":
            os.kill(dataplane, signal.SIGKILL)
        if how != "dataplane":
            wire.switch.start()
        wire.switch.wait_replaced(0 if how == "uswitchd" else dataplane)
        yield how


def test_rows_set_one_by_one(wire: Wire) -> None:
    """Of an uplink that the API made: each counts at once, and survives."""
    a, b = wire.hosts
    call = wire.switch.call
    assert wire.pings()
    assert call("uplink.map", name="up0", vid=None, segment=None)["changed"]
    assert not call("uplink.map", name="up0", vid=None, segment=None)["changed"]
    assert a.ping(b.address, 2) == 0, "it is in no segment"
    call("uplink.map", name="up0", vid=100, segment="other", create_segments=True)
    assert a.ping(b.address, 2) == 0, "untagged frames still are in none"
    call("uplink.map", name="up0", vid=None, segment="wire")
    assert wire.pings()
    for how in each_killed(wire):
        assert rows(wire, "up0") == {"segment": "wire", "100": "other"}, how
        until(wire.pings, f"{how} was killed, frames flow again")


def test_rows_of_an_uplink_of_the_configuration(wire: Wire) -> None:
    """The configuration has its own; the others survive restarts and its next version."""
    switch, (a, b) = wire.switch, wire.hosts
    call = switch.call
    call("uplink.delete", name="up1")
    config = switch.config.read_text()
    section = f"\n[uplink:up1]\nifname = {NEAR[1]}\nring_size = 256\nvlans = 7=seven\n"
    switch.config.write_text(config + section)
    switch.restart_daemon(signal.SIGTERM)
    call("uplink.map", name="up1", vid=None, segment="wire")
    call("uplink.map", name="up1", vid=8, segment="eight", create_segments=True)
    for how in each_killed(wire):
        assert rows(wire, "up1") == {"segment": "wire", "7": "seven", "8": "eight"}, how
        until(wire.pings, f"{how} was killed, frames flow again")
    with pytest.raises(TestbedError, match="as the configuration says"):
        call("uplink.map", name="up1", vid=7, segment=None)
    switch.config.write_text(config + section.replace("7=seven", "8=seven, 9=nine"))
    switch.restart_daemon()
    assert rows(wire, "up1") == {"segment": "wire", "8": "seven", "9": "nine"}
    assert "leaves no place for VLAN id 8 in segment eight" in switch.log.read_text()
    assert a.ping(b.address) == 5
