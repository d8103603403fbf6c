# SPDX-License-Identifier: Apache-2.0
"""Guests nobody prepared for us: Debian's kernel in QEMU, over real vhost-user sockets.

Traffic and negotiation; what happens when a guest or one of our processes
goes away is in test_guests_life.py.  Nothing here asserts on rates: an
emulated guest on a busy machine is slow, but it counts and checksums well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import verdict
from testbed.daemons import Switch
from testbed.qemu import Network, Nic
from testbed.traffic import ping_command, stream, with_late_answers

from . import vms as v
from .conftest import Lab, mac
from .vms import Vm, Vms

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

CSUM, GUEST_CSUM, MTU, GUEST_TSO4, HOST_TSO4 = 0, 1, 3, 7, 11
MRG_RXBUF, INDIRECT, EVENT_IDX, VERSION_1, PACKED = 15, 28, 29, 32, 34


@pytest.fixture(scope="module")
def vms(switch: Switch) -> Iterator[Vms]:
    yield from v.running(switch)


@pytest.fixture(scope="module")
def guests(vms: Vms) -> tuple[Vm, Vm]:
    """One guest behind a socket of ours, one behind a socket of QEMU's."""
    return vms.add("client"), vms.add("server")


@pytest.fixture
def pair(vms: Vms, guests: tuple[Vm, Vm]) -> Iterator[tuple[Vm, Vm]]:
    """The same, put back as they were after each test."""
    yield guests
    for vm in guests:
        vms.reset(vm)
        vm.guest.configure(vm.network)


