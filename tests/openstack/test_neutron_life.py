# SPDX-License-Identifier: Apache-2.0
"""From plug to delete, and what restarts and kills do to it in between."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.functional.conftest import Stream

from .neutron_bed import COMPARE, until
from .neutron_cloud import Cloud, Guest

pytestmark = pytest.mark.timeout(400)  # the first one starts the cloud
Json = dict[str, Any]


class Traffic(Stream):
    """Numbered frames from one guest to another as long as the block lasts; none may be lost."""

    def __init__(self, src: Guest, dst: Guest) -> None:
        super().__init__(src, dst)  # type: ignore[arg-type]

    def __enter__(self) -> Traffic:
        super().__enter__()
        self.goes_on()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if error[0] is None:
            assert self.arrived == list(range(self.sent))

    def _collect(self, count: int, timeout: float) -> None:
        super()._collect(count, timeout)
        self._stop.wait(0.01)  # leave a processor to those that restart

    def goes_on(self) -> None:
        more = len(self.arrived) + 50
        until(lambda: len(self.arrived) >= more, "frames arrive")


@pytest.fixture
def pair(cloud: Cloud) -> tuple[Guest, Guest]:
    """Two guests on one network that may send anything: the stream is of no known type."""
    a, b = cloud.guests(cloud.network(), port_security_enabled=False)
    return a, b


def wiring(cloud: Cloud) -> Json:
    """All that the agent has set."""
    keys = ("segment", "trunk", "macs", "mtu", "guard", "admin_up", "created_us")
    return {port["name"]: [port[key] for key in keys] for port in cloud.switch.client.port_list()}


# ---- plug, unplug, delete ----


def test_active_as_soon_as_it_is_wired(cloud: Cloud) -> None:
    """Nova starts no guest before it is told; so nothing may wait for the guest."""
    guest = cloud.unwired(cloud.network())
    assert cloud.neutron.status(guest.id) == "DOWN"
    assert cloud.nova.plugged(guest.id) == 0
    guest.plug(start=False)
    cloud.neutron.wait_status(guest.id, "ACTIVE")
    until(lambda: cloud.nova.plugged(guest.id) == 1, "Nova is told")
    assert guest.show()["link"] == "waiting"


def test_delete_leaves_nothing(cloud: Cloud) -> None:
    network = cloud.network()
    a, b = cloud.guests(network)
    assert cloud.rows() == {cloud.vlan(network): network}
    a.unplug()
    cloud.neutron.wait_status(a.id, "DOWN")
    assert cloud.rows() == {cloud.vlan(network): network}, "b is still in it"
    b.unplug()
    until(lambda: not cloud.rows() and not cloud.segments(), "row and segment go")
    assert [port["name"] for port in cloud.switch.client.port_list()] == ["up0"]


@pytest.mark.spare
def test_plugged_again_between_two_looks_of_the_agent(cloud: Cloud) -> None:
    a, b = cloud.guests(cloud.network())
    for _ in range(3):
        a.unplug()
        a.plug()
        until(lambda: a.show()["segment"] == a.network, "it is wired anew")
    data = a.say(b)
    a.send(data)
    assert b.receive() == data


def test_deleted_in_neutron_first(cloud: Cloud) -> None:
    """Its guest still runs: it is taken off the network at once."""
    a, b = cloud.guests(cloud.network())
    cloud.neutron.delete("port", a.id)
    until(lambda: a.show()["segment"] is None, "a is in no network")
    assert a.show()["macs"] == []
    assert b.show()["segment"] == b.network


# ---- restarts ----


@pytest.mark.parametrize("how", [pytest.param("SIGTERM", marks=pytest.mark.spare), "SIGKILL"])
def test_the_agent_is_restarted_under_traffic(
    cloud: Cloud, pair: tuple[Guest, Guest], how: str
) -> None:
    before = wiring(cloud)
    with Traffic(*pair) as traffic:
        if how == "SIGTERM":
            assert cloud.agent.stop() == 0
        else:
            cloud.agent.kill()
        traffic.goes_on()
        cloud.agent.start()
        for guest in pair:
            cloud.neutron.wait_status(guest.id, "ACTIVE")
        traffic.goes_on()
    assert wiring(cloud) == before


@pytest.mark.spare
def test_killed_in_the_middle_and_what_happens_until_the_next_one(cloud: Cloud) -> None:
    """Plugged, unplugged, deleted, changed while no agent is there: the next one finds it all."""
    kept, old = cloud.guests(cloud.network())
    gone = cloud.guest(cloud.network())
    many = [cloud.unwired(kept.network).plug(start=False) for _ in range(4)]
    until(lambda: any(guest.show()["segment"] for guest in many), "it has begun")
    cloud.agent.kill()
    gone.unplug()
    cloud.neutron.delete("port", old.id)
    cloud.neutron.change("port", kept.id, allowed_address_pairs=[{"ip_address": "10.9.9.9"}])
    new = cloud.unwired(kept.network).plug(start=False)
    cloud.agent.start()
    for guest in (*many, new):
        cloud.neutron.wait_status(guest.id, "ACTIVE")
    until(lambda: old.show()["segment"] is None, "the deleted one is taken out")
    ips = {pair["ip"] for pair in kept.show()["guard"]["pairs"]}
    assert "10.9.9.9" in ips
    until(lambda: cloud.segments() == {kept.network}, "the empty network is gone")


@pytest.mark.spare
def test_hangup_is_no_end(cloud: Cloud) -> None:
    """It reads its configuration, and begins again."""
    pid, starts = cloud.agent.pid, cloud.agent.starts()
    cloud.agent.signal(signal.SIGHUP)
    until(lambda: cloud.agent.starts() > starts, "it begins again")
    guest = cloud.guest(cloud.network(), start=False)
    assert guest.show()["segment"] == guest.network
    assert cloud.agent.pid == pid


def test_uswitchd_is_killed_under_traffic(cloud: Cloud, pair: tuple[Guest, Guest]) -> None:
    """Neutron's view does not change; what is asked for meanwhile is done afterwards."""
    a, b = pair
    events = cloud.nova.plugged(a.id)
    with Traffic(a, b) as traffic:
        cloud.switch.kill_daemon()
        until(lambda: "uswitchd does not answer" in cloud.agent.text(), "the agent says so")
        cloud.neutron.change("port", a.id, port_security_enabled=True)
        traffic.goes_on()
        assert cloud.neutron.status(b.id) == "ACTIVE"
        assert cloud.neutron.is_alive("host1")
        cloud.switch.start()
        until(lambda: "uswitchd answers again" in cloud.agent.text(), "the agent says so")
        cloud.neutron.change("port", a.id, port_security_enabled=False)
        until(lambda: cloud.nova.plugged(a.id) > events, "a is wired")
        until(lambda: a.show()["guard"] is None, "as it should be")
    assert cloud.agent.text().count("uswitchd does not answer;") == 1


