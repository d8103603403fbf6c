# SPDX-License-Identifier: Apache-2.0
"""The verbs of uplinks, over the real socket, with a real state file and a make-believe fabric."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch.daemon.model import Kind, Link, PortLive, TagRow
from vif_uswitch.dataplane.live import NicLive, QueueCounters
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound

NIC = "0000:05:00.0"
ADAPTER = NicLive(
    driver="igb", pci_id=(0x8086, 0x10C9), mac=bytes.fromhex("525400000001"), link_up=True,
    speed_mbps=1000, full_duplex=True, queues=2, resets=1, link_changes=3, pool_bytes=8 << 20,
    counters={"rx_packets": 12, "rx_missed": 4},
)  # fmt: skip
UP = PortLive(
    link=Link.UP, nic=ADAPTER, incoming=QueueCounters(frames=12, bytes=900),
    outgoing=QueueCounters(frames=5, bytes=300, drops={"link_down": 2}),
)  # fmt: skip


def saved(control: Control) -> list[dict[str, Any]]:
    value = json.loads((control.directory / "state.json").read_bytes())
    return list(value.get("uplinks", []))


def test_ensure_is_durable_and_reaches_the_fabric(control: Control) -> None:
    spec = {
        "name": "up0", "pci": "05:00.0", "physnet": "physnet1", "segment": "mgmt",
        "trunk": [{"vid": 100, "segment": "blue"}], "ring_size": 512, "mtu": 9000,
    }  # fmt: skip
    with control.client() as client:
        answer = client.uplink_ensure(spec, create_segments=True)
        assert answer["created"] and answer["changed"]
        again = client.uplink_ensure({"name": "up0", "pci": NIC})
        assert not again["created"] and not again["changed"]
        more = client.uplink_ensure({"name": "up0", "pci": NIC, "flood_rate": 5})
        assert more["changed"] and more["uplink"]["port"]["physnet"] == "physnet1"
    config = control.fabric.ports[0]
    assert (config.kind, config.pci, config.ring_size, config.mtu) == (Kind.NIC, NIC, 512, 9000)
    assert config.tags == (TagRow(4096, 2), TagRow(100, 1))
    assert config.flood_rate == 5
    (row,) = saved(control)
    assert row["uplink"]["pci"] == NIC and row["uplink"]["physnet"] == "physnet1"


def test_list_and_show_ask_the_adapters_first(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1"})
        for number in range(3):
            client.uplink_ensure({"name": f"up{number}", "pci": f"0{number}:00.0"})
        control.fabric.lives[2] = UP
        listed = client.uplink_list()
        assert [one["port"]["name"] for one in listed] == ["up0", "up1", "up2"]
        assert ("read", (1, 2, 3)) in control.fabric.calls
        assert [one["adapter"] is None for one in listed] == [True, False, True]
        shown = client.uplink_show("up1")
    assert control.fabric.calls[-1] == ("read", (2,))
    adapter = shown["uplink"]["adapter"]
    assert adapter["device_id"] == "8086:10c9" and adapter["mac"] == "52:54:00:00:00:01"
    assert (adapter["driver"], adapter["speed_mbps"], adapter["resets"]) == ("igb", 1000, 1)
    assert adapter["counters"] == {"rx_packets": 12, "rx_missed": 4}
    assert shown["uplink"]["incoming"]["frames"] == 12
    assert [(drop["reason"], drop["frames"]) for drop in shown["drops"]] == [("link_down", 2)]


def test_uplinks_are_ports_too(control: Control) -> None:
    with control.client() as client:
        client.segment_add("blue")
        client.uplink_ensure({"name": "up0", "ifname": "eth7"})
        (port,) = client.port_list()
        assert (port["type"], port["ifname"], port["pci"]) == ("xdp", "eth7", "")
        client.port_set("up0", {"segment": "blue"})
        assert control.fabric.ports[0].tags == (TagRow(4096, 1),)
        assert client.uplink_show("up0")["uplink"]["port"]["segment"] == "blue"
        assert client.port_delete("up0") and not client.uplink_list()


def test_delete_succeeds_for_an_unknown_one_and_refuses_other_ports(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1"})
        client.uplink_ensure({"name": "up0", "pci": NIC})
        assert client.uplink_delete("up0") and not client.uplink_delete("up0")
        assert not saved(control)
        with pytest.raises(NotFound, match=r"vm1: is no uplink .*port show vm1"):
            client.uplink_delete("vm1")
        assert [port["name"] for port in client.port_list()] == ["vm1"]


def test_one_that_the_fabric_refuses_is_not_saved(control: Control) -> None:
    control.fabric.fail["up0"] = Conflict("adapter", NIC, "is driven by the kernel's igb")
    with control.client() as client:
        with pytest.raises(Conflict, match="driven by the kernel's igb"):
            client.uplink_ensure({"name": "up0", "pci": NIC})
        assert not client.uplink_list() and not saved(control)


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        ({"pci": "5:0.0"}, InvalidInput, r"pci 5:0\.0: is malformed\. PCI address .*0000:05:00\.0"),
        ({"pci": "0000:05:20.0"}, InvalidInput, "pci 0000:05:20.0: is malformed"),
        ({"pci": "0000:05:00.8"}, InvalidInput, "is malformed"),
        ({"pci": NIC + "\n"}, InvalidInput, "is malformed"),
        ({"ifname": "eth7/../x"}, InvalidInput, "ifname .*is malformed. Name of a network device"),
        ({}, InvalidInput, "uplink up0: has no adapter"),
        ({"pci": NIC, "queues": 9}, InvalidInput, "queues 9"),
        ({"pci": NIC, "ring_size": -1}, InvalidInput, "ring_size -1"),
        ({"pci": NIC, "irq_us": 10**6}, InvalidInput, "irq_us 1000000"),
        ({"pci": NIC, "physnet": "a b"}, InvalidInput, "physnet a b: is malformed"),
        ({"pci": NIC, "type": "nic"}, InvalidInput, "parameter type: is unknown"),
        ({"pci": NIC, "segment": "no"}, NotFound, r"segment no: .*uswitchctl segment add no"),
        ({"pci": NIC, "trunk": [{"vid": 4095, "segment": "a"}]}, InvalidInput, "vid 4095"),
    ],
)
def test_bad_parameters(
    control: Control, spec: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with control.client() as client, pytest.raises(kind, match=words):
        client.uplink_ensure({"name": "up0", **spec})
