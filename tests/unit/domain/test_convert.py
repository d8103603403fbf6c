# SPDX-License-Identifier: Apache-2.0
"""Converting: what stays, what may not go without a word, and what a diff shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.domain_rig import (
    MAC,
    NOVA,
    OTHER,
    UUID,
    FakeGuest,
    bridge,
    domain,
    entry,
    failing,
    ours,
)
from vif_uswitch.client import Client
from vif_uswitch.domain import convert as room
from vif_uswitch.domain import tree
from vif_uswitch.domain.affect import Affect, State
from vif_uswitch.domain.reshape import reshape
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound, USwitchError
from vif_uswitch.hooks.domain_xml import HostSettings, parse_domain

FULL = f"""<interface type='network' trustGuestRxFilters='no'>
  <mac address='{MAC}'/>
  <source network='default' portid='x'/>
  <target dev='tap0'/>
  <model type='virtio'/>
  <driver name='vhost' txmode='iothread' queues='4' rx_queue_size='512'>
    <host csum='off'/>
  </driver>
  <mtu size='9000'/>
  <link state='up'/>
  <boot order='2'/>
  <alias name='ua-lan'/>
  <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
</interface>"""


def plan(xml: str, *words: str, active: bool = False, defaults: HostSettings | None = None,
         **wish: Any) -> room.Plan:  # fmt: skip
    wanted = {"changes": {"segment": "blue"}, **wish}
    return room.plan(State("vm1", active, True), xml, room.Wish(words, **wanted),
                     defaults or HostSettings(), "/run/v", "qemu:///system")  # fmt: skip


def interface(made: room.Plan) -> str:
    return tree.written(tree.interfaces(tree.parse(made.after))[0])


def test_what_stays_and_what_goes() -> None:
    made = plan(domain(FULL))
    assert interface(made) == f"""<interface type='vhostuser'>
  <mac address='{MAC}'/>
  <source type='unix' path='/run/v/{UUID}-525400000001.sock' mode='server'/>
  <model type='virtio'/>
  <driver queues='4' rx_queue_size='512'>
    <host csum='off'/>
  </driver>
  <boot order='2'/>
  <alias name='ua-lan'/>
  <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