def test_ping_loses_nothing(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    v.balanced(switch, a, b, lambda: v.talk(a, b), tolerated=set())


def test_tcp_brings_what_was_sent(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    v.balanced(switch, a, b, lambda: v.exchange_files(a, b, 4))
    detail = switch.call("port.show", name=a.name)
    assert detail["incoming"]["gso"] and detail["outgoing"]["gso"], "segmentation is offloaded"
    assert not detail["outgoing"]["gso_fixed"], "and passes untouched"


def test_full_speed(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """Large segments as fast as they come: receive rings run dry, and no frame gets lost unseen."""
    a, b = pair
    v.balanced(switch, a, b, lambda: stream(a.guest, b.guest, b.ip, 4))
    v.balanced(switch, a, b, lambda: stream(b.guest, a.guest, a.ip, 4))
    assert switch.call("show")["dataplane"]["starts"] == 1, "the dataplane crashed"


def test_all_that_is_offered_is_negotiated(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, _ = pair
    wanted = {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG_RXBUF, INDIRECT, EVENT_IDX, VERSION_1}
    assert wanted <= a.guest.features()
    mask = int(switch.call("port.show", name=a.name)["virtio_features"], 16)
    assert all(mask >> bit & 1 for bit in wanted)


def test_guest_that_offloads_nothing_while_sending(pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    a.guest.must("ethtool -K eth0 tx off sg off tso off gso off")
    v.exchange_files(a, b)
    a.guest.must("ethtool -K eth0 tx on sg on tso on gso on")


VARIANTS = {
    # name: (device options, features that must be there, features that must not)
    "no checksum or segmentation offload": (
        ("csum=off", "gso=off", "guest_csum=off", "guest_tso4=off", "guest_tso6=off",
         "guest_ecn=off", "host_tso4=off", "host_tso6=off", "host_ecn=off"),
        set(), {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4},
    ),
    "checksum offload, no segmentation": (
        ("guest_tso4=off", "guest_tso6=off", "guest_ecn=off"),
        {GUEST_CSUM, HOST_TSO4}, {GUEST_TSO4},
    ),
    "plainest rings": (
        ("mrg_rxbuf=off", "event_idx=off", "indirect_desc=off"),
        {VERSION_1}, {MRG_RXBUF, EVENT_IDX, INDIRECT},
    ),
    "legacy": (("disable-modern=on", "disable-legacy=off"), {MRG_RXBUF}, {VERSION_1}),
    "legacy, header of ten bytes": (
        ("disable-modern=on", "disable-legacy=off", "mrg_rxbuf=off"),
        set(), {MRG_RXBUF, VERSION_1},
    ),
    "packed rings": (("packed=on",), {PACKED}, set()),
    "packed rings, plain": (
        ("packed=on", "mrg_rxbuf=off", "event_idx=off", "indirect_desc=off"),
        {PACKED}, {MRG_RXBUF, EVENT_IDX, INDIRECT},
    ),
    "long rings": (("rx_queue_size=1024", "tx_queue_size=1024"), {MRG_RXBUF}, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_unlike_guests_understand_each_other(
    switch: Switch, vms: Vms, pair: tuple[Vm, Vm], name: str
) -> None:
    """What a receiver did not negotiate, software does: its kernel verifies the result."""
    options, there, absent = VARIANTS[name]
    other, odd = pair[0], vms.add(options=options)
    features = odd.guest.features()
    assert there <= features and not absent & features
    v.talk(odd, other)
    v.exchange_files(odd, other)
    detail = switch.call("port.show", name=odd.name)
    if GUEST_TSO4 in absent:
        assert detail["outgoing"]["gso_fixed"], "segments were cut in software"
    assert set(v.drops(switch, odd.name)) <= {*v.CONGESTION, "link_down"}
    vms.remove(odd)


def test_jumbo_frames(switch: Switch, vms: Vms) -> None:
    """9216 bytes, which the guests learn by VIRTIO_NET_F_MTU."""
    a, b = (vms.add(options=("host_mtu=9202",), mtu=9202) for _ in range(2))
    for vm in (a, b):
        assert MTU in vm.guest.features()
        assert vm.guest.must("cat /sys/class/net/eth0/mtu").strip() == "9202"
    v.balanced(switch, a, b, lambda: v.answered(a.ping(b, 10, "-s 9174 -M do")), tolerated=set())
    v.balanced(switch, a, b, lambda: v.answered(a.ping(b.ip6, 10, "-s 9154")), tolerated=set())
    v.exchange_files(a, b)
    vms.remove(a)
    vms.remove(b)


def test_mtu_that_the_port_does_not_have(switch: Switch, vms: Vms, pair: tuple[Vm, Vm]) -> None:
    """QEMU may not promise its guest more than the port takes."""
    path = switch.add_port("promise", mode="client", segment="promise", mtu=1500)
    a, b = pair
    ifname = a.guest.plug(Nic(path, "52:54:00:75:74:f1", options=("host_mtu=9202",)))
    a.guest.must(f"ip link set {ifname} up")
    shown = switch.call("port.show", name="promise")["port"]
    assert shown["link"] == "negotiating"
    assert "NET_SET_MTU refused: MTU 9202" in shown["reason"]
    a.guest.unplug(1)
    switch.call("port.delete", name="promise")
    v.answered(a.ping(b))


def test_segments_do_not_meet(switch: Switch, lab: Lab, pair: tuple[Vm, Vm]) -> None:
    """Not even for a guest that knows the other's address."""
    a, b = pair
    listener = lab.guest("elsewhere")
    switch.call("port.set", name=b.name, changes={"segment": "elsewhere"})
    before = verdict.settled(switch, [b.guest])
    a.guest.must(f"ip neigh replace {b.ip} lladdr {b.mac} dev eth0 nud permanent")
    a.guest.must(f"ip neigh replace 10.9.0.250 lladdr {mac(77).hex(':')} dev eth0 nud permanent")
    for address in (b.ip, "10.9.0.250", "10.9.0.251"):  # known, unknown, and asked for by broadcast
        assert not a.reaches(address)
    after = verdict.difference(before, verdict.settled(switch, [b.guest]))[b.name]
    assert (after.switch_out, after.guest_received) == (0, 0)
    # The listener hears its own segment, so its silence about the other one is no deafness.
    b.guest.run("ping -c 1 -W 1 10.9.0.252")
    heard = {f[6:12].hex(":") for _, f in listener.front.recv_frames(99, timeout=5, quiet=0.3)}
    assert heard == {b.mac}


def test_trunk(switch: Switch, lab: Lab, pair: tuple[Vm, Vm]) -> None:
    """A guest with 802.1Q interfaces talks to untagged ports; tags stay at the trunk port."""
    a, b = pair
    rows = [{"vid": 5, "segment": "five"}, {"vid": 6, "segment": "six"}]
    five, six = lab.guest("five"), lab.guest("six")
    switch.call("port.set", name=a.name, changes={"trunk": rows}, create_segments=True)
    switch.call("port.set", name=b.name, changes={"segment": "five"})
    a.guest.configure(Network(vlans=("5:10.5.0.1/24", "6:10.6.0.1/24", "7:10.7.0.1/24")))
    b.guest.must("ip address add 10.5.0.2/24 dev eth0")
    v.answered(a.ping("10.5.0.2"))
    v.answered(b.ping("10.5.0.1", 10, "-s 3000"))
    v.send_file(a, b, "10.5.0.1", 2)  # segmentation offload with a tag in the way
    v.send_file(b, a, "10.5.0.2", 2)
    assert (a.checksum_errors(), b.checksum_errors()) == (0, 0)
    five.front.recv_frames(99, timeout=5, quiet=0.3)
    six.front.recv_frames(99, timeout=5, quiet=0.3)
    assert not a.reaches("10.6.0.2")
    heard = [f for _, f in six.front.recv_frames(99, timeout=5, quiet=0.3)]
    assert any(f[12:14] == b"\x08\x06" for f in heard), "the question who has 10.6.0.2"
    assert all(f[12:14] != b"\x81\x00" and f[6:12].hex(":") == a.mac for f in heard)
    # A guest may look for IPv6 routers there meanwhile; that question it must not hear.
    leaked = [f for _, f in five.front.recv_frames(99, timeout=5, quiet=0.2)]
    assert not any(f[12:14] == b"\x08\x06" for f in leaked)
    assert not a.reaches("10.7.0.2")
    assert v.drops(switch, a.name)["vlan_unknown"] >= 1
    v.answered(b.ping("10.5.0.1"))
    a.guest.must("ip link delete eth0.5; ip link delete eth0.6; ip link delete eth0.7")


def test_two_nics_in_one_guest(switch: Switch, lab: Lab, pair: tuple[Vm, Vm]) -> None:
    """Plugged, and its port deleted, while the first one carries traffic."""
    a, b = pair
    path = switch.add_port("second", mode="client", segment="second")
    witness = lab.guest("second")
    a.guest.spawn(ping_command(b.ip, 40, 0.05), "during")
    ifname = a.guest.plug(Nic(path, "52:54:00:75:74:f0"), Network(ip="10.8.0.1/24"))
    switch.wait_link("second")
    assert ifname == "eth1"
    assert a.guest.run("ping -c 1 -W 1 -I eth1 10.8.0.2").rc == 1
    got = [f for _, f in witness.front.recv_frames(99, timeout=5, quiet=0.3)]
    assert any(f[6:12].hex(":") == "52:54:00:75:74:f0" and f[12:14] == b"\x08\x06" for f in got)
    v.answered(with_late_answers(a.guest, a.guest.collect("during").output))
    switch.call("port.delete", name="second")
    v.answered(a.ping(b))
