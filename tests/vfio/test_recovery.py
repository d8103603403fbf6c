# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around an uplink: processes killed, addresses astray, the adapter gone."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

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
    with Pings(both) as pings:
        uplink.switch.do("kill", what="dataplane")
        uplink.wait("up")
        both.ping()
    assert uplink.switch.do("processes")["dataplane"]["pid"] != old
    assert pings.lost > 0, "nothing was under way"
    both.stream(1 << 16)


def test_uswitchd_killed_under_traffic(host: Nested, uplink: Uplink, both: Joined) -> None:
    """Frames do not notice; the next uswitchd takes the adapter over as it is."""
    old = uplink.switch.do("processes")["dataplane"]["pid"]
    with Pings(both) as pings:
        uplink.switch.do("kill", what="daemon")
        assert uplink.switch.do("start_again")["dataplane"]["pid"] == old
    assert pings.lost == 0
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


class Pings:
    """A ping every 50 ms from the wire while the context lasts; then: how many had no answer."""

    def __init__(self, both: Joined) -> None:
        self._both = both
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=1)
        self.lost = 0

    def __enter__(self) -> Pings:
        self._future = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.lost = self._future.result(60)
        self._pool.shutdown()

    def _run(self) -> int:
        lost = 0
        command = ["ping", "-q", "-c", "20", "-i", "0.05", "-W", "2", INSIDE]
        while not self._stop.is_set():
            said = self._both.outside.run(command).output
            sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) rec", said)[0])
            lost += sent - received
        return lost
