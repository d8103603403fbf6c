# SPDX-License-Identifier: Apache-2.0
"""What local.conf says wins over what the plugin would have chosen; other kinds of hosts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.devstack.bed import TOP, Cloud, spare
from vif_uswitch import conf

ML2 = "neutron/plugins/ml2/ml2_conf.ini"


PLACES = {"USWITCH_CONF_DIR", "USWITCH_RUN_DIR", "USWITCH_STATE_DIR"}  # for tests


def test_every_variable_is_documented() -> None:
    settings = (TOP / "devstack/settings").read_text(encoding="utf-8")
    names = set(re.findall(r"^(USWITCH_\w+)=\$\{\1:-", settings, re.MULTILINE)) - PLACES
    page = (TOP / "doc/source/devstack.rst").read_text(encoding="utf-8")
    assert names and not {name for name in names if f"``{name}``" not in page}


def hugepages(cloud: Cloud, count: int) -> None:
    directory = cloud.root / "sys/kernel/mm/hugepages/hugepages-2048kB"
    directory.mkdir()
    (directory / "nr_hugepages").write_text(f"{count}\n", encoding="utf-8")


def test_variables_of_networks(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, """\
Q_ML2_PLUGIN_MECHANISM_DRIVERS=uswitch,logger
Q_ML2_PLUGIN_TYPE_DRIVERS=vlan
PHYSICAL_NETWORK=physnet1
TENANT_VLAN_RANGE=200:299
ENABLE_ISOLATED_METADATA=False
USWITCH_NOVA_PLUG=fp
USWITCH_PHYSICAL_INTERFACE_MAPPINGS=physnet1:wire,physnet2:other
disable_service q-l3
""")
    cloud.stack()
    ml2 = cloud.ini(ML2)
    assert ml2["ml2"]["mechanism_drivers"] == "uswitch,logger"
    assert ml2["ml2"]["type_drivers"] == "vlan"
    assert ml2["ml2_type_vlan"]["network_vlan_ranges"] == "physnet1:200:299"
    # The external network is on the same physical one, where nobody says otherwise.
    assert ml2["ml2_type_flat"]["flat_networks"] == "physnet1,physnet1"
    assert ml2["uswitch"]["physical_interface_mappings"] == "physnet1:wire,physnet2:other"
    assert ml2["ml2_uswitch"] == {"nova_plug": "fp"}
    assert cloud.ini("uswitch/uswitchd.conf")["uplink:wire"]["physnet"] == "physnet1"
    assert cloud.ini("neutron/dhcp_agent.ini")["DEFAULT"]["enable_isolated_metadata"] == "False"
    assert "q-l3" not in cloud.services() and "q-dhcp" in cloud.services()
    # No router here, so nobody to be the gateway of.
    assert cloud.host["links"]["usw-host"]["addresses"] == []


def test_files_of_local_conf(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "USWITCH_GUEST_MEMORY_MB=1024\n", """\
[[post-config|$NOVA_CONF]]
[DEFAULT]
reserved_host_memory_mb = 1
[libvirt]
file_backed_memory = 2048
[[post-config|$USWITCHD_CONF]]
[DEFAULT]
debug = False
[dataplane]
workers = 2
[[post-config|/$Q_PLUGIN_CONF_FILE]]
[uswitch]
control_socket = /elsewhere
""")
    cloud.stack()
    nova = cloud.ini("nova/nova-cpu.conf")
    assert nova["libvirt"]["file_backed_memory"] == "2048"
    assert nova["DEFAULT"]["reserved_host_memory_mb"] == "1"
    assert nova["DEFAULT"]["ram_allocation_ratio"] == "1.0"
    assert cloud.host["mounts"][0]["options"] == "size=1024M,mode=0755"
    assert cloud.ini(ML2)["uswitch"]["control_socket"] == "/elsewhere"
    # In the file before uswitchd was started.
    switch = cloud.ini("uswitch/uswitchd.conf")
    assert switch["DEFAULT"]["debug"] == "False" and switch["dataplane"]["workers"] == "2"


@pytest.mark.parametrize("said", ["", "USWITCH_GUEST_MEMORY=hugepages\n"])
def test_hugepages(tmp_path: Path, said: str) -> None:
    cloud = Cloud(tmp_path, said)
    hugepages(cloud, 512)
    state = cloud.host
    state["flavors"] = {"1": "", "2": "hw:mem_page_size='small'"}
    cloud.host = state
    cloud.stack()
    nova = cloud.ini("nova/nova-cpu.conf")
    assert "libvirt" not in nova and "ram_allocation_ratio" not in nova["DEFAULT"]
    assert nova["filter_scheduler"]["enabled_filters"].endswith(",NUMATopologyFilter")
    assert cloud.host["mounts"] == []
    # Stock flavors work; one that has an opinion keeps it.
    assert cloud.host["flavors"] == {"1": " hw:mem_page_size=large",
                                     "2": "hw:mem_page_size='small'"}  # fmt: skip


@pytest.mark.spare
def test_files_although_there_are_hugepages(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "USWITCH_GUEST_MEMORY=file\n")
    hugepages(cloud, 16)
    cloud.stack()
    assert "file_backed_memory" in cloud.ini("nova/nova.conf")["libvirt"]
    assert len(cloud.host["mounts"]) == 1


@pytest.mark.spare
def test_memory_is_somebody_elses_business(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "USWITCH_GUEST_MEMORY=none\n")
    cloud.stack()
    assert "libvirt" not in cloud.ini("nova/nova.conf") and cloud.host["mounts"] == []


def test_qemu_conf_is_obeyed(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    (cloud.root / "etc/libvirt/qemu.conf").write_text(
        '#group = "nobody"\nuser = "libvirt-qemu"\ngroup = "libvirt"  # not kvm\n'
        'memory_backing_dir = "/dev/shm/guests"\n', encoding="utf-8")
    cloud.stack()
    assert cloud.ini("uswitch/uswitchd.conf")["DEFAULT"]["vhost_socket_group"] == "libvirt"
    assert "uswitch" in cloud.host["groups"]["libvirt"]["members"]
    assert cloud.host["mounts"] == []
    assert "file_backed_memory" in cloud.ini("nova/nova.conf")["libvirt"]


@pytest.mark.spare
def test_qemu_of_root_needs_no_group(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    (cloud.root / "etc/libvirt/qemu.conf").write_text('group = "+0"\n', encoding="utf-8")
    cloud.stack()
    assert cloud.ini("uswitch/uswitchd.conf")["DEFAULT"]["vhost_socket_group"] == "uswitch"
    assert cloud.host["groups"]["root"]["members"] == []


def uplink(cloud: Cloud) -> dict[str, str]:
    """What uswitchd reads of it."""
    loaded = conf.load(["--config-file", str(cloud.path("uswitch/uswitchd.conf"))], "0")
    section = loaded["uplink:wire"]
    return {name: getattr(section, name) for name in ("ifname", "pci", "physnet")}


@pytest.mark.parametrize("variable", ["PUBLIC_INTERFACE", spare("USWITCH_UPLINK")])
def test_an_interface(tmp_path: Path, variable: str) -> None:
    cloud = Cloud(tmp_path, f"{variable}=eth1\n")
    state = cloud.host
    state["links"]["eth1"] = {"kind": "", "up": False, "addresses": []}
    cloud.host = state
    cloud.stack()
    assert uplink(cloud) == {"ifname": "eth1", "pci": "", "physnet": "public"}
    assert cloud.host["attached"] == ["eth1"] and cloud.host["links"]["eth1"]["up"]
    assert "usw-host" not in cloud.host["links"]
    # lib/neutron must not look for a bridge to put it into.
    assert cloud.variable("PUBLIC_INTERFACE") == ""


@pytest.mark.parametrize("written", ["05:00.0", spare("0000:05:00.0")])
def test_an_adapter(tmp_path: Path, written: str) -> None:
    cloud = Cloud(tmp_path, f"USWITCH_UPLINK={written}\n")
    cloud.stack()
    assert uplink(cloud) == {"ifname": "", "pci": "0000:05:00.0", "physnet": "public"}
    assert cloud.host["bound"] == ["0000:05:00.0"]
    assert (cloud.root / "etc/udev/rules.d/60-uswitch-vfio.rules").exists()


@pytest.mark.spare
def test_no_uplink(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "USWITCH_UPLINK=none\n")
    cloud.stack()
    assert "uplink:wire" not in cloud.ini("uswitch/uswitchd.conf")
    assert cloud.host["links"] == {} and cloud.host["attached"] == []


def test_external_network_without_gateways(tmp_path: Path) -> None:
    """No address, no route, and no end of stack.sh."""
    cloud = Cloud(tmp_path)
    cloud.host = cloud.host | {"gateways": {"public-subnet": "None", "ipv6-public-subnet": ""}}
    cloud.stack()
    assert cloud.host["links"]["usw-host"]["addresses"] == [] and cloud.host["routes"] == []


def test_compute_node(tmp_path: Path) -> None:
    """ENABLED_SERVICES as for OVN; the counterparts of what was there, and no more."""
    cloud = Cloud(tmp_path, "ENABLED_SERVICES=n-cpu,placement-client,ovn-controller,ovs-vswitchd,"
                            "ovsdb-server,q-ovn-agent\n")
    cloud.stack()
    assert cloud.services() == {"n-cpu", "placement-client", "q-agt", "uswitchd"}
    assert "file_backed_memory" in cloud.ini("nova/nova.conf")["libvirt"]
    assert cloud.host["links"]["usw-host"]["addresses"] == []


def test_controller_without_an_agent(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "ENABLED_SERVICES=n-api,n-sch,q-svc,rabbit,mysql\n")
    cloud.stack()
    assert cloud.services() == {"n-api", "n-sch", "q-svc", "rabbit", "mysql"}
    assert cloud.calls_of("setup_develop")
    assert cloud.ini(ML2)["ml2"]["mechanism_drivers"] == "uswitch"
    # Nothing of the switch itself.
    assert "uswitch" not in cloud.host["users"] and not cloud.path("uswitch").exists()
    assert "file_backed_memory" not in cloud.ini("nova/nova.conf").get("libvirt", {})
