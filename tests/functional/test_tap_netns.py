# SPDX-License-Identifier: Apache-2.0
"""TAP devices that live in another network namespace, as those of Neutron's agents do.

They are opened before they move, and found again when both daemons were gone:
root's helper opens them in there, and nothing that is not the switch's own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed import netns, unprivileged
from testbed.daemons import ApiError
from testbed.netns import Namespace
from testbed.qemu import Network

from . import vms as v
from .conftest import Lab
from .frontend import Frontend
from .hosts import Responder
from .tap_bed import Bed
from .test_tap import ping_from

_missing = netns.available()
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.timeout(300),
]
NETWORK = Network(ip="10.9.0.200/24")
GUEST_IP = "10.9.0.201"
PATIENCE_S = 30.0
_numbers = itertools.count(1)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    made = Bed()
    try:
        made.switch.start()
        yield made
        assert "Traceback" not in made.switch.log.read_text()
    finally:
        made.close()


@pytest.fixture
def helper(bed: Bed) -> Iterator[Bed]:
    bed.helper.start()
    yield bed
    bed.helper.stop()


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace(f"ustapns-{os.getpid()}-{next(_numbers)}") as namespace:
        yield namespace


class Port:
    """A TAP port, its device in a namespace, and a guest beside it."""

    def __init__(self, bed: Bed, host: Namespace) -> None:
        self.bed, self.host = bed, host
        self.name = self.ifname = f"ustapns{next(_numbers)}"
        self.lab = Lab(bed.switch)
        self.guest = self.lab.guest("lan")

    def make_device(self) -> None:
        who = unprivileged.identity()
        ip("tuntap", "add", "dev", self.ifname, "mode", "tap", "user", str(who.uid), "vnet_hdr")
        ip("link", "set", "dev", self.ifname, "alias", self.name)

    def plug(self) -> Port:
        """As the interface driver does it."""
        self.make_device()
        self.bed.switch.add_tap(self.name, self.ifname, segment="lan", netns=self.host.name)
        self.move()
        return self

    def move(self) -> None:
        self.host.take(self.ifname)
        netns.configure(self.host, self.ifname, NETWORK)

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.bed.switch.call("port.show", name=self.name)["port"])

    def answers(self) -> None:
        """Ten of ten requests from the namespace to the guest."""
        with Responder(self.guest, GUEST_IP):
            v.answered(ping_from(self.host, GUEST_IP))

    def guest_again(self) -> None:
        """QEMU connects again after both daemons were killed; the rings are new ones."""
        path = self.guest.front.path
        self.guest.front.close()
        self.guest.front = Frontend(path, wanted=self.guest.front.wanted).start()

    def close(self) -> None:
        self.lab.close()
        self.bed.switch.call("port.delete", name=self.name)
        subprocess.run(["ip", "link", "delete", self.ifname], check=False, capture_output=True)


@pytest.fixture
def port(bed: Bed, host: Namespace) -> Iterator[Port]:
    made = Port(bed, host)
    yield made
    made.close()


# ---- both daemons gone ----


def test_both_killed_and_traffic_goes_on(helper: Bed, port: Port) -> None:
    port.plug().answers()
    assert helper.helper.started == 0, "nobody needs it while the device is in the host's namespace"
    for count in (1, 2):
        helper.restart()
        port.guest_again()
        assert (port.state["link"], port.state["reason"]) == ("up", "")
        assert port.state["netns"] == port.host.name
        port.answers()
        assert helper.helper.started == count


def test_one_killed_needs_nobody(bed: Bed, port: Port) -> None:
    """No helper here: each process has the other's descriptors."""
    port.plug().answers()
    bed.switch.restart_daemon()
    port.answers()
    bed.switch.wait_replaced(bed.switch.kill_dataplane())
    for name in (port.name, port.guest.name):
        bed.switch.wait_link(name)
    port.answers()


def test_without_helper_the_port_says_so_and_waits(bed: Bed, port: Port) -> None:
    """The other ports work; as soon as the helper is there this one does, too."""
    port.plug().answers()
    bed.restart()
    state = port.state
    assert state["link"] == "waiting"
    for word in (port.ifname, port.host.name, "/run/uswitch-tap.sock", "does not answer",
                 "systemctl enable --now uswitch-tap.socket"):  # fmt: skip
        assert word in state["reason"], state["reason"]
    port.guest_again()
    other = port.lab.guest("lan")
    assert other.send(port.guest, [b"beside it"]) == 1
    bed.helper.start()
    try:
        until(lambda: port.state["link"] == "up", "tried again by itself")
    finally:
        bed.helper.stop()
    port.answers()


def test_many_ports_by_one_helper(helper: Bed, host: Namespace) -> None:
    ports = [Port(helper, host) for _ in range(5)]
    for one in ports:
        one.make_device()
        helper.switch.add_tap(one.name, one.ifname, segment="lan", netns=host.name)
        host.take(one.ifname)
    try:
        helper.restart()
        assert [one.state["link"] for one in ports] == ["up"] * len(ports)
        assert helper.helper.started == 1
    finally:
        for one in ports:
            one.close()


# ---- devices that come and go ----


def test_namespace_deleted_and_made_again(helper: Bed, port: Port) -> None:
    """What a host's reboot leaves: ports without devices, which the agent makes anew."""
    port.plug().answers()
    ip("netns", "delete", port.host.name)
    until(lambda: port.state["link"] == "waiting", "somebody noticed")
    until(lambda: port.host.name in port.state["reason"], "the reason is known")
    helper.restart()
    assert port.state["link"] == "waiting" and port.host.name in port.state["reason"]
    ip("netns", "add", port.host.name)
    port.make_device()
    port.move()
    port.guest_again()
    until(lambda: port.state["link"] == "up", "the new device is taken")
    port.answers()


