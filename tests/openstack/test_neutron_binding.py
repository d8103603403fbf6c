# SPDX-License-Identifier: Apache-2.0
"""Real ML2 with our driver: what a binding says, and what the log says when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from .neutron_bed import AGENT_DOWN_S, Refused, until
from .neutron_cloud import Cloud

pytestmark = pytest.mark.timeout(400)  # the first one starts the cloud
FAILED = "binding_failed"
GOOD = {"vhostuser_socket_dir": "/run/uswitch/vhost", "interface_mappings": {"physnet1": "up0"}}


def test_an_instance_gets_a_socket_and_nova_a_plugin(cloud: Cloud) -> None:
    port = cloud.port(cloud.network())
    assert port["binding:vif_type"] == "vhostuser"
    details = port["binding:vif_details"]
    assert details.pop("bound_drivers") == {"0": "uswitch"}
    assert details == {
        "port_filter": False,
        "connectivity": "l2",
        "vhostuser_socket": str(cloud.switch.vhost / f"{port['id']}.sock"),
        "vhostuser_mode": "server",
        "vhostuser_vrouter_plug": True,
    }
    assert port["status"] == "DOWN"


@pytest.mark.spare
@pytest.mark.parametrize("owner", ["network:dhcp", "network:router_interface"])
def test_neutron_s_own_ports_get_a_tap(cloud: Cloud, owner: str) -> None:
    port = cloud.port(cloud.network(), device_owner=owner)
    assert port["binding:vif_type"] == "tap"
    assert "vhostuser_socket" not in port["binding:vif_details"]


@pytest.mark.spare
def test_flat_and_local_networks(cloud: Cloud) -> None:
    flat = cloud.network(provider__network_type="flat", provider__physical_network="physnet1")
    local = cloud.network(provider__network_type="local")
    assert cloud.port(flat)["binding:vif_type"] == "vhostuser"
    assert cloud.port(local)["binding:vif_type"] == "vhostuser"


def test_unknown_physical_network(cloud: Cloud) -> None:
    network = cloud.network(
        provider__network_type="vlan", provider__physical_network="physnet2",
        provider__segmentation_id=150,
    )  # fmt: skip
    port = cloud.port(network)
    assert port["binding:vif_type"] == FAILED
    text = f"Port {port['id']} cannot be bound on host1: "
    lines = [line for line in cloud.neutron.log.read_text().splitlines() if text in line]
    warnings = [line for line in lines if "WARNING" in line]
    assert len(warnings) == 1, "once for all of ML2's tries"
    words = "physical network physnet2 has no uplink there (the agent reports: physnet1)"
    assert words in warnings[0]


@pytest.mark.spare
def test_vlan_out_of_range_never_becomes_a_network(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="400"):
        cloud.network(
            provider__network_type="vlan", provider__physical_network="physnet1",
            provider__segmentation_id=4095,
        )  # fmt: skip


@pytest.mark.spare
def test_other_kinds_of_vnic_are_left_to_others(cloud: Cloud) -> None:
    port = cloud.port(cloud.network(), binding__vnic_type="direct")
    assert port["binding:vif_type"] == FAILED
    assert not cloud.neutron.logged(f"Port {port['id']} cannot be bound")


def test_a_host_without_an_agent(cloud: Cloud) -> None:
    port = cloud.port(cloud.network(), host="elsewhere")
    assert port["binding:vif_type"] == FAILED
    assert cloud.neutron.logged(f"Port {port['id']} is not bound on elsewhere: no Userspace switch")


@pytest.mark.spare
def test_socket_path_too_long(cloud: Cloud) -> None:
    cloud.neutron.heartbeat("deep", **{**GOOD, "vhostuser_socket_dir": "/" + "d" * 80})
    port = cloud.port(cloud.network(), host="deep")
    assert port["binding:vif_type"] == FAILED
    assert cloud.neutron.logged("has 123 bytes, the kernel takes 107. Make vhost_socket_dir of")


def test_uswitchd_away(cloud: Cloud) -> None:
    cloud.neutron.heartbeat("headless", **GOOD, uswitchd_problem="nobody listens on /x")
    port = cloud.port(cloud.network(), host="headless")
    assert port["binding:vif_type"] == FAILED
    assert cloud.neutron.logged("uswitchd does not answer the agent: nobody listens on /x")


@pytest.mark.spare
def test_a_dead_agent(cloud: Cloud) -> None:
    cloud.neutron.heartbeat("dying", **GOOD)
    network = cloud.network()
    assert cloud.port(network, host="dying")["binding:vif_type"] == "vhostuser"
    until(lambda: not cloud.neutron.is_alive("dying"), "it is dead", AGENT_DOWN_S * 4)
    port = cloud.port(network, host="dying")
    assert port["binding:vif_type"] == FAILED
    assert cloud.neutron.logged(
        f"Port {port['id']} cannot be bound on dying: its Userspace switch agent is dead, last"
    )


def test_what_the_agent_reports(cloud: Cloud) -> None:
    agent = cloud.neutron.agent("host1")
    assert agent is not None
    assert agent["agent_type"] == "Userspace switch agent"
    assert agent["binary"] == "neutron-uswitch-agent"
    found = agent["configurations"]
    assert found["interface_mappings"] == {"physnet1": "up0"}
    assert Path(found["vhostuser_socket_dir"]) == cloud.switch.vhost
    assert found["uswitchd_problem"] == ""
    assert "bridge_mappings" not in found
