# SPDX-License-Identifier: Apache-2.0
"""A guest arrives by live migration: what is announced of it, and when it is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.daemon import vhost_peer as wire
from tests.unit.daemon.fabric_rig import Rig, run
from tests.unit.daemon.vhost.test_session import MODERN, Driver, set_up
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import Announce, EnableRing, Note, StartRing
from vif_uswitch.daemon.vhost.arrival import WAITING_MAX, Arrival
from vif_uswitch.daemon.vhost.session import Session

MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")
PACKED = MODERN | virtio.RING_PACKED
FIRST = 0x8000  # where a packed ring begins
SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_ENABLE = 10, 11, 12, 18


@pytest.fixture
def driver() -> Iterator[Driver]:
    one = Driver()
    one.session.arrival.address = MAC
    yield one
    one.session.close()


def test_once_frames_can_flow(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event, base=9)
    order = [type(a) for a in driver.actions if isinstance(a, StartRing | EnableRing | Announce)]
    assert order == [StartRing, EnableRing, StartRing, EnableRing, Announce]
    assert driver.take(Announce) == [Announce(MAC)]


def test_rings_that_are_enabled_first(driver: Driver, ram: int, event: int) -> None:
    """QEMU's order on the other host."""
    for ring in (0, 1):
        assert driver.send(SET_VRING_ENABLE, wire.vring(ring, 1)) == 0
    set_up(driver, ram, event, base=9)
    assert driver.take(Announce) == [Announce(MAC)]


@pytest.mark.parametrize(("features", "base"), [(MODERN, 0), (PACKED, FIRST)])
def test_a_guest_that_boots_says_so_itself(driver: Driver, ram: int, event: int,
                                           features: int, base: int) -> None:  # fmt: skip
    set_up(driver, ram, event, features, base=base)
    assert driver.running == {0, 1}
    assert driver.take(Announce) == []
    for ring in (0, 1):  # nor is it news that its rings go on
        assert driver.send(GET_VRING_BASE, wire.vring(ring, 0)) is not None
        assert driver.send(SET_VRING_BASE, wire.vring(ring, 77)) == 0
        assert driver.send(SET_VRING_KICK, wire.number(ring), [event]) == 0
    assert driver.running == {0, 1}
    assert driver.take(Announce) == []


def test_a_packed_ring_that_goes_on(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event, PACKED, base=FIRST | 3)
    assert driver.take(Announce) == [Announce(MAC)]


def test_nobody_said_its_address(driver: Driver, ram: int, event: int) -> None:
    driver.session.arrival.address = b""
    set_up(driver, ram, event, base=9)
    assert driver.take(Announce) == []


def test_what_cannot_be_announced_runs_all_the_same(driver: Driver, ram: int, event: int) -> None:
    driver.refuse = {Announce: 11}
    set_up(driver, ram, event, base=9)
    assert driver.running == {0, 1}
    assert "not announced" in str(driver.take(Note))


def test_one_uswitchd_after_another(driver: Driver, ram: int, event: int) -> None:
    """The guest was there before this uswitchd."""
    set_up(driver, ram, event)
    later = Session(virtio.offered(0, 1), 1500)
    later.record = driver.session.record
    for mine, other in zip(later.rings, driver.session.rings, strict=True):
        mine.record = other.record
    later.restored()
    assert later.running and later.arrival.settled


def test_what_waits_is_bounded() -> None:
    arrival = Arrival()
    for number in range(2 * WAITING_MAX):
        arrival.ask(bytes([2, 0, 0, 0, 0, number]))
    assert len(arrival.take()) == WAITING_MAX
    assert arrival.take() == []


def test_the_port_knows_the_address() -> None:
    """From its configuration, and from a later one."""

    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2, address=MAC) as fabric:
            await fabric.ensure_port(rig.config(2, address=OTHER))
            for port_id, mac in ((1, MAC), (2, OTHER)):
                peer, ram = await rig.connect(port_id), wire.ram()
                await wire.set_up(peer, ram, base=9)
                assert rig.fake.ports[port_id].announced == [mac]
                peer.close()

    run(test)
