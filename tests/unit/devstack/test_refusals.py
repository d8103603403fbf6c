# SPDX-License-Identifier: Apache-2.0
"""stack.sh ends at once, before it has changed anything, with a text that says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.devstack.bed import Cloud, Failed


def refused(cloud: Cloud, **environment: str) -> str:
    """The message."""
    with pytest.raises(Failed) as failed:
        cloud.stack(**environment)
    (message,) = re.findall(r"^\[ERROR\] line \d+: (.*)$", str(failed.value), re.MULTILINE)
    assert message.startswith("vif-uswitch: ")
    return str(message)


@pytest.mark.parametrize(("said", "message"), [
    ("Q_AGENT=openvswitch", "Q_AGENT is 'openvswitch'. Say Q_AGENT=uswitch"),
    ("Q_ML2_PLUGIN_MECHANISM_DRIVERS=ovn", "'ovn'. Add uswitch to it"),
    ("Q_ML2_TENANT_NETWORK_TYPE=geneve", "'geneve': the switch has no tunnels. Say vlan"),
    ("Q_ML2_TENANT_NETWORK_TYPE=vlan,vxlan", "'vlan,vxlan'"),
    ("USWITCH_GUEST_MEMORY=memfd", "'memfd': say auto, file, hugepages or none"),
    ("USWITCH_GUEST_MEMORY_MB=2G", "'2G': say a number of MiB"),
    ("USWITCH_GUEST_MEMORY_MB=0", "'0': say a number of MiB"),
    ("USWITCH_UPLINK=00:5.0", "'00:5.0', which is no PCI address"),
    ("USWITCH_UPLINK='eth1;reboot'", "'eth1;reboot': say an interface"),
    ("USWITCH_UPLINK=a-name-too-long-for-it", "say an interface"),
])  # fmt: skip
def test_settings(tmp_path: Path, said: str, message: str) -> None:
    cloud = Cloud(tmp_path, said + "\n")
    before = cloud.snapshot()
    assert message in refused(cloud)
    assert cloud.snapshot() == before
    assert not cloud.calls_of("install_bindep")


def test_an_agent_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "Q_AGENT=openvswitch\n")
    refused(cloud)
    cloud.unstack()
    cloud.clean()
    assert cloud.host["users"].keys() == {"root", "stack"}


def test_other_distributions(tmp_path: Path) -> None:
    assert "for Debian and Ubuntu only" in refused(Cloud(tmp_path), SHIM_DISTRO="fedora")


def test_no_af_xdp(tmp_path: Path) -> None:
    message = refused(Cloud(tmp_path), SHIM_NO_AF_XDP="1")
    assert "no AF_XDP (CONFIG_XDP_SOCKETS)" in message and "the PCI address" in message


def test_no_af_xdp_is_no_matter_for_an_adapter(tmp_path: Path) -> None:
    Cloud(tmp_path, "USWITCH_UPLINK=05:00.0\n").stack(SHIM_NO_AF_XDP="1")


def test_no_hugepages(tmp_path: Path) -> None:
    assert "has none" in refused(Cloud(tmp_path, "USWITCH_GUEST_MEMORY=hugepages\n"))


def test_no_such_interface(tmp_path: Path) -> None:
    assert "there is no such interface" in refused(Cloud(tmp_path, "USWITCH_UPLINK=eth9\n"))


def test_an_interface_that_the_host_needs(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "PUBLIC_INTERFACE=eth0\n")
    state = cloud.host
    state["links"]["eth0"] = {"kind": "", "up": True, "addresses": ["192.0.2.7/24"]}
    cloud.host = state
    assert "the interface eth0 (USWITCH_UPLINK) cannot be given to the switch" in refused(cloud)


@pytest.mark.parametrize(("group", "program"), [
    ("os_vif", "nova-compute"), ("neutron.ml2.mechanism_drivers", "neutron-rpc-server"),
    ("neutron.interface_drivers", "neutron-dhcp-agent"),
])
def test_installed_where_openstack_does_not_look(tmp_path: Path, group: str, program: str) -> None:
    message = refused(Cloud(tmp_path), SHIM_UNSEEN=group)
    assert program in message and "in another environment" in message


def test_a_closed_home_directory(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    (cloud.venv / "uswitchd").unlink()
    Cloud.write_program(cloud.venv / "uswitchd", "exit 126")
    assert "open to everybody (chmod o+x)" in refused(cloud)


def test_a_switch_that_does_not_answer(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    (cloud.venv / "uswitchctl").unlink()
    Cloud.write_program(cloud.venv / "uswitchctl", "exit 3")
    assert "journalctl -u devstack@uswitchd" in refused(cloud)
