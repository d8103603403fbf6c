# SPDX-License-Identifier: Apache-2.0
"""The rules about uplinks in the desired state, without sockets and files."""

from __future__ import annotations

from typing import Any

import pytest

from vif_uswitch.api.types import PortSpec, TrunkRow, UplinkSpec
from vif_uswitch.daemon import ports
from vif_uswitch.daemon.addresses import parse_pci
from vif_uswitch.daemon.defaults import PortDefaults, UplinkDefaults, config_of
from vif_uswitch.daemon.model import Kind, TagRow
from vif_uswitch.daemon.ports import Desired
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound, USwitchError

NIC = "0000:05:00.0"
DEFAULTS = PortDefaults(
    fdb_quota=9, queues=8, uplink=UplinkDefaults(queues=3, ring_size=512, irq_us=20, fdb_quota=77)
)


def put(desired: Desired, spec: UplinkSpec | PortSpec, create: bool = True) -> Desired:
    path = f"/v/{spec.name}" if isinstance(spec, PortSpec) and spec.type == "vhost-user" else ""
    return ports.put_port(desired, ports.new_port(desired, spec, path), create)


def made(*specs: UplinkSpec | PortSpec) -> Desired:
    desired = Desired()
    for spec in specs:
        desired = put(desired, spec)
    return desired


@pytest.mark.parametrize("text", ["05:00.0", "0000:05:00.0", "0000:05:00.0".upper()])
def test_one_address_has_one_form(text: str) -> None:
    assert made(UplinkSpec(name="u", pci=text)).port("u").pci == NIC
    assert parse_pci("10000:AB:1F.7") == "10000:ab:1f.7"


def test_kinds_and_defaults() -> None:
    rows = (TrunkRow(vid=200, segment="red"), TrunkRow(vid=100, segment="blue"))
    state = made(
        UplinkSpec(name="n", pci=NIC, trunk=rows, segment="mgmt", physnet="p0"),
        UplinkSpec(name="x", ifname="eth7", queues=1, ring_size=64, zero_copy=True, fdb_quota=5),
    )
    n, x = (config_of(state, state.port(name), DEFAULTS) for name in "nx")
    ids = {name: segment.segment_id for name, segment in state.segments.items()}
    assert n.kind is Kind.NIC and n.pci == NIC
    assert n.tags == (
        TagRow(4096, ids["mgmt"]), TagRow(100, ids["blue"]), TagRow(200, ids["red"])
    )  # fmt: skip
    assert (n.queues, n.insist, n.ring_size, n.irq_us, n.fdb_quota) == (3, False, 512, 20, 77)
    assert x.kind is Kind.XDP and x.ifname == "eth7"
    assert (x.queues, x.insist, x.ring_size, x.irq_us, x.fdb_quota) == (1, True, 64, 0, 5)
    assert x.zero_copy and not n.zero_copy
    assert ports.uplinks(state) == ["n", "x"]


def test_changes_keep_what_they_do_not_name() -> None:
    state = made(UplinkSpec(name="n", pci=NIC, physnet="p0", ring_size=64, irq_us=3))
    port = ports.changed(state.port("n"), UplinkSpec(name="n", pci=NIC, ring_size=None))
    assert (port.physnet, port.ring_size, port.irq_us) == ("p0", None, 3)


VM = PortSpec(name="vm", segment="blue")
TAP = PortSpec(name="tap", type="tap", ifname="eth7")
UP = UplinkSpec(name="up", pci=NIC, physnet="p0")


@pytest.mark.parametrize(
    ("before", "spec", "kind", "words"),
    [
        ([], {"name": "u"}, InvalidInput, "uplink u: has no adapter. Give the PCI address"),
        ([], {"name": "u", "pci": NIC, "ifname": "eth7"}, InvalidInput, "both pci and ifname"),
        ([UP], {"name": "u", "pci": "05:00.0"}, Conflict,
         f"PCI address {NIC}: is the adapter of uplink up. .*uplink delete up"),
        ([UP], {"name": "u", "ifname": "eth7", "physnet": "p0"}, Conflict,
         "physnet p0: is the network of uplink up"),
        ([TAP], {"name": "u", "ifname": "eth7"}, Conflict, "eth7: is the device of port tap"),
        ([], {"name": "u", "ifname": "eth7", "irq_us": 5}, InvalidInput, "ethtool -C eth7"),
        ([], {"name": "u", "ifname": "eth7", "lro": True}, InvalidInput, "no joined segments"),
        ([], {"name": "u", "pci": NIC, "segment": "nosuch"}, NotFound,
         "segment nosuch: does not exist. .*segment add nosuch"),
        ([VM], {"name": "u", "pci": NIC, "trunk": (TrunkRow(vid=7, segment="blue"),) * 2},
         InvalidInput, "VLAN id 7: has two rows on port u"),
        ([VM], {"name": "u", "pci": NIC, "segment": "blue",
                "trunk": (TrunkRow(vid=7, segment="blue"),)},
         InvalidInput, "segment blue: has two rows on port u"),
    ],
)  # fmt: skip
def test_what_cannot_be(
    before: list[UplinkSpec | PortSpec], spec: dict[str, Any], kind: type[USwitchError], words: str
) -> None:
    state = made(*before)
    with pytest.raises(kind, match=words):
        put(state, UplinkSpec(**spec), create=False)


@pytest.mark.parametrize(
    ("existing", "spec", "words"),
    [
        (UP, UplinkSpec(name="up", pci="06:00.0"),
         "uplink up: exists with pci 0000:05:00.0, not 0000:06:00.0. .*uplink delete up"),
        (UP, UplinkSpec(name="up", ifname="eth7"), "exists with type nic, not xdp"),
        (VM, UplinkSpec(name="vm", pci=NIC), "port vm: exists with type vhost-user, not nic"),
        (UP, PortSpec(name="up"), "uplink up: exists with type nic, not vhost-user"),
    ],
)  # fmt: skip
def test_ensure_makes_no_other_port_of_it(
    existing: UplinkSpec | PortSpec, spec: UplinkSpec | PortSpec, words: str
) -> None:
    state = made(existing)
    with pytest.raises(Conflict, match=words):
        ports.refuse_other(state.port(spec.name), spec, "")


def test_two_uplinks_may_use_one_vlan_id_for_different_segments() -> None:
    state = made(
        UplinkSpec(name="a", pci=NIC, trunk=(TrunkRow(vid=7, segment="blue"),)),
        UplinkSpec(name="b", pci="06:00.0", trunk=(TrunkRow(vid=7, segment="red"),)),
    )
    assert len(ports.uplinks(state)) == 2


def test_only_uplinks_are_uplinks() -> None:
    state = made(VM, UP)
    assert ports.uplink(state, "up").pci == NIC
    with pytest.raises(NotFound, match="uplink vm: is no uplink but a vhost-user port"):
        ports.uplink(state, "vm")
    with pytest.raises(NotFound, match=r"uplink no: does not exist\. 'uswitchctl uplink list'"):
        ports.uplink(state, "no")
