# SPDX-License-Identifier: Apache-2.0
"""Each ends in a clear message, and in a state that the next attempt repairs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .neutron_bed import TOP, until, write_ini
from .neutron_cloud import Cloud

pytestmark = pytest.mark.timeout(400)  # the first one starts the cloud


def test_duplicate_mac(cloud: Cloud) -> None:
    """Neutron allows none in a network; an operator can make one in the switch."""
    network = cloud.network()
    first = cloud.guest(network, start=False)
    mac = "fa:16:3e:12:34:56"
    cloud.switch.client.port_add({"name": "probe", "segment": network, "macs": [mac]})
    second = cloud.unwired(network, mac_address=mac).plug(start=False)
    until(lambda: f"Port {second.id} cannot be wired" in cloud.agent.text(), "it is said")
    said = [line for line in cloud.agent.text().splitlines() if f"{second.id} cannot be" in line]
    (line,) = said
    assert "ERROR" in line
    assert mac in line
    assert "probe" in line
    cloud.neutron.wait_status(second.id, "DOWN")
    assert second.show()["segment"] is None
    assert cloud.neutron.status(first.id) == "ACTIVE", "nobody else's trouble"
    cloud.switch.client.port_delete("probe")
    cloud.neutron.wait_status(second.id, "ACTIVE")


@pytest.mark.spare
def test_the_same_mac_in_two_networks_is_no_conflict(cloud: Cloud) -> None:
    mac = "fa:16:3e:12:34:57"
    guests = [cloud.guest(cloud.network(), start=False, mac_address=mac) for _ in range(2)]
    assert [guest.show()["macs"] for guest in guests] == [[mac], [mac]]


def test_a_vlan_that_the_operator_uses(cloud: Cloud) -> None:
    cloud.switch.client.uplink_map("up0", 170, "operators", create_segments=True)
    network = cloud.network(
        provider__network_type="vlan", provider__physical_network="physnet1",
        provider__segmentation_id=170,
    )  # fmt: skip
    guest = cloud.unwired(network).plug(start=False)
    words = "VLAN 170 row for segment operators, which is not Neutron's"
    until(lambda: words in cloud.agent.text(), "it is said")
    assert guest.show()["segment"] is None
    cloud.switch.client.uplink_map("up0", 170, None)
    cloud.neutron.wait_status(guest.id, "ACTIVE")
    assert cloud.rows() == {170: network}
    cloud.switch.client.segment_delete("operators")


@pytest.mark.spare
def test_ports_deleted_while_they_are_wired(cloud: Cloud) -> None:
    network = cloud.network()
    stays = cloud.guest(network, start=False)
    for number in range(6):
        guest = cloud.unwired(network).plug(start=False)
        if number % 2:
            cloud.neutron.delete("port", guest.id)
        guest.unplug()
    last = cloud.guest(network, start=False)
    assert {stays.id, last.id, "up0"} == {
        port["name"] for port in cloud.switch.client.port_list()
    }
    assert not cloud.agent.tracebacks()


@pytest.mark.spare
def test_an_agent_that_is_configured_wrongly_says_so_and_ends(tmp_path: Path) -> None:
    config = write_ini(tmp_path / "agent.conf", {
        "DEFAULT": {"transport_url": "fake:/"}, "securitygroup": {"firewall_driver": "openvswitch"},
    })  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from vif_uswitch.ml2.agent import main; main()",
         "--config-file", config],
        cwd=TOP, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "neutron-uswitch-agent: [securitygroup] firewall_driver openvswitch: cannot filter in the"
        " switch. Set it to noop for this agent"
    ) in done.stderr
