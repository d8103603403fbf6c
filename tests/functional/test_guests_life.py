# SPDX-License-Identifier: Apache-2.0
"""What guests do to the switch by rebooting and dying, and what it does to them.

Real guests again (test_guests.py).  A guest that goes away costs nobody else
anything and finds its port as it was; a daemon or dataplane that is killed
costs packets at most, never the link (design law 6): the guest's kernel
counts carrier changes, and that counter must stand still.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from testbed.daemons import Switch
from testbed.traffic import Ping, ping_command, with_late_answers

from . import vms as v
from .vms import Vm, Vms

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]
KILLS = True
PACKED = 34


@pytest.fixture(scope="module")
def vms(switch: Switch) -> Iterator[Vms]:
    yield from v.running(switch)


@pytest.fixture(scope="module", params=["split", "packed"])
def pair(vms: Vms, request: pytest.FixtureRequest) -> Iterator[tuple[Vm, Vm]]:
    """With either layout of rings: where a killed dataplane stopped shows differently in each."""
    options = ("packed=on",) if request.param == "packed" else ()
    both = vms.add("client", options=options), vms.add("server", options=options)
    for vm in both:
        assert (PACKED in vm.guest.features()) == bool(options)
    yield both
    for vm in both:
        vms.remove(vm)


class Pinging:
    """A ping in the background, every 20 ms, with a generous end."""

    INTERVAL = 0.02

    def __init__(self, src: Vm, dst: Vm, count: int = 200) -> None:
        self.src = src
        src.guest.spawn(ping_command(dst.ip, count, self.INTERVAL), "pinging")
        time.sleep(0.5)

    def result(self) -> Ping:
        return with_late_answers(self.src.guest, self.src.guest.collect("pinging").output)


def test_memory_is_plugged_while_frames_flow(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """A second memory backend: the new table is taken over without a lost frame."""
    a, b = pair
    before = switch.call("port.show", name=b.name)
    pinging = Pinging(a, b)
    b.guest.add_memory("256M")
    v.answered(pinging.result())
    after = switch.call("port.show", name=b.name)
    assert after["memory_regions"] > before["memory_regions"]
    assert after["memory_bytes"] == before["memory_bytes"] + (256 << 20)
    # It lies above 4 GiB, which the kernel prefers for whatever it allocates from now on.
    before = _free_in_new_memory(b)
    v.exchange_files(a, b)
    assert _free_in_new_memory(b) < before


def test_memory_is_unplugged_while_frames_flow(
    switch: Switch, vms: Vms, pair: tuple[Vm, Vm]
) -> None:
    vm, other = vms.add(), pair[0]
    before = switch.call("port.show", name=vm.name)
    for _ in range(2):
        pinging = Pinging(other, vm, 300)
        vm.guest.add_memory("256M", "movable")
        grown = switch.call("port.show", name=vm.name)
        assert grown["memory_bytes"] == before["memory_bytes"] + (256 << 20)
        vm.guest.remove_memory()
        v.answered(pinging.result())
        after = switch.call("port.show", name=vm.name)
        assert (after["memory_regions"], after["memory_bytes"]) == (
            before["memory_regions"], before["memory_bytes"]
        )  # fmt: skip
    v.exchange_files(other, vm)
    vms.remove(vm)


def test_driver_unloaded_and_loaded(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    for vm, other in (pair, pair[::-1]):
        vm.guest.unload_driver()
        assert switch.call("port.show", name=vm.name)["port"]["link"] != "up"
        vm.guest.load_driver(vm.network)
        switch.wait_link(vm.name)
        v.talk(vm, other)


def test_guest_reboots(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """One by its own kernel, one by the reset button."""
    a, b = pair
    a.guest.reboot()
    switch.wait_link(a.name)
    v.talk(a, b)
    b.guest.reset()
    switch.wait_link(b.name)
    v.talk(a, b)
    v.exchange_files(a, b)


def test_qemu_killed_and_started_again(switch: Switch, vms: Vms, pair: tuple[Vm, Vm]) -> None:
    """On the same socket, in both directions; frames for a guest that is gone are counted."""
    for vm, other in (pair, pair[::-1]):
        other.guest.must(f"ip neigh replace {vm.ip} lladdr {vm.mac} dev eth0 nud permanent")
        vm.guest.kill()
        switch.wait_link(vm.name, "waiting")
        assert not other.reaches(vm.ip)
        assert v.drops(switch, vm.name)["link_down"] >= 3
        vms.restart(vm)
        other.guest.must(f"ip neigh del {vm.ip} dev eth0")
        v.talk(vm, other)


def test_daemon_killed_under_ping(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    changes = a.carrier_changes(), b.carrier_changes()
    dataplane = switch.dataplane_pid
    pinging = Pinging(a, b)
    switch.kill_daemon()
    time.sleep(1)
    switch.restart_daemon()
    v.answered(pinging.result())
    assert switch.dataplane_pid == dataplane
    assert (a.carrier_changes(), b.carrier_changes()) == changes
    v.talk(a, b)


def test_dataplane_killed_under_ping(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """Some packets may be lost, for the instant until the next dataplane is there."""
    a, b = pair
    changes = a.carrier_changes(), b.carrier_changes()
    pinging = Pinging(a, b)
    old = switch.kill_dataplane()
    ping = pinging.result()
    print(f"dataplane killed: {ping.lost} of {ping.sent} pings lost, one each {Pinging.INTERVAL} s")
    assert ping.received > 0
    assert ping.duplicates <= 64, "no more than the burst under way may be sent twice"
    assert switch.dataplane_pid != old
    for vm in pair:
        assert switch.wait_link(vm.name, timeout=1)["sessions"] >= 1
    assert (a.carrier_changes(), b.carrier_changes()) == changes
    v.talk(a, b)


def test_dataplane_killed_under_tcp(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """The stream goes on, and not a byte of it changes."""
    a, b = pair
    wanted = v.offer_file(a, 32)
    b.guest.spawn(v.fetching(a.ip, 32), "fetch")
    for _ in range(3):
        time.sleep(0.2)
        switch.wait_replaced(switch.kill_dataplane())
    assert b.guest.run("test -e /tmp/fetch.rc").rc, "it ended too soon to prove anything"
    assert b.guest.collect("fetch", 240).output == wanted
    assert (a.checksum_errors(), b.checksum_errors()) == (0, 0)


def test_both_killed(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """Nothing is left but what QEMU knows: it connects again, or is connected to."""
    a, b = pair
    switch.kill_daemon()
    switch.kill_dataplane()
    switch.restart_daemon()
    for vm in pair:
        switch.wait_link(vm.name)
        if PACKED in vm.guest.features():
            # Where a packed ring was QEMU does not know, and its memory does not tell.
            vm.guest.unload_driver()
            vm.guest.load_driver(vm.network)
            switch.wait_link(vm.name)
    v.talk(a, b)
    v.exchange_files(a, b)


def _free_in_new_memory(vm: Vm) -> int:
    """Free pages of the zone Normal, which has nothing but what was plugged."""
    return int(vm.guest.must("awk '/zone +Normal/ {n=1} n && /pages free/ {print $3}' "
                             "/proc/zoneinfo").split()[0])  # fmt: skip