@pytest.mark.spare
def test_messages_are_lost(cloud: Cloud) -> None:
    """A message bus that was away: what it swallowed is asked for afterwards."""
    a = cloud.guest(cloud.network(), start=False)
    with cloud.broker_away():
        cloud.neutron.change("port", a.id, allowed_address_pairs=[{"ip_address": "10.9.9.9"}])
        cloud.neutron.wait_lost(a.id, "10.9.9.9")
    until(lambda: "10.9.9.9" in str(a.show()["guard"]), "the pair arrives")


@pytest.mark.spare
def test_what_was_lost_is_found_and_nobody_else_is_asked_about(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two heartbeats.  To ask about a port is to change it: BUILD, ACTIVE, its revision.

    An agent that starts on a busy machine has reason to ask about all ports once more, some time
    later: there is a round without.
    """
    lost, rests = cloud.guests(cloud.network())
    monkeypatch.setenv(COMPARE, "3")
    cloud.agent.kill()
    cloud.agent.start()
    try:
        lose(cloud, lost, "10.9.9.1")
        left_alone = [finds_but_one(cloud, lost, rests, f"10.9.9.{last}") for last in (2, 3, 4)]
        assert any(left_alone), "each time the other port was asked about as well"
    finally:
        monkeypatch.undo()
        cloud.agent.kill()
        cloud.agent.start()


def finds_but_one(cloud: Cloud, lost: Guest, rests: Guest, address: str) -> bool:
    """Whether one port's loss is found, and nothing of the other changes."""
    cloud.neutron.wait_status(rests.id, "ACTIVE")
    before = cloud.neutron.port(rests.id)
    lose(cloud, lost, address)
    return cloud.neutron.port(rests.id) == before


def lose(cloud: Cloud, guest: Guest, address: str) -> None:
    """Allow the guest an address, and nobody tells the agent; returns when it has found out."""
    cloud.neutron.mute(True)
    cloud.neutron.change("port", guest.id, allowed_address_pairs=[{"ip_address": address}])
    cloud.neutron.wait_lost(guest.id, address)
    cloud.neutron.mute(False)
    until(lambda: address in str(guest.show()["guard"]), f"{address} is found")
