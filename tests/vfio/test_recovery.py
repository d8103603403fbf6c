# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around an uplink: processes killed, addresses astray, the adapter gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.echo import Pinger
from testbed.vfio_guest import Nested

from .conftest import INSIDE, Joined, Lab, Switch, Uplink, added, joined

TX_BASE_HIGH, RX_BASE_HIGH = 0xE004, 0xC004  # 82576 datasheet, 8.12.9 and 8.10.6: TDBAH, RDBAH
NOWHERE = 0x7000


@pytest.fixture(scope="module")
def uplink(lab: Lab, switch: Switch) -> Iterator[Uplink]:
    with added(lab, switch, lab.cards["igb"]) as one:
        yield one


@pytest.fixture
def both(uplink: Uplink) -> Iterator[Joined]:
    with joined(uplink) as pair:
        pair.ping()
        yield pair


def test_dataplane_killed_under_traffic(host: Nested, uplink: Uplink, both: Joined) -> None:
    """Uplink and hosts come back by themselves; the adapter is stopped before its memory goes."""
    old = uplink.switch.do("processes")["dataplane"]["pid"]
    with Pinger(both.outside, INSIDE) as pings:
        pings.wait_answer()
        uplink.switch.do("kill", what="dataplane")
        uplink.wait("up")
        pings.wait_answer()
    assert uplink.switch.do("processes")["dataplane"]["pid"] != old
    both.ping()
    both.stream(1 << 16)


def test_uswitchd_killed_under_traffic(host: Nested, uplink: Uplink, both: Joined) -> None:
    """Frames do not notice; the next uswitchd takes the adapter over as it is."""
    old = uplink.switch.do("processes")["dataplane"]["pid"]
    with Pinger(both.outside, INSIDE) as pings:
        pings.wait_answer()
        uplink.switch.do("kill", what="daemon")
        assert uplink.switch.do("start_again")["dataplane"]["pid"] == old
    assert pings.answers.lost == 0, pings.answers
    uplink.wait("up")


@pytest.mark.parametrize("register", [TX_BASE_HIGH, RX_BASE_HIGH], ids=["transmit", "receive"])
def test_adapter_goes_astray(host: Nested, uplink: Uplink, both: Joined, register: int) -> None:
    """Somebody makes the adapter use a ring at an address that was never mapped.

    The IOMMU stops it, the switch lives on, and a new start of the uplink heals it.
    """
    before = uplink.switch.do("processes")
    uplink.switch.do("poke", address=uplink.card.address, register=register, value=NOWHERE)
    both.outside.run(["ping", "-c", "3", "-i", "0.2", "-W", "1", INSIDE])
    faults = host.forget_faults()
    assert any(uplink.card.address[5:] in line for line in faults), faults
    assert uplink.switch.do("processes") == before, "a process did not survive"
    uplink.switch.api("uplink.delete", name=uplink.name)
    uplink.switch.api("uplink.ensure", uplink={
        "name": uplink.name, "pci": uplink.card.address, "segment": "red", "mtu": 9000})
    uplink.wait("up")
    both.ping()


def test_adapter_unplugged(lab: Lab, host: Nested, uplink: Uplink, both: Joined, switch: Switch
                           ) -> None:  # fmt: skip
    """The uplink goes with its adapter; the other one does not notice."""
    spare = lab.cards["spare"]
    processes = switch.do("processes")
    with added(lab, switch, spare, segment="green", trunk=[]) as gone:
        host.remove(spare.slot)
        host.qmp.wait_event("DEVICE_DELETED", 90)
        assert gone.show()["port"]["link"] != "up"
        both.ping()
    assert switch.do("processes") == processes, "a process did not survive"
