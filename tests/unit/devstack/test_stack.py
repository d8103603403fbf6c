# SPDX-License-Identifier: Apache-2.0
"""stack.sh with the two lines of the documentation: what is configured, made and started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.devstack.bed import TOP, Cloud
from vif_uswitch import conf

WIRE = "uplink:wire"


def position(cloud: Cloud, *words: str) -> int:
    """Of the first call that begins so."""
    return next(number for number, call in enumerate(cloud.calls)
                if tuple(call[:len(words)]) == words)


def test_services(stacked: Cloud) -> None:
    assert stacked.services() >= {"q-svc", "q-agt", "q-dhcp", "q-l3", "q-meta", "uswitchd", "n-cpu"}
    assert not [name for name in stacked.services() if "ovn" in name or name.startswith("ovs")]


def test_ml2(stacked: Cloud) -> None:
    ml2 = stacked.ini("neutron/plugins/ml2/ml2_conf.ini")
    assert ml2["ml2"] == {
        "mechanism_drivers": "uswitch", "type_drivers": "flat,vlan,local",
        "project_network_types": "vlan", "extension_drivers": "port_security",
    }
    assert ml2["ml2_type_vlan"] == {"network_vlan_ranges": "public:1000:1999"}
    assert "public" in ml2["ml2_type_flat"]["flat_networks"]
    assert ml2["uswitch"] == {"control_socket": f"{stacked.root}/run/uswitch/control.sock"}
    assert ml2["securitygroup"]["firewall_driver"] == "noop"
    assert "ml2_uswitch" not in ml2


def test_dhcp_and_router(stacked: Cloud) -> None:
    for name in ("dhcp_agent.ini", "l3_agent.ini"):
        assert stacked.ini(f"neutron/{name}")["DEFAULT"]["interface_driver"] == "uswitch"
    assert stacked.ini("neutron/dhcp_agent.ini")["DEFAULT"]["enable_isolated_metadata"] == "True"


def test_guests_have_memory_that_others_can_map(stacked: Cloud) -> None:
    nova = stacked.ini("nova/nova-cpu.conf")
    megabytes = int(nova["libvirt"]["file_backed_memory"])
    assert megabytes > 0
    assert nova["DEFAULT"]["ram_allocation_ratio"] == "1.0"
    assert nova["DEFAULT"]["reserved_host_memory_mb"] == "0"
    assert stacked.host["mounts"] == [{
        "source": "uswitch-guests", "target": f"{stacked.root}/var/lib/libvirt/qemu/ram",
        "options": f"size={megabytes}M,mode=0755", "type": "tmpfs",
    }]  # fmt: skip


def test_nova_keeps_what_others_wrote(stacked: Cloud) -> None:
    """The file is being written in the background until post-config."""
    nova = stacked.ini("nova/nova.conf")
    assert nova["neutron"] == {"region_name": "RegionOne"}
    assert nova["os_vif_uswitch"]["control_socket"] == f"{stacked.root}/run/uswitch/control.sock"
    assert nova["filter_scheduler"]["enabled_filters"] == "ComputeFilter,ImagePropertiesFilter"


def test_uswitchd_takes_its_configuration(stacked: Cloud) -> None:
    """Read by uswitchd's own parser, which refuses what it does not know."""
    loaded = conf.load(["--config-file", str(stacked.path("uswitch/uswitchd.conf"))], "0")
    assert loaded.run_dir == f"{stacked.root}/run/uswitch"
    assert loaded.state_dir == f"{stacked.root}/var/lib/uswitch"
    assert loaded.control_group == "uswitch-control" and loaded.vhost_socket_group == "kvm"
    assert conf.static_uplinks(loaded) == ["wire"]
    uplink = loaded[WIRE]
    assert (uplink.ifname, uplink.physnet, uplink.pci) == ("usw-wire", "public", "")


def test_users_and_groups(stacked: Cloud) -> None:
    host = stacked.host
    assert "uswitch" in host["users"]
    # Agents and Nova at the control socket, uswitchd at the sockets of QEMU.
    assert host["groups"]["uswitch-control"]["members"] == ["stack", "uswitch"]
    assert host["groups"]["kvm"]["members"] == ["uswitch"]
    for name, mode in (("run/uswitch", 0o755), ("var/lib/uswitch", 0o700)):
        directory = stacked.root / name
        assert directory.stat().st_mode & 0o7777 == mode
        assert host["owners"][str(directory)] == {"-o": "uswitch", "-g": "uswitch"}


def test_what_runs_as_whom(stacked: Cloud) -> None:
    etc, venv = stacked.root / "etc", stacked.venv
    switch = stacked.process("uswitchd")
    assert switch["user"] == "uswitch"
    assert switch["command"] == f"{venv}/uswitchd --config-file {etc}/uswitch/uswitchd.conf"
    agent = stacked.process("q-agt")
    assert agent["user"] == "stack"
    assert agent["command"] == (
        f"{venv}/neutron-uswitch-agent --config-file {etc}/neutron/neutron.conf"
        f" --config-file {etc}/neutron/plugins/ml2/ml2_conf.ini"
    )


def test_order(stacked: Cloud) -> None:
    steps = [position(stacked, *words) for words in (
        ("install_bindep", f"{TOP}/bindep.txt", "build"),
        ("setup_develop", str(TOP)),
        ("useradd",),
        ("uswitch-xdp", "attach"),
        ("systemctl", "enable", "--now", "devstack@uswitchd.service"),
        ("uswitchctl",),
        ("systemctl", "enable", "--now", "devstack@q-agt.service"),
        ("openstack",),
    )]
    assert steps == sorted(steps)


def test_units(stacked: Cloud) -> None:
    units = stacked.root / "etc/systemd/system"
    service = (units / "uswitch-xdp@.service").read_text(encoding="utf-8")
    assert f"ExecStart={stacked.venv}/uswitch-xdp serve" in service.splitlines()
    assert "/opt/uswitch" not in service
    assert stacked.host["units"]["uswitch-xdp.socket"] == "active"
    extra = (units / "devstack@uswitchd.service.d/uswitch.conf").read_text(encoding="utf-8")
    assert extra == "[Service]\nType=notify\nLimitMEMLOCK=infinity\n"


def test_cable_to_this_host(stacked: Cloud) -> None:
    host = stacked.host
    assert host["attached"] == ["usw-wire"]
    assert host["links"]["usw-host"] == {
        "kind": "veth", "peer": "usw-wire", "up": True,
        "addresses": ["172.24.4.1/24", "2001:db8::2/64"],
    }  # fmt: skip
    assert host["links"]["usw-wire"]["up"]
    assert host["routes"] == ["fd12:3456:789a::/56 via 2001:db8::1 dev usw-host"]
    assert ["-K", "usw-host", "tx", "off"] in stacked.calls_of("ethtool")


def test_again_changes_nothing(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.stack()
    first = cloud.snapshot()
    cloud.stack()
    assert cloud.snapshot() == first


@pytest.mark.spare
def test_with_nounset(tmp_path: Path) -> None:
    """devstack can run with unset variables as errors."""
    cloud = Cloud(tmp_path, nounset=True)
    cloud.stack()
    cloud.unstack()
    assert "unbound variable" not in cloud.clean()
