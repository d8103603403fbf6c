# SPDX-License-Identifier: Apache-2.0
"""Two hosts: a port that moves with its guest; and a host whose Nova plugs nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed import unprivileged
from testbed.daemons import Switch
from tests.functional.hosts import RawSocket

from . import neutron_frames as frames
from .neutron_bed import Agent, until
from .neutron_cloud import Cloud, Guest

# The first one starts the cloud, and this module another host.
pytestmark = [pytest.mark.timeout(400), pytest.mark.spare]
Json = dict[str, Any]


@dataclass
class Host:
    switch: Switch
    wire: RawSocket


@pytest.fixture(scope="module")
def host2(running_cloud: Cloud) -> Iterator[Host]:
    """Another host with a switch, an uplink and an agent."""
    cloud = running_cloud
    directory = Path(tempfile.mkdtemp(prefix="uswitch-os2-"))
    unprivileged.own(directory, unprivileged.identity())
    with Switch(directory, within=cloud.bed.within()) as switch:
        cloud.bed.attached("near1", "far1")
        switch.client.uplink_ensure(
            {"name": "up1", "ifname": "near1", "physnet": "physnet1", "ring_size": 256}
        )
        switch.wait_link("up1")
        agent = Agent(cloud.neutron, switch, "host2").start()
        try:
            yield Host(switch, cloud.bed.raw("far1"))
        finally:
            agent.close()
    assert not agent.tracebacks()
    shutil.rmtree(directory)


def shown(switch: Switch, port_id: str) -> Json:
    port: Json = switch.client.port_show(port_id)["port"]
    return port


def inactive_binding(cloud: Cloud, guest: Guest) -> Json:
    """What Nova asks for before it moves a guest."""
    body = {"binding": {"host": "host2", "project_id": "p1"}}
    made: Json = cloud.neutron.call("POST", f"/ports/{guest.id}/bindings", body)["binding"]
    return made


def test_live_migration(cloud: Cloud, host2: Host) -> None:
    network = cloud.network()
    guest, other = cloud.guests(network)
    told = cloud.nova.plugged(guest.id)

    # Nova prepares the destination: a second, inactive binding, and a plug.
    binding = inactive_binding(cloud, guest)
    assert binding["vif_type"] == "vhostuser"
    assert Path(binding["vif_details"]["vhostuser_socket"]).parent == host2.switch.vhost
    there = Guest(host2.switch, cloud.neutron.port(guest.id)).plug(start=False)
    until(lambda: cloud.nova.plugged(guest.id) > told, "Nova is told before the guest moves")
    assert (there.show()["segment"], there.show()["macs"]) == (network, [])
    assert there.show()["guard"] == guest.show()["guard"]
    data = other.say(guest)
    other.send(data)
    assert guest.receive() == data, "its guest is still at the source"

    # It runs there, and Nova has not said so yet.
    there.start()
    hello = frames.arp(there.mac, there.ip, other.ip)
    there.send(hello)
    assert host2.wire.receive(frames.ETH_ARP) == (cloud.vlan(network), hello)
    there.send(frames.arp(there.mac, "10.9.9.9", other.ip))
    there.send(hello)
    assert host2.wire.receive(frames.ETH_ARP) == (cloud.vlan(network), hello), "guarded"

    # Nova says so.
    cloud.neutron.call("PUT", f"/ports/{guest.id}/bindings/host2/activate")
    until(lambda: there.show()["macs"] == [guest.mac.hex(":")], "at home at the destination")
    assert there.show()["guard"] == guest.show()["guard"]
    until(lambda: guest.show()["segment"] is None, "taken out at the source")
    assert guest.show()["macs"] == []
    cloud.neutron.wait_status(guest.id, "ACTIVE")
    there.unplug()
    until(lambda: len(host2.switch.client.segment_list()) == 0, "nothing is left at host2")


def test_a_migration_that_is_given_up(cloud: Cloud, host2: Host) -> None:
    guest = cloud.guest(cloud.network(), start=False)
    told = cloud.nova.plugged(guest.id)
    inactive_binding(cloud, guest)
    there = Guest(host2.switch, cloud.neutron.port(guest.id)).plug(start=False)
    until(lambda: cloud.nova.plugged(guest.id) > told, "Nova is told")
    cloud.neutron.call("DELETE", f"/ports/{guest.id}/bindings/host2")
    there.unplug()
    assert guest.show()["segment"] == guest.network
    assert cloud.neutron.status(guest.id) == "ACTIVE"


# ---- nova_plug = noop ----


@pytest.fixture
def noop(cloud: Cloud) -> Iterator[Cloud]:
    cloud.neutron.nova_plug("noop")
    yield cloud
    cloud.neutron.nova_plug("vrouter")


def there_is(cloud: Cloud, port_id: str) -> bool:
    return port_id in {port["name"] for port in cloud.switch.client.port_list()}


def test_the_agent_plugs_what_nobody_else_does(noop: Cloud) -> None:
    network = noop.network()
    guest = noop.unwired(network, host="")
    assert not there_is(noop, guest.id)
    noop.neutron.change("port", guest.id, binding__host_id="host1")
    until(lambda: there_is(noop, guest.id), "the agent has made it")
    noop.wait_active(guest)
    assert guest.show()["external_ids"]["owner"] == "neutron-agent"
    guest.start()
    guest.send(frames.arp(guest.mac, guest.ip, "10.0.0.250"))
    noop.neutron.delete("port", guest.id)
    until(lambda: not there_is(noop, guest.id), "and deleted it")


def test_what_nobody_plugged_while_no_agent_was_there(noop: Cloud) -> None:
    network = noop.network()
    old = noop.unwired(network, host="")
    noop.neutron.change("port", old.id, binding__host_id="host1")
    until(lambda: there_is(noop, old.id), "the agent has made it")
    noop.agent.kill()
    new = noop.unwired(network)
    noop.neutron.delete("port", old.id)
    noop.agent.start()
    until(lambda: there_is(noop, new.id), "made")
    until(lambda: not there_is(noop, old.id), "deleted")
    noop.wait_active(new)
    # Neutron announces no port that is bound no more: seen when all are asked for.
    noop.neutron.change("port", new.id, binding__host_id="")
    with noop.broker_away():
        pass
    until(lambda: not there_is(noop, new.id), "deleted")
