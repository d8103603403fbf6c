# SPDX-License-Identifier: Apache-2.0
"""Real guests with four queue pairs and two processors, on a switch with two workers.

The guests' kernels spread what they send by flow, the switch what they
receive; "ethtool -L" changes how many pairs are in use while frames flow.
What must not be lost is counted by the guests, as in test_guests.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.daemons import Switch

from . import vms as v
from .test_guests_life import Pinging
from .vms import Vm, Vms

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]
OPTIONS = {"dataplane": {"workers": 2}}
KILLS = True
QUEUES = 4
MQ, RING_RESET = 22, 40


@pytest.fixture(scope="module")
def vms(switch: Switch) -> Iterator[Vms]:
    yield from v.running(switch, cpus=2)


@pytest.fixture(scope="module")
def pair(vms: Vms) -> tuple[Vm, Vm]:
    return vms.add("client", queues=QUEUES), vms.add("server", queues=QUEUES)


def rings(switch: Switch, vm: Vm) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = switch.call("port.show", name=vm.name)["rings"]
    return found


def frames(switch: Switch, vm: Vm) -> list[int]:
    return [ring["frames"] for ring in rings(switch, vm)]


def use(vm: Vm, pairs: int) -> None:
    vm.guest.must(f"ethtool -L eth0 combined {pairs}")


def connections(src: Vm, dst: Vm, count: int = 24) -> None:
    """Many flows: each ping of another size has an address alone, each connection its ports."""
    v.send_file(src, dst, src.ip, 1)
    for _ in range(count // 8):
        dst.guest.must(
            f"for i in 1 2 3 4 5 6 7 8; do {v.fetching(src.ip, 1)} > /tmp/sum.$i & done; wait;"
            " cat /tmp/sum.* | sort -u | wc -l | grep -qx 1"
        )  # fmt: skip


def test_all_pairs_are_set_up_and_used(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    for vm in pair:
        assert MQ in vm.guest.features()
        use(vm, QUEUES)
        assert [r["index"] for r in rings(switch, vm) if r["active"]] == list(range(2 * QUEUES))
    before = frames(switch, a), frames(switch, b)
    v.balanced(switch, a, b, lambda: connections(a, b))
    v.balanced(switch, a, b, lambda: v.talk(a, b), tolerated=set())
    for vm, then in zip(pair, before, strict=True):
        grown = [new - old for old, new in zip(then, frames(switch, vm), strict=True)]
        assert sum(n > 0 for n in grown[0::2]) >= 3, f"{vm.name} received by few rings: {grown}"
        assert sum(n > 0 for n in grown[1::2]) >= 2, f"{vm.name} sent by few rings: {grown}"
    assert (a.checksum_errors(), b.checksum_errors()) == (0, 0)
    assert all(worker["queues"] for worker in switch.call("worker.list")["workers"])


def test_number_of_pairs_changes_under_traffic(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    pinging = Pinging(a, b, 300)
    for pairs in (2, 1, 4, 3, 1, 4):
        for vm in pair:
            use(vm, pairs)
            enabled = [r["enabled"] and r["active"] for r in rings(switch, vm)]
            assert enabled == [i < 2 * pairs for i in range(2 * QUEUES)]
            assert switch.call("port.show", name=vm.name)["port"]["link"] == "up"
        v.send_file(a, b, a.ip, 1)
    v.answered(pinging.result())
    v.exchange_files(a, b)


def test_ring_reset_is_not_offered_unasked(pair: tuple[Vm, Vm]) -> None:
    """A guest must not think it had taken a ring back when nobody has told the switch."""
    a, b = pair
    assert RING_RESET not in a.guest.features()
    assert a.guest.run("ethtool -G eth0 rx 128").rc != 0
    v.talk(a, b)


def test_guest_with_one_pair_talks_to_one_with_four(vms: Vms, pair: tuple[Vm, Vm]) -> None:
    single = vms.add(queues=1)
    assert MQ not in single.guest.features()
    v.talk(single, pair[0])
    v.exchange_files(single, pair[0])
    vms.remove(single)


def test_guest_reboots_to_its_pairs(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    use(a, 3)
    a.guest.reboot()
    switch.wait_link(a.name)
    use(a, QUEUES)
    v.talk(a, b)
    v.exchange_files(a, b)


def test_daemon_killed_under_traffic(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    a, b = pair
    use(a, QUEUES)
    pinging = Pinging(a, b)
    switch.kill_daemon()
    time.sleep(0.5)
    switch.restart_daemon()
    v.answered(pinging.result())
    use(a, 2)
    assert [r["enabled"] for r in rings(switch, a)] == [i < 4 for i in range(2 * QUEUES)]
    use(a, QUEUES)
    v.exchange_files(a, b)


def test_dataplane_killed_under_traffic(switch: Switch, pair: tuple[Vm, Vm]) -> None:
    """All pairs go on behind the same connection; the links never go down."""
    a, b = pair
    changes = a.carrier_changes(), b.carrier_changes()
    pinging = Pinging(a, b)
    switch.kill_dataplane()
    assert pinging.result().received > 0
    for vm in pair:
        switch.wait_link(vm.name)
        assert all(ring["active"] for ring in rings(switch, vm))
    connections(a, b, 8)
    v.talk(a, b)
    assert (a.carrier_changes(), b.carrier_changes()) == changes
