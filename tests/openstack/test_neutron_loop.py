# SPDX-License-Identifier: Apache-2.0
"""Our loop on Neutron's base class, pass by pass: neutron-server and the switch are played.

What no running cloud can be made to do at the right moment.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from tests.unit.ml2 import switch_fake as fake
from tests.unit.ml2.switch_fake import NET, PORT, PORT2, FakeControl, details, listed, port, uplink
from vif_uswitch.exceptions import ResourceExhausted
from vif_uswitch.ml2.binding import SWITCH_PROBLEM
from vif_uswitch.ml2.compat import common_config
from vif_uswitch.ml2.loop import UswitchAgentLoop
from vif_uswitch.ml2.manager import UswitchManager
from vif_uswitch.ml2.plugger import RETRY_PASSES
from vif_uswitch.ml2.switch import Switch
from vif_uswitch.ml2.unnoticed import COMPARE_PASSES
from vif_uswitch.ml2.wirer import Wirer

Json = dict[str, Any]
FULL = ResourceExhausted("state", None, "no space left on device")


class Server:
    """neutron-server: what it answers, and what it is told."""

    def __init__(self) -> None:
        self.ports: dict[str, Json] = {}  # details by device
        self.failing: set[str] = set()
        self.bound: list[Json] = []
        self.reported: dict[str, str] = {}
        self.heartbeats: list[Json] = []
        self.broker_away = False
        self.asked: list[str] = []  # devices, each time
        self.lists = 0

    def _status(self, device: str, status: str) -> None:
        """As neutron-server does it: a status is a change like any other."""
        for one in self.bound:
            if one["id"] == device and one["status"] != status:
                one.update(status=status, revision_number=one["revision_number"] + 1)

    def report_state(self, _context: Any, agent_state: Json, *_: Any) -> None:
        if self.broker_away:
            raise oslo_messaging.MessageDeliveryFailure
        self.heartbeats.append(dict(agent_state["configurations"]))

    def get_devices_details_list_and_failed_devices(
        self, _context: Any, devices: list[str], *_: Any, **__: Any
    ) -> Json:
        self.asked += devices
        for device in devices:
            self._status(device, "BUILD")
        known = [self.ports.get(device, {"device": device}) for device in sorted(devices)
                 if device not in self.failing]  # fmt: skip
        return {"devices": known, "failed_devices": sorted(self.failing & set(devices))}

    def get_ports_by_vnic_type_and_host(self, *_: Any, **__: Any) -> list[Json]:
        self.lists += 1
        return copy.deepcopy(self.bound)

    def get_network_details(self, *_: Any, **__: Any) -> Json:
        told = details()
        of_network = ("network_type", "physical_network", "segmentation_id")
        return {"mtu": told["mtu"], **{f"provider:{key}": told[key] for key in of_network}}

    def update_device_up(self, _context: Any, device: str, *_: Any) -> None:
        self.reported[device] = "up"
        self._status(device, "ACTIVE")

    def update_device_down(self, _context: Any, device: str, *_: Any) -> Json:
        self.reported[device] = "down"
        self._status(device, "DOWN")
        return {}


class News:
    """The agent's callbacks, without their threads."""

    def __init__(self) -> None:
        self.announced: list[Json] = []
        self.marked: set[str] = set()

    def mark(self, ports: set[str]) -> None:
        self.marked |= ports

    def get_and_clear_updated_devices(self) -> set[str]:
        marked, self.marked = self.marked, set()
        return marked

    def take_ports(self) -> tuple[list[Json], set[str]]:
        announced, self.announced = self.announced, []
        return announced, set()

    def add_network(self, *_: Any) -> None: ...


