# SPDX-License-Identifier: Apache-2.0
"""Uplinks of the configuration: what a section may say, what becomes of it, who may change it."""

from __future__ import annotations

import json
import pathlib

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch import conf
from vif_uswitch.api import types as api
from vif_uswitch.daemon import ports
from vif_uswitch.daemon.model import Kind
from vif_uswitch.daemon.ports import Desired
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink import static
from vif_uswitch.exceptions import Conflict, InvalidInput

NIC, OTHER = "0000:05:00.0", "0000:06:00.0"
WHOLE = """\
[uplink:wire]
pci = 05:00.0
physnet = physnet1
segment = mgmt
vlans = 100=blue, 200=red
mtu = 9000
queues = 2
ring_size = 512
irq_us = 0
zero_copy = true
lro = yes
fdb_quota = 9
flood_rate = 8
flood_burst = 7
admin_up = false
description = the one to the left
[uplink:Air.1]
ifname = eth7
"""


def found(tmp_path: pathlib.Path, text: str) -> list[api.UplinkSpec]:
    path = tmp_path / "u.conf"
    path.write_text(text, encoding="utf-8")
    return static.specs(conf.load(["--config-file", str(path)], "1"))


def spec(name: str = "wire", pci: str = NIC, **more: object) -> api.UplinkSpec:
    return api.UplinkSpec(name=name, pci=pci, **more)  # type: ignore[arg-type]


def by_api(*specs: ports.Spec) -> Desired:
    desired = Desired()
    for one in specs:
        path = f"/x/{one.name}" if isinstance(one, api.PortSpec) else ""
        desired = ports.put_port(desired, ports.new_port(desired, one, path), create_segments=True)
    return desired


def test_every_option_arrives(tmp_path: pathlib.Path) -> None:
    air, wire = found(tmp_path, WHOLE)
    assert (air.name, air.ifname, air.pci, air.trunk) == ("Air.1", "eth7", "", ())
    desired = static.merge(Desired(), [air, wire])
    port = desired.ports["wire"]
    assert port.static and port.kind is Kind.NIC and port.pci == NIC
    assert (port.physnet, port.segment, port.trunk) == (
        "physnet1", "mgmt", ((100, "blue"), (200, "red")))  # fmt: skip
    assert (port.mtu, port.queues, port.ring_size, port.irq_us) == (9000, 2, 512, 0)
    assert port.zero_copy and port.lro and not port.admin_up
    assert (port.fdb_quota, port.flood_rate, port.flood_burst) == (9, 8, 7)
    assert port.description == "the one to the left"
    assert set(desired.segments) == {"mgmt", "blue", "red"}
    assert desired.ports["Air.1"].mtu is None and desired.ports["Air.1"].admin_up


def test_the_sample_has_none(tmp_path: pathlib.Path) -> None:
    sample = pathlib.Path(__file__).resolve().parents[4] / "etc/uswitchd.conf.sample"
    assert found(tmp_path, sample.read_text("utf-8")) == []