</interface>
"""
    [port] = made.ports
    assert (port["segment"], port["mtu"], port["queues"]) == ("blue", 9000, 4)
    read = parse_domain(made.after).ports[MAC]
    assert (read.segment, read.mtu) == ("blue", 9000)
    assert plan(domain(FULL), changes={"segment": "blue", "mtu": 1400}).ports[0]["mtu"] == 1400
    assert "mode='client'" in interface(plan(domain(FULL), mode="client"))
    assert "<reconnect" in interface(plan(domain(FULL), mode="client"))


def test_the_diff_shows_the_change_alone() -> None:
    made = plan(domain(bridge(), bridge(OTHER)), MAC)
    assert made.diff().splitlines()[:2] == ["--- vm1 (now)", "+++ vm1 (converted)"]
    changed = [line for line in made.diff().splitlines()[2:] if line[0] in "+-"]
    assert changed == [
        "+  <metadata>",
        "+    <uswitch:ports xmlns:uswitch='urn:vif-uswitch:domain:1'>",
        f"+      <uswitch:port mac='{MAC}' segment='blue'/>",
        "+    </uswitch:ports>",
        "+  </metadata>",
        "-    <interface type='bridge'>",
        "+    <interface type='vhostuser'>",
        "-      <source bridge='br0'/>",
        f"+      <source type='unix' path='/run/v/{UUID}-525400000001.sock' mode='server'/>",
    ]


@pytest.mark.parametrize(("inner", "lost"), [
    ("<filterref filter='clean-traffic'/>", "<filterref filter='clean-traffic'>"),
    ("<bandwidth><inbound average='1'/></bandwidth>", "<bandwidth>"),
    ("<vlan><tag id='42'/></vlan>", "<vlan>"),
    ("<virtualport type='openvswitch'/>", "<virtualport type='openvswitch'>"),
    ("<port isolated='yes'/>", "<port isolated='yes'>"),
    ("<link state='down'/>", "<link state='down'>"),
    ("<new-in-libvirt-99 x='1'/>", "<new-in-libvirt-99 x='1'>"),
])  # fmt: skip
def test_intent_goes_only_by_consent(inner: str, lost: str) -> None:
    text = domain(bridge(inner="<model type='virtio'/>" + inner))
    with pytest.raises(Conflict) as refused:
        plan(text)
    assert lost in str(refused.value) and "--drop" in str(refused.value)
    assert inner.split()[0].partition(">")[0] not in plan(text, drop=True).after


def test_trusted_filters_are_an_intent_too() -> None:
    text = bridge().replace("<interface ", "<interface trustGuestRxFilters='yes' ")
    root = tree.parse(domain(text))
    assert reshape(tree.interfaces(root)[0], "/x", "server").lost == ("trustGuestRxFilters='yes'",)


@pytest.mark.parametrize(("inner", "model"), [("<model type='e1000'/>", "e1000"),
                                              ("", "libvirt's default")])  # fmt: skip
def test_another_model_needs_a_word(inner: str, model: str) -> None:
    with pytest.raises(Conflict, match=f"model {model}.*--to-virtio"):
        plan(domain(bridge(inner=inner)))
    made = plan(domain(bridge(inner=inner)), to_virtio=True)
    assert interface(made).splitlines()[3] == "  <model type='virtio'/>"
    kept = plan(domain(bridge(inner="<model type='virtio-non-transitional'/>")))
    assert "virtio-non-transitional" in interface(kept)


def test_which_interfaces() -> None:
    third, last = "52:54:00:00:00:03", "52:54:00:00:00:04"
    user = f"<interface type='user'><mac address='{third}'/><model type='virtio'/></interface>"
    text = domain(bridge(), FULL.replace(MAC, OTHER), user, ours("/run/v/y.sock", last))
    for words, macs in (((), [MAC, OTHER]), ((third, OTHER), [third, OTHER])):
        made = plan(text, *words)
        assert [port["external_ids"]["mac"] for port in made.ports] == macs
    with pytest.raises(NotFound):
        plan(text, "eth0")
    with pytest.raises(Conflict, match="already"):
        plan(text, last)
    with pytest.raises(Conflict, match="no interface on a bridge"):
        plan(domain(user))
    with pytest.raises(Conflict, match="device of the host's"):
        plan(domain(bridge().replace("bridge'", "hostdev'", 1)), MAC)


def test_memory_segments_and_notes() -> None:
    made = plan(domain(bridge(), memory=""), active=True)
    assert parse_domain(made.after).shared_memory and "+  <memoryBacking>" in made.diff()
    assert "shut down and started again" in made.notes[0]
    with pytest.raises(InvalidInput, match=r"now on br0\. Use --segment"):
        plan(domain(bridge()), changes={})
    made = plan(domain(bridge()), changes={}, defaults=HostSettings(default_segment="lan"))
    assert made.ports[0]["segment"] == "lan"
    with pytest.raises(Conflict, match="Nova"):
        plan(domain(bridge(), metadata=NOVA))
    other = plan(domain(bridge(), metadata=entry(OTHER, segment="red")))
    assert set(parse_domain(other.after).ports) == {MAC, OTHER}


def carry_out(guest: FakeGuest, client: Client, made: room.Plan) -> None:
    room.carry_out(guest, client, made, create_segments=False, say=[].append)  # type: ignore[arg-type]


def prepare(guest: FakeGuest, client: Client, **wish: Any) -> room.Plan:
    wanted = room.Wish((), **{"changes": {"segment": "blue"}, **wish})
    return room.prepare(guest, client, wanted, HostSettings(), "")  # type: ignore[arg-type]


def test_ports_first_and_then_one_call(client: Client) -> None:
    guest = FakeGuest(domain(bridge()), domain(bridge(), bridge(OTHER)))
    made = prepare(guest, client)
    assert guest.calls == [] and client.port_list() == []
    carry_out(guest, client, made)
    assert guest.calls == ["define CONFIG"] and guest.xml(Affect.CONFIG) == made.after
    assert sorted(port["path"] for port in client.port_list()) == sorted(
        one.path for one in parse_domain(made.after).vhost_users)  # fmt: skip


def test_nothing_is_left_of_what_libvirt_refuses(client: Client) -> None:
    guest = FakeGuest(config=domain(bridge(), bridge(OTHER)))
    guest.fail["define"] = failing("not valid")
    with pytest.raises(USwitchError, match="not valid"):
        carry_out(guest, client, prepare(guest, client))
    assert client.port_list() == []


def test_a_port_that_was_there_is_as_it_was(client: Client) -> None:
    guest = FakeGuest(config=domain(bridge()))
    name = prepare(guest, client).ports[0]["name"]
    client.port_add({"name": name, "max_kbps": 7000})
    guest.fail["define"] = failing("not valid")
    with pytest.raises(USwitchError, match="not valid"):
        carry_out(guest, client, prepare(guest, client))
    port = client.port_show(name)["port"]
    assert (port["segment"], port["max_kbps"], port["external_ids"]) == (None, 7000, {})


def test_nobody_agreed_to_another_change(client: Client) -> None:
    guest = FakeGuest(config=domain(bridge()))
    made = prepare(guest, client)
    guest.texts[Affect.CONFIG] = domain(bridge(), name="vm1b")
    with pytest.raises(Conflict, match="was changed since"):
        carry_out(guest, client, made)
    assert guest.calls == [] and client.port_list() == []
    with pytest.raises(Conflict, match="transient"):
        prepare(FakeGuest(domain(bridge())), client)
