# SPDX-License-Identifier: Apache-2.0
"""What may not be taken: each refusal with all of its text, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.uplink.fake_host import NIC, SECOND, FakeHost
from vif_uswitch.uplink import main as helper
from vif_uswitch.uplink.adapter import read_device
from vif_uswitch.uplink.checks import answer, read_network, refusals
from vif_uswitch.uplink.host import Refused

SATA = 0x010601
BRIDGE = 0x060400
AF_XDP = "Leave it to the kernel and use AF_XDP (uswitchctl uplink add --ifname)."


def default_v4(host: FakeHost) -> None:
    host.ip["-4"] = [{"dst": "default", "gateway": "192.0.2.1", "dev": "eth1"}]


def default_v6(host: FakeHost) -> None:
    host.ip["-6"] = [{"dst": "2001:db8::/64", "dev": "eth1"},
                     {"dst": "default", "nexthops": [{"dev": "eth9"}, {"dev": "eth1"}]}]


def default_through_a_bridge(host: FakeHost) -> None:
    host.upper("eth1", "bond0")
    host.upper("bond0", "br0")
    host.ip["-4"] = [{"dst": "default", "dev": "br0"}]


def address_v6(host: FakeHost) -> None:
    host.give_address("eth1", "fe80::1", 64, "link")
    host.give_address("eth1", "2001:db8::5", 64)


def member(host: FakeHost) -> None:
    host.upper("eth1", "br0")


def elsewhere(host: FakeHost) -> None:
    host.path(f"/sys/bus/pci/devices/{NIC}/net/eth1").rmdir()


def functions(host: FakeHost) -> None:
    host.put(f"/sys/bus/pci/devices/{NIC}/sriov_numvfs", "2\n")


def virtual(host: FakeHost) -> None:
    host.symlink(f"/sys/bus/pci/devices/{NIC}/physfn", f"../{SECOND}")


def unknown(host: FakeHost) -> None:
    host.put(f"/sys/bus/pci/devices/{NIC}/device", "0x1572\n")


def no_iommu(host: FakeHost) -> None:
    host.path(f"/sys/bus/pci/devices/{NIC}/iommu_group").unlink()


def foreign_vfio(host: FakeHost) -> None:
    host.path(f"/sys/bus/pci/devices/{NIC}/net/eth1").rmdir()
    host.symlink(f"/sys/bus/pci/devices/{NIC}/driver", "../../drivers/vfio-pci")


def disk_in_group(host: FakeHost) -> None:
    host.nic("0000:03:00.2", ids=(0x8086, 0x2922), driver="ahci", interface="", pci_class=SATA)


def twin_in_group(host: FakeHost) -> None:
    host.nic(SECOND, interface="eth2")


def unsafe(module: str, name: str) -> Callable[[FakeHost], None]:
    return lambda host: host.parameter(module, name, "Y")


LOSE = "This host would lose its network. Move the route to another adapter first."
UNSET = "Unset it: echo N > /sys/module/{0}/parameters/{1}, and remove it from /etc/modprobe.d and"
UNSET += " the kernel's command line."
REFUSED = [
    (default_v4, f"eth1 carries the default route (IPv4). {LOSE}"),
    (default_v6, f"eth1 carries the default route (IPv6). {LOSE}"),
    (default_through_a_bridge,
     f"eth1 (through br0) carries the default route (IPv4). {LOSE}"),
    (address_v6,
     "eth1 has the address 2001:db8::5/64. You may be connected through it. Move the address to"
     " another adapter, or delete it: ip address flush dev eth1"),
    (member, "eth1 is part of br0. Take it out of that bridge, bond or VLAN first."),
    (elsewhere,
     "igb drives it, but it has no interface here: another network namespace or program may use"
     " it. Look for it: ip netns; or take it from that driver yourself."),
    (functions,
     "it has 2 virtual functions, which would vanish. Remove them first:"
     f" echo 0 > /sys/bus/pci/devices/{NIC}/sriov_numvfs"),
    (virtual,
     "it is a virtual function (8086:10c9), and the switch has no driver for those. Take the whole"
     " adapter, or use AF_XDP on the interface."),
    (unknown,
     "the switch has no driver for 8086:1572 (there are igb, ixgbe and virtio_pci). " + AF_XDP),
    (no_iommu,
     "no IOMMU stands between it and the host's memory. Enable it in the firmware (VT-d, AMD-Vi)"
     " and on the kernel's command line (intel_iommu=on). Or: " + AF_XDP),
    (foreign_vfio,
     "it is on vfio-pci already, but not by uswitch-uplink: a virtual machine or another program"
     " may own it. Take it back with the tool that gave it away."),
    (disk_in_group,
     "IOMMU group 7 can only be given away whole, and others in it are in use: 0000:03:00.2"
     " (8086:2922, ahci). Put it into a slot with a group of its own. Or: " + AF_XDP),
    (twin_in_group,
     f"IOMMU group 7 can only be given away whole, and others in it are in use: {SECOND}"
     f" (8086:10c9, igb). Take all of them together: uswitch-uplink bind {NIC} {SECOND}"),
    (unsafe("vfio", "enable_unsafe_noiommu_mode"),
     "enable_unsafe_noiommu_mode of module vfio is set: a device without an IOMMU could write to"
     " all memory. " + UNSET.format("vfio", "enable_unsafe_noiommu_mode")),
    (unsafe("vfio_iommu_type1", "allow_unsafe_interrupts"),
     "allow_unsafe_interrupts of module vfio_iommu_type1 is set: a device could forge interrupts of"
     " others. " + UNSET.format("vfio_iommu_type1", "allow_unsafe_interrupts")),
    (unsafe("iommufd", "allow_unsafe_interrupts"),
     "allow_unsafe_interrupts of module iommufd is set: a device could forge interrupts of others. "
     + UNSET.format("iommufd", "allow_unsafe_interrupts")),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "text"), REFUSED)
def test_refused(host: FakeHost, prepare: Callable[[FakeHost], None], text: str) -> None:
    prepare(host)
    before = host.files()
    with pytest.raises(Refused) as caught:
        helper.bind(host, [NIC])
    assert str(caught.value) == f"adapter {NIC}: {text}"
    assert host.files() == before and not host.writes


def test_what_is_not_ours_is_not_given_back(host: FakeHost) -> None:
    assert answer(host, "unbind", [NIC]) == "yes"
    foreign_vfio(host)
    assert answer(host, "unbind", [NIC]).startswith(f"1 adapter {NIC}: is on vfio-pci, but not by")
    assert answer(host, "unbind", ["0000:09:00.0"]).startswith("4 PCI device 0000:09:00.0: does")


def test_what_is_not_there_and_what_is_no_adapter(host: FakeHost) -> None:
    with pytest.raises(Refused) as caught:
        helper.bind(host, ["0000:09:00.0"])
    assert str(caught.value) == ("PCI device 0000:09:00.0: does not exist. 'uswitch-uplink list'"
                                 " shows the adapters of this host.")
    disk_in_group(host)
    with pytest.raises(Refused) as second:
        helper.bind(host, ["0000:03:00.2"])
    assert str(second.value) == ("PCI device 0000:03:00.2: is no network adapter (class 010601)."
                                 " 'uswitch-uplink list' shows those of this host.")


def test_what_cannot_be_found_out_is_no_yes(host: FakeHost) -> None:
    host.fail = "ip -j -6 route"
    with pytest.raises(Refused, match="command ip -j -6 route show table all: failed"):
        helper.bind(host, [NIC])
    host.fail = ""
    host.ip["-4"] = {"dst": "default"}
    with pytest.raises(Refused, match="answers no list in JSON"):
        helper.bind(host, [NIC])
    assert host.driver_of() == "igb"


def test_harmless_neighbours(host: FakeHost) -> None:
    """A bridge with its driver, and a device without one, do not keep a group from being viable."""
    host.nic("0000:00:1c.0", ids=(0x8086, 0x1), driver="pcieport", interface="", pci_class=BRIDGE)
    host.nic("0000:03:00.3", ids=(0x8086, 0x2), driver="", interface="", pci_class=SATA)
    host.give_address("eth1", "169.254.3.4", 16, "link")
    host.ip["-4"] = [{"dst": "default", "dev": "eth0"}, {"dst": "10.0.0.0/8", "dev": "eth1"}]
    assert refusals(host, read_device(host, NIC), read_network(host)) == []


def test_a_virtio_adapter_has_its_interface_one_step_deeper(host: FakeHost) -> None:
    host.nic("0000:00:05.0", ids=(0x1AF4, 0x1041), driver="virtio-pci", group="9", interface="")
    host.interface("0000:00:05.0", "ens5", "virtio2")
    assert read_device(host, "0000:00:05.0").interfaces == ("ens5",)
    host.ip["-4"] = [{"dst": "default", "dev": "ens5"}]
    with pytest.raises(Refused, match="ens5 carries the default route"):
        helper.bind(host, ["0000:00:05.0"])


def test_the_worst_comes_first_and_nothing_is_kept_back(host: FakeHost) -> None:
    for prepare in (unknown, functions, default_v4, no_iommu):
        prepare(host)
    every = refusals(host, read_device(host, NIC), read_network(host))
    found = [one.why.split(" (")[0] for one in every]
    assert found == ["eth1 carries the default route", "the switch has no driver for 8086:1572",
                     "it has 2 virtual functions, which would vanish",
                     "no IOMMU stands between it and the host's memory"]