@pytest.mark.parametrize(("text", "message"), [
    ("[uplink:w]\npci = zzz\n", r"option pci in \[uplink:w\] zzz: is not allowed. PCI address of"),
    ("[uplink:w]\npic = 05:00.0\n", r"option pic in \[uplink:w\]: is unknown.*Did you mean pci\?"),
    ("[uplink:w]\nmtu = 9\n", r"option mtu in \[uplink:w\].*68"),
    ("[uplink:w]\nvlans = 100:blue\n", r"vlans in \[uplink:w\] 100:blue: is malformed. Each"),
    ("[uplink:w]\nvlans = 4095=x\n", r"4095=x: is malformed.*1 to 4094"),
    ("[uplink:w]\nvlans = 1=-x\n", r"1=-x: is malformed"),
    ("[uplink:w]\nphysnet = a b\n", r"option physnet in \[uplink:w\] a b: is not allowed. Name of"),
    ("[uplink:a b]\npci = 05:00.0\n", r"section \[uplink:a b\]: name a b: is not allowed. Name of"),
    ("[uplink:]\npci = 05:00.0\n", r"section \[uplink:\]: name ''"),
    ("[uplink:<name>]\npci = 05:00.0\n", r"name <name>: is not allowed"),
    ("[uplink:a]\npci = 05:00.0\n[uplink:A]\npci = 06:00.0\n", "in case only"),
    ("[uplnk:a]\npci = 05:00.0\n", r"section \[uplnk:a\]: is unknown"),
])  # fmt: skip
def test_mistakes_are_named(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        found(tmp_path, text)


@pytest.mark.parametrize(("specs", "message"), [
    ([api.UplinkSpec(name="w")], r"section \[uplink:w\]: cannot be had: uplink w: has no adapter"),
    ([spec(ifname="eth0")], r"section \[uplink:wire\]: .*has both pci and ifname"),
    ([spec(), spec("w2")], r"\[uplink:w2\]: .*is the adapter of uplink wire"),
    ([spec("taken", OTHER)], r"PCI address 0000:06:00.0: is the adapter of uplink mine.*take the"),
    ([spec("mine")], r"\[uplink:mine\]: .*exists with pci 0000:06:00.0, not 0000:05:00.0.*Delete"),
    ([spec("vm1")], r"\[uplink:vm1\]: .*exists with type vhost-user.*uswitchctl port delete vm1"),
    ([api.UplinkSpec(name="w", ifname="eth0", lro=True)], "AF_XDP has no joined segments"),
])  # fmt: skip
def test_contradictions_are_named(specs: list[api.UplinkSpec], message: str) -> None:
    before = by_api(api.PortSpec(name="vm1"), spec("mine", OTHER))
    with pytest.raises(InvalidInput, match=message):
        static.merge(before, specs)


def test_the_id_stays_and_what_has_no_section_goes(tmp_path: pathlib.Path) -> None:
    store = StateStore(str(tmp_path))
    store.save(by_api(api.PortSpec(name="vm1")))
    first = static.bring_in(store, [spec(), spec("w2", OTHER)])
    assert {name: port.port_id for name, port in first.ports.items()} == {
        "vm1": 0, "wire": 1, "w2": 2}  # fmt: skip
    assert StateStore(str(tmp_path)).load() == first
    swapped = static.bring_in(store, [spec("w2"), spec(pci=OTHER, segment="blue")])
    assert [(swapped.ports[name].port_id, swapped.ports[name].pci) for name in ("wire", "w2")] == [
        (1, OTHER), (2, NIC)]  # fmt: skip
    assert swapped.ports["wire"].segment == "blue"
    less = static.bring_in(store, [spec("w2")])
    assert set(less.ports) == {"vm1", "w2"} and set(less.segments) == {"blue"}
    assert set(static.bring_in(store, []).ports) == {"vm1"}


def test_an_option_that_is_not_set_any_more_is_the_default_again() -> None:
    before = static.merge(Desired(), [spec(mtu=9000, segment="blue")])
    port = static.merge(before, [spec()]).ports["wire"]
    assert (port.mtu, port.segment) == (None, None)


def test_one_of_the_api_is_taken_over() -> None:
    port = static.merge(by_api(spec("x", OTHER), spec(mtu=9000)), [spec()]).ports["wire"]
    assert port.static and port.port_id == 1 and port.mtu is None


def test_a_state_without_any_is_one_that_earlier_releases_read(tmp_path: pathlib.Path) -> None:
    store = StateStore(str(tmp_path))
    for specs, number in (([spec()], 4), ([], 1)):
        static.bring_in(store, specs)
        assert json.loads(store.path.read_bytes())["format"] == number


def test_the_api_shows_it_and_leaves_it_as_it_is(tmp_path: pathlib.Path) -> None:
    static.bring_in(StateStore(str(tmp_path)), [spec()])
    with Control(tmp_path).serving() as control, control.client() as client:
        client.uplink_ensure({"name": "mine", "pci": OTHER})
        assert {one["port"]["name"]: one["origin"] for one in client.uplink_list()} == {
            "wire": "config", "mine": "api"}  # fmt: skip
        why = (r"uplink wire: comes from the configuration, and would come back with it. Change"
               r" section \[uplink:wire\] there, and restart uswitchd")  # fmt: skip
        with pytest.raises(Conflict, match=why):
            client.uplink_delete("wire")
        with pytest.raises(Conflict, match=why):
            client.port_delete("wire")
        with pytest.raises(Conflict, match=why):
            client.uplink_ensure({"name": "wire", "pci": NIC, "mtu": 9000})
        with pytest.raises(Conflict, match=why):
            client.port_set("wire", {"admin_up": False})
        assert not client.uplink_ensure({"name": "wire", "pci": NIC})["changed"]
        assert client.uplink_show("wire")["uplink"]["origin"] == "config"
        client.uplink_delete("mine")
    assert list(StateStore(str(tmp_path)).load().ports) == ["wire"]