class Idle:
    """A firewall and extensions, none of which does anything."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


class Rig:
    def __init__(self) -> None:
        self.control = FakeControl(port(PORT), uplink("up0", "physnet1"))
        self.clock = fake.Clock()
        self.server, self.news = Server(), News()
        loop = object.__new__(UswitchAgentLoop)  # __init__ connects
        loop.mgr = UswitchManager(Wirer(Switch(self.control, self.clock), {}, self.clock), "host1")
        loop.plugin_rpc, loop.rpc_callbacks, loop.sg_agent = self.server, self.news, Idle()
        loop.network_ports, loop.ext_manager = defaultdict(list), Idle()
        loop.context, loop.agent_id, loop.fullsync, loop.iter_num = None, "agent", False, 0
        loop.state_rpc, loop.agent_state = self.server, {"configurations": {}}
        loop.failed_report_state, loop._reporting = False, threading.Lock()
        self.loop = loop
        self._seen: Json | None = None
        self._sync = True

    def passes(self, count: int = 1) -> None:
        for _ in range(count):
            self._seen, self._sync = self.loop._pass(self._seen, self._sync)
            self.clock.now += 1.0


@pytest.fixture
def rig() -> Iterator[Rig]:
    with contextlib.suppress(cfg.DuplicateOptError):  # Nova, tested before, has a "host" of its own
        common_config.register_common_config_options()
    cfg.CONF.set_override("host", "host1")
    yield Rig()
    cfg.CONF.clear_override("host")


def test_a_port_is_wired_and_reported(rig: Rig) -> None:
    rig.server.ports[PORT] = details()
    rig.passes(2)
    assert rig.control.ports[PORT]["segment"] == NET
    assert rig.server.reported == {PORT: "up"}


def test_one_port_s_trouble_is_not_another_s(rig: Rig) -> None:
    """Whatever it is: nonsense, a refusal that lasts, an answer that neutron-server has not."""
    other = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
    rig.control.ports[PORT2] = port(PORT2)
    rig.control.ports[other] = port(other)
    rig.server.ports = {
        PORT: {"device": PORT, "port_id": PORT}, PORT2: details(PORT2),
    }  # fmt: skip
    rig.server.failing = {other}
    rig.passes(3)
    assert rig.control.ports[PORT2]["segment"] == NET
    assert rig.server.reported == {PORT2: "up"}
    rig.server.ports[PORT] = details(mac_address="fa:16:3e:00:00:07")
    rig.server.failing = set()
    rig.server.ports[other] = details(other, mac_address="fa:16:3e:00:00:08")
    rig.passes(70)
    assert rig.server.reported == {PORT: "up", PORT2: "up", other: "up"}


def test_a_port_that_is_refused_is_reported_down(rig: Rig) -> None:
    rig.server.ports[PORT] = details(segmentation_id=4095)
    rig.passes()
    assert rig.server.reported == {PORT: "down"}


def test_a_cut_that_is_refused_is_done_later(rig: Rig) -> None:
    rig.server.ports[PORT] = details()
    rig.passes(2)
    rig.control.refuse[PORT] = FULL
    rig.server.ports.clear()
    rig.loop.fullsync = True
    rig.passes(2)
    assert rig.control.ports[PORT]["segment"] == NET
    rig.control.refuse.clear()
    rig.passes(5)
    assert rig.control.ports[PORT]["segment"] is None


def expect(rig: Rig, *devices: str) -> None:
    """Their guests will come from another host."""
    for device in devices:
        rig.control.ports[device] = port(device)
        rig.server.ports[device] = {"device": device, "no_active_binding": True}
        rig.server.bound.append(listed(device, **{"binding:host_id": "host2"}))


def test_ports_that_wait_for_their_guests_are_wired_by_one_list(rig: Rig) -> None:
    rig.passes(2)
    before = rig.server.lists
    expect(rig, PORT, PORT2)
    rig.news.mark({PORT, PORT2})
    rig.passes()
    for device in (PORT, PORT2):
        there = rig.control.ports[device]
        assert (there["segment"], there["macs"]) == (NET, [])
        assert rig.server.reported[device] == "up"
    assert rig.server.lists == before + 1


def test_a_port_that_cannot_be_wired_for_its_guest_is_not_reported(rig: Rig) -> None:
    """So that Nova leaves the guest where it is connected."""
    rig.passes(2)
    rig.server.reported.clear()
    expect(rig, PORT)
    rig.control.refuse[PORT] = FULL
    rig.news.mark({PORT})
    rig.passes()
    assert rig.server.reported == {}
    rig.control.refuse.clear()
    rig.passes(4)
    assert rig.server.reported == {PORT: "up"}


def test_a_port_that_could_not_be_made_is_made_later(rig: Rig) -> None:
    rig.passes(2)
    rig.control.refuse[PORT2] = FULL
    rig.server.bound = [listed(PORT2, "noop")]
    rig.news.announced = [listed(PORT2, "noop")]
    rig.passes(2)
    assert PORT2 not in rig.control.ports
    rig.control.refuse.clear()
    rig.passes(RETRY_PASSES)
    assert PORT2 in rig.control.ports


def test_a_restarted_uswitchd_is_a_reason_to_ask_for_all(rig: Rig) -> None:
    rig.passes(2)
    rig.server.bound = [listed(PORT2, "noop")]  # nobody has told
    rig.passes(3)
    assert PORT2 not in rig.control.ports
    rig.control.pid += 1
    rig.passes()
    assert PORT2 in rig.control.ports


def test_that_uswitchd_is_back_is_reported_at_once(rig: Rig) -> None:
    rig.passes(2)
    assert not rig.server.heartbeats
    rig.control.away = True
    rig.passes(30)
    rig.loop._report_state()
    assert [bool(beat[SWITCH_PROBLEM]) for beat in rig.server.heartbeats] == [True]
    rig.control.away = False
    rig.passes(3)
    assert [bool(beat[SWITCH_PROBLEM]) for beat in rig.server.heartbeats] == [True, False]


def allow(rig: Rig, address: str) -> None:
    """Neutron lets PORT use this address, and nobody tells the agent."""
    pairs = [{"ip_address": address, "mac_address": fake.MAC}]
    rig.server.ports[PORT] = details(allowed_address_pairs=pairs)
    revision = int(address.rpartition(".")[2])
    rig.server.bound = [listed(allowed_address_pairs=pairs, revision_number=revision)]


def allowed(rig: Rig, address: str) -> bool:
    return address in {pair["ip"] for pair in rig.control.ports[PORT]["guard"]["pairs"]}


def test_a_lost_heartbeat_is_a_reason_to_ask_for_all(rig: Rig) -> None:
    allow(rig, "10.9.9.1")
    rig.passes(2)
    rig.server.broker_away = True
    rig.loop._report_state()
    allow(rig, "10.9.9.2")
    rig.passes(2)
    assert not allowed(rig, "10.9.9.2")
    rig.server.broker_away = False
    rig.loop._report_state()
    rig.passes()
    assert allowed(rig, "10.9.9.2")


def test_a_change_of_which_nobody_told_is_found(rig: Rig) -> None:
    """The broker was away between two heartbeats."""
    allow(rig, "10.9.9.1")
    rig.passes(2)
    allow(rig, "10.9.9.2")
    rig.passes(COMPARE_PASSES - 10)
    assert not allowed(rig, "10.9.9.2")
    rig.passes(11)
    assert allowed(rig, "10.9.9.2")
    rig.server.bound = []
    rig.server.ports.clear()  # deleted
    rig.passes(COMPARE_PASSES + 1)
    assert rig.control.ports[PORT]["segment"] is None


def test_a_port_at_rest_is_asked_about_once(rig: Rig) -> None:
    """To ask is to change: BUILD, ACTIVE, and Nova is told again."""
    rig.server.ports[PORT], rig.server.bound = details(), [listed(status="DOWN")]
    rig.passes(3 * COMPARE_PASSES)
    assert rig.server.asked == [PORT]
    assert rig.server.bound[0]["status"] == "ACTIVE"


def test_a_change_that_was_announced_is_asked_about_once(rig: Rig) -> None:
    allow(rig, "10.9.9.1")
    rig.passes(2)
    allow(rig, "10.9.9.2")
    rig.news.mark({PORT})
    rig.passes(3 * COMPARE_PASSES)
    assert allowed(rig, "10.9.9.2") and rig.server.asked == [PORT] * 2


def test_a_wish_of_the_heartbeat_is_not_lost(rig: Rig) -> None:
    """Its thread stores it between the loop's reading and clearing."""
    reads: list[bool] = []

    class Raced(UswitchAgentLoop):
        @property
        def fullsync(self) -> bool:
            value = reads[-1]
            reads.append(True)  # right after the loop has looked
            return value

        @fullsync.setter
        def fullsync(self, value: bool) -> None:
            reads.append(value)

    rig.passes(2)
    reads.append(False)
    rig.loop.__class__ = Raced
    assert not rig.loop._take_fullsync()
    assert reads[-1], "it stands for the next pass"