def test_device_in_our_namespace_deleted_and_made_again(bed: Bed, port: Port) -> None:
    """Nobody has to delete the port; the kernel tells that there is a new device."""
    port.make_device()
    bed.switch.add_tap(port.name, port.ifname, segment="lan")
    counted = bed.switch.call("port.show", name=port.name)["incoming"]["frames"]
    ip("link", "delete", port.ifname)
    until(lambda: port.state["link"] == "waiting", "somebody noticed")
    until(lambda: "ip tuntap add" in port.state["reason"], "with what to do")
    port.make_device()
    until(lambda: port.state["link"] == "up", "the new device is taken")
    port.move()
    port.answers()
    assert bed.switch.call("port.show", name=port.name)["incoming"]["frames"] > counted


def test_the_host_s_device_of_the_same_name(bed: Bed, port: Port) -> None:
    """Neither without helper, nor when the namespace's own device is gone, is it the port's."""
    port.plug().answers()
    who = unprivileged.identity()
    device = ("tuntap", "add", "dev", port.ifname, "mode", "tap", "user", str(who.uid), "vnet_hdr")
    ip(*device)
    with pytest.raises(ApiError, match="could be taken for that in"):
        bed.switch.add_tap("host", port.ifname)
    bed.restart()
    assert port.state["link"] == "waiting" and "has alias ''" in port.state["reason"]
    port.guest_again()
    bed.helper.start()
    try:
        until(lambda: port.state["link"] == "up", "tried again by itself")
        port.answers()
        ip("-n", port.host.name, "link", "delete", port.ifname)
        until(lambda: port.host.name in port.state["reason"], "the reason is known")
        assert port.state["link"] == "waiting" and "neither in" in port.state["reason"]
        ip("link", "set", "dev", port.ifname, "alias", port.name)
        until(lambda: port.state["link"] == "up", "it is the port's now")
    finally:
        bed.helper.stop()


def test_the_namespace_is_part_of_what_a_port_is(helper: Bed, port: Port) -> None:
    port.plug()
    spec = {"name": port.name, "type": "tap", "ifname": port.ifname}
    with pytest.raises(ApiError, match="network namespace"):
        helper.switch.call("port.ensure", port={**spec, "netns": "elsewhere"})
    with pytest.raises(ApiError, match="network namespace"):
        helper.switch.call("port.ensure", port=spec)
    again = helper.switch.call("port.ensure", port={**spec, "netns": port.host.name})
    assert not again["changed"]
    for netns_name in ("..", "../x", "/run/netns/x", "a b", "x" * 65):
        with pytest.raises(ApiError, match="netns"):
            helper.switch.call("port.add", port={**spec, "name": "never", "netns": netns_name})
    with pytest.raises(ApiError, match="vhost-user port has none"):
        helper.switch.call("port.add", port={"name": "never", "netns": port.host.name})
    shown = helper.switch.ctl("port", "show", port.name)
    assert shown["netns"] == port.host.name


# ---- what the helper does not open ----


def test_what_is_not_the_switch_s_own(helper: Bed, host: Namespace) -> None:
    """Every refusal reaches whoever asked for the port, and no device changed hands."""

    def refused(ifname: str, namespace: str = host.name) -> str:
        with pytest.raises(ApiError) as error:
            helper.switch.add_tap("never", ifname, netns=namespace)
        assert ifname in str(error.value)
        return str(error.value)

    uid = str(unprivileged.identity().uid)
    for name, words in {
        "usnobody": ("tap",),
        "usother": ("tap", "user", "4711"),
        "usroot": ("tap", "user", "root"),
        "ustun": ("tun", "user", uid),
        "usmulti": ("tap", "user", uid, "multi_queue"),
    }.items():
        ip("-n", host.name, "tuntap", "add", "dev", name, "mode", *words)
    ip("-n", host.name, "link", "add", "usveth", "type", "veth", "peer", "uspeer")
    assert "belongs to nobody" in refused("usnobody")
    assert "does not belong to the user" in refused("usother")
    assert "does not belong to the user" in refused("usroot")
    assert "cannot be used" in refused("ustun")
    assert "cannot be used" in refused("usmulti")
    assert "belongs to nobody, or is no TAP device" in refused("usveth")
    assert "nor in" in refused("usnone")
    assert "nor in usnowhere" in refused("usnone", "usnowhere")
    assert helper.switch.call("port.list") == []


def test_a_file_among_the_namespaces(helper: Bed) -> None:
    path = f"/run/netns/ustapns-file-{os.getpid()}"
    with open(path, "x"):
        pass
    try:
        with pytest.raises(ApiError, match="is no network namespace"):
            helper.switch.add_tap("never", "usnone", netns=os.path.basename(path))
    finally:
        os.unlink(path)


HOLDING = """
import fcntl, os, struct, sys
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), 0x5002))  # TUNSETIFF
print("held", flush=True)
sys.stdin.read()
"""


def test_a_device_that_somebody_else_has_open(helper: Bed, port: Port) -> None:
    port.make_device()
    port.move()
    command = ["ip", "netns", "exec", port.host.name, sys.executable, "-c", HOLDING, port.ifname]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ApiError, match="another process uses it"):
            helper.switch.add_tap(port.name, port.ifname, netns=port.host.name)
        holder.communicate(timeout=PATIENCE_S)
    helper.switch.add_tap(port.name, port.ifname, segment="lan", netns=port.host.name)
    port.answers()
