# SPDX-License-Identifier: Apache-2.0
"""TAP ports: a network namespace, as a container or a DHCP agent would be, beside the guests.

The device is made by root and belongs to the unprivileged user; uswitchd only
opens it.  Once it does, the device moves into the namespace.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest

from testbed import echo, netns
from testbed.daemons import ApiError, Switch
from testbed.echo import Answers
from testbed.netns import Namespace, Tap
from testbed.qemu import Network

from . import vms as v
from .conftest import Lab, frame, mac
from .hosts import Responder, raw_socket
from .vms import Vms

_missing = netns.available()
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.timeout(600),
]
KILLS = True
IP, IP6 = "10.9.0.200", "fd00:75::200"
EXPERIMENTAL = b"\x88\xb5"
BROADCAST = b"\xff" * 6
_numbers = itertools.count(1)


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace(f"uswitch-{os.getpid()}-{next(_numbers)}") as namespace:
        yield namespace


@pytest.fixture
def tap() -> Iterator[Tap]:
    with Tap(f"ustest{next(_numbers)}") as device:
        yield device


@pytest.fixture
def port(switch: Switch) -> Iterator[str]:
    """The name of a port to be made; it is gone after the test."""
    name = f"tap{next(_numbers)}"
    yield name
    switch.call("port.delete", name=name)


def attach(switch: Switch, port: str, tap: Tap, host: Namespace, **settings: object) -> None:
    switch.add_tap(port, tap.ifname, **settings)
    host.adopt(tap, Network(ip=f"{IP}/24", ip6=f"{IP6}/64"))


def ping_from(host: Namespace, address: str, count: int = 10, size: int = echo.SIZE,
              patience: float = echo.PATIENCE) -> Answers:
    return echo.ping(host, address, count, interval=0.02, size=size, patience=patience)


def status(switch: Switch, port: str) -> tuple[str, str]:
    shown = switch.call("port.show", name=port)["port"]
    return shown["link"], shown["reason"]


@pytest.mark.guest
def test_namespace_and_guest(switch: Switch, tap: Tap, host: Namespace, port: str) -> None:
    """Ping both ways, TCP both ways with checksums and segmentation left to the other side."""
    vms = Vms(switch)
    try:
        vm = vms.add(segment="lan")
        attach(switch, port, tap, host, segment="lan")
        for address in (vm.ip, vm.ip6):
            v.answered(ping_from(host, address))
            v.answered(ping_from(host, address, 5, 1400))
        v.answered(vm.ping(IP))
        v.answered(vm.ping(IP6))
        assert "tx-checksumming: on" in host.run(["ethtool", "-k", tap.ifname]).output
        exchange_files(host, vm)
        shown = switch.call("port.show", name=port)
        assert shown["incoming"]["gso"] and shown["outgoing"]["gso"]
        # What the guest said to everybody before the device was brought up.
        assert {drop["reason"] for drop in shown["drops"]} <= {*v.CONGESTION, "link_down"}
        assert vm.checksum_errors() == 0
    finally:
        vms.close()


def exchange_files(host: Namespace, vm: v.Vm) -> None:
    wanted = v.offer_file(vm, 2)
    for address in (vm.ip, vm.ip6):
        assert host.run(["sh", "-c", v.fetching(address, 2, "busybox nc")]).output == wanted
    with tempfile.TemporaryDirectory() as directory:
        size = 2 << 20
        made = f"cd {directory}; head -c {size} /dev/urandom > sent; sha256sum < sent"
        wanted = subprocess.run(made, shell=True, check=True, capture_output=True, text=True).stdout
        command = ["ip", "netns", "exec", host.name, "busybox", "httpd", "-f", "-p", "80", "-h",
                   directory]  # fmt: skip
        with subprocess.Popen(command) as server:
            try:
                time.sleep(0.5)
                for address in (IP, IP6):
                    assert vm.guest.must(v.fetching(address, 2), 120) == wanted
            finally:
                server.kill()


def test_namespace_and_front_end(
    switch: Switch, lab: Lab, tap: Tap, host: Namespace, port: str
) -> None:
    guest = lab.guest("lan")
    attach(switch, port, tap, host, segment="lan")
    with Responder(guest, "10.9.0.201") as responder:
        for size in (0, 56, 1472):
            v.answered(ping_from(host, "10.9.0.201", 10, size))
    assert responder.pings == 30


def test_tags_over_tap(switch: Switch, lab: Lab, tap: Tap, host: Namespace, port: str) -> None:
    """The kernel's own VLAN code sees our tags, and we see the kernel's."""
    blue, pink, native = (lab.guest(segment) for segment in ("blue", "pink", "native"))
    rows = [{"vid": 10, "segment": "blue"}, {"vid": 4094, "segment": "pink"}]
    attach(switch, port, tap, host, segment="native", trunk=rows)
    with raw_socket(host, tap.ifname) as raw:
        for guest, vid in ((blue, 10), (pink, 4094), (native, None)):
            guest.front.recv_frames(99, timeout=5, quiet=0.2)  # what the namespace said so far
            guest.send(BROADCAST, [b"to the host"])
            assert raw.receive(EXPERIMENTAL) == (vid, frame(BROADCAST, guest.mac, b"to the host"))
            raw.send(frame(guest.mac, mac(4711), b"to the guest", vid))
            got = [f for _, f in guest.front.recv_frames(9, timeout=5, quiet=0.3)]
            assert frame(guest.mac, mac(4711), b"to the guest")[:26] in [f[:26] for f in got]
        raw.send(frame(blue.mac, mac(4711), b"astray", 11))
    lab.wait(lambda: lab.drops(port).get("vlan_unknown") == 1, "the drop is counted")
    for guest in (blue, pink, native):
        got = [f for _, f in guest.front.recv_frames(9, timeout=5, quiet=0.2)]
        assert not any(b"astray" in f for f in got)


def test_device_that_cannot_be_used(switch: Switch, lab: Lab) -> None:
    """Each refusal says what is wrong with which device; nothing is left of the port."""

    def refused(ifname: str) -> str:
        with pytest.raises(ApiError) as error:
            switch.add_tap("never", ifname, segment="lan")
        assert ifname in str(error.value)
        return str(error.value)

    assert "does not exist" in refused("ustestnone")
    assert "is no TAP device" in refused("lo")
    subprocess.run(
        ["ip", "tuntap", "add", "dev", "ustestfor", "mode", "tap", "user", "4711"], check=True
    )
    try:
        assert "does not belong to our user" in refused("ustestfor")
    finally:
        subprocess.run(["ip", "link", "delete", "ustestfor"], check=True)
    assert "never" not in [port["name"] for port in switch.call("port.list")]


def test_device_of_another_port(switch: Switch, lab: Lab, tap: Tap, port: str) -> None:
    switch.add_tap(port, tap.ifname, segment="lan")
    with pytest.raises(ApiError, match=port):
        switch.add_tap("never", tap.ifname, segment="lan")


def test_device_deleted_under_us(switch: Switch, lab: Lab, host: Namespace, port: str) -> None:
    """The port waits and says for what; others go on; a new device of that name is taken."""
    a, b = lab.guest("lan"), lab.guest("lan")
    with Tap("ustestgone") as first:
        attach(switch, port, first, host, segment="lan")
    lab.wait(lambda: status(switch, port)[0] == "waiting", "somebody notices")
    assert "gone" in status(switch, port)[1] or "does not exist" in status(switch, port)[1]
    assert a.send(b, [b"unicast, flooded", b"and to a port that is gone"]) == 2
    got = [f for _, f in b.front.recv_frames(99, timeout=5, quiet=0.3)]
    assert sum(f[6:12] == a.mac for f in got) == 2
    with Tap("ustestgone") as second:
        lab.wait(lambda: status(switch, port) == ("up", ""), "the new one is taken", 70)
        host.adopt(second, Network(ip=f"{IP}/24", ip6=f"{IP6}/64"))
        with Responder(a, "10.9.0.201"):
            v.answered(ping_from(host, "10.9.0.201"))


def test_port_deleted_and_added_again(
    switch: Switch, lab: Lab, tap: Tap, host: Namespace, port: str
) -> None:
    """Deleting a port leaves the device alone: it is somebody else's."""
    guest = lab.guest("lan")
    for _ in range(3):
        attach(switch, port, tap, host, segment="lan")
        with Responder(guest, "10.9.0.201"):
            v.answered(ping_from(host, "10.9.0.201"))
        switch.call("port.delete", name=port)
        assert ping_from(host, "10.9.0.201", 2, patience=1.0).lost == 2
        host.release(tap)


def test_processes_killed(switch: Switch, tap: Tap, host: Namespace, port: str) -> None:
    """The device was opened once and has moved away since: its fd has to be handed on."""
    lab = Lab(switch)
    guest = lab.guest("lan")
    attach(switch, port, tap, host, segment="lan")
    with Responder(guest, "10.9.0.201"):
        v.answered(ping_from(host, "10.9.0.201"))
        switch.kill_daemon()
        v.answered(ping_from(host, "10.9.0.201"))
        switch.restart_daemon()
        v.answered(ping_from(host, "10.9.0.201"))
        switch.wait_replaced(switch.kill_dataplane())
        some = ping_from(host, "10.9.0.201")
        assert some.lost < some.sent
        v.answered(ping_from(host, "10.9.0.201"))
    assert status(switch, port)[0] == "up"
    lab.close()


def test_device_gone_before_the_start(switch: Switch, port: str) -> None:
    """Desired state outlives its device: uswitchd starts all the same and says what is wrong."""
    with Tap("ustestboot") as tap:
        switch.add_tap(port, tap.ifname, segment="lan")
        switch.stop()
    switch.start()
    link, reason = status(switch, port)
    assert link != "up" and "ustestboot" in reason and "does not exist" in reason
