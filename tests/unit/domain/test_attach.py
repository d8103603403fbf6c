# SPDX-License-Identifier: Apache-2.0
"""Attaching: the order, what is refused before anything is done, and what is taken back."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.unit.daemon.control_rig import Control
from tests.unit.domain.domain_rig import (
    MAC,
    NOVA,
    OTHER,
    SHARED,
    UUID,
    FakeGuest,
    bridge,
    domain,
    entry,
    failing,
)
from vif_uswitch.client import Client
from vif_uswitch.daemon.model import Link, PortLive
from vif_uswitch.domain import attach as room
from vif_uswitch.domain import entries
from vif_uswitch.domain.affect import BOTH, Affect
from vif_uswitch.exceptions import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    TimedOut,
    USwitchError,
)
from vif_uswitch.hooks.domain_xml import HostSettings, PortSettings, parse_domain

NAME = f"{UUID}-525400000001"


def attach(guest: FakeGuest, client: Client, said: list[str] | None = None,
           defaults: HostSettings | None = None, **wish: Any) -> room.Plan:  # fmt: skip
    wanted = {"changes": {"segment": "blue"}, "mac": MAC, **wish}
    return room.attach(guest, client, room.Wish(**wanted), defaults or HostSettings(),  # type: ignore[arg-type]
                       "qemu:///system", (said if said is not None else []).append)  # fmt: skip


def test_both_descriptions(control: Control, client: Client) -> None:
    guest = FakeGuest(domain(), domain(bridge(OTHER), metadata=entry(OTHER, segment="red")))
    seen = []
    guest.during_attach = lambda: seen.append(client_of(control).port_show(NAME)["port"]["path"])
    made = attach(guest, client, changes={"segment": "blue", "mtu": 9000}, queues=4)
    path = f"{control.vhost}/{NAME}.sock"
    assert seen == [path], "the port is there before QEMU waits for it"
    assert guest.calls == ["metadata LIVE", "metadata CONFIG", "attach LIVE+CONFIG"]
    assert made.affect == BOTH and made.notes == ()
    port = client.port_show(NAME)["port"]
    assert (port["segment"], port["mtu"], port["queues"], port["mode"]) == (
        "blue", 9000, 4, "server")  # fmt: skip
    assert port["external_ids"] == {
        "owner": "libvirt", "domain": "vm1", "domain-uuid": UUID, "mac": MAC,
        "uri": "qemu:///system", "asked-at": "0"}  # fmt: skip
    for which, count in ((Affect.LIVE, 1), (Affect.CONFIG, 2)):
        after = parse_domain(guest.xml(which))
        assert len(after.interfaces) == count and set(after.ports) == {MAC, OTHER} & {
            one.mac for one in after.interfaces}  # fmt: skip
        [one] = after.vhost_users
        assert (one.path, one.mode, one.model, one.queues) == (path, "server", "virtio", 4)


def client_of(control: Control) -> Client:
    return Client(control.path)


def test_a_client_connects_again(client: Client) -> None:
    guest = FakeGuest(config=domain())
    attach(guest, client, mode="client")
    source = ET.fromstring(guest.xml(Affect.CONFIG)).find("devices/interface/source")
    assert source is not None and source.get("mode") == "client"
    assert source.find("reconnect") is not None
    assert client.port_show(NAME)["port"]["mode"] == "client"


def test_a_new_address_is_none_that_a_port_has(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter((1, 2, 3, 4))
    monkeypatch.setattr("vif_uswitch.domain.interfaces.getrandbits", lambda bits: next(drawn))
    client.port_add({"name": "p1", "macs": [MAC]})
    client.port_add({"name": "p2", "external_ids": {"mac": OTHER}})
    guest = FakeGuest(config=domain(bridge("52:54:00:00:00:03")))
    assert attach(guest, client, mac=None).interface.mac == "52:54:00:00:00:04"


def test_the_configurations_memory_is_shared_the_running_guests_cannot(client: Client) -> None:
    guest = FakeGuest(domain(memory=""), domain(memory=""))
    with pytest.raises(Conflict, match=r"cannot map\. Attach with --config"):
        attach(guest, client)
    assert guest.calls == [] and client.port_list() == []
    made = attach(guest, client, config=True)
    assert guest.calls == ["define CONFIG", "metadata CONFIG", "attach CONFIG"]
    assert made.notes == ("domain vm1 shares its memory from its next start on",)
    assert parse_domain(guest.xml(Affect.CONFIG)).shared_memory


@pytest.mark.parametrize(("guest", "wish", "error", "why"), [
    (FakeGuest(domain(bridge())), {}, Conflict, "has an interface with it"),
    (FakeGuest(config=domain(metadata=NOVA)), {}, Conflict, "belongs to Nova"),
    (FakeGuest(config=domain(metadata=entry(OTHER, x="1"))), {}, InvalidInput, "attribute x"),
    (FakeGuest(config=domain()), {"mac": "01:00:00:00:00:01"}, InvalidInput, "one station"),
    (FakeGuest(config=domain()), {"changes": {"segment": "nil"}}, NotFound, "nil"),
    (FakeGuest(config=domain()), {"queues": 9}, InvalidInput, "queues"),
    (FakeGuest(config=domain()), {"defaults": HostSettings(vhost_socket_dir="/" + "x" * 99)},
     InvalidInput, "107 bytes"),
])  # fmt: skip
def test_what_is_refused_before_anything_is_done(
    client: Client, guest: FakeGuest, wish: dict[str, Any], error: type[USwitchError], why: str
) -> None:
    before = dict(guest.texts)
    with pytest.raises(error, match=why):
        attach(guest, client, **wish)
    assert guest.calls == [] and guest.texts == before and client.port_list() == []


@pytest.mark.parametrize(("step", "memory"), [
    ("define", ""), ("metadata", ""), ("attach", ""), ("metadata", SHARED), ("attach", SHARED),
])  # fmt: skip
def test_a_step_that_fails_leaves_what_was_there(client: Client, step: str, memory: str) -> None:
    text = domain(bridge(OTHER), memory=memory, metadata=entry(OTHER, segment="red"))
    guest, said = FakeGuest(config=text), list[str]()
    guest.fail[step] = failing()
    with pytest.raises(USwitchError, match="no room on the bus"):
        attach(guest, client, said)
    after = parse_domain(guest.xml(Affect.CONFIG))
    assert client.port_list() == [] and said[-1] == f"taken back: port {NAME}"
    assert after.shared_memory == bool(memory)
    assert set(after.ports) == {OTHER} and [one.mac for one in after.interfaces] == [OTHER]


def test_a_port_that_was_there_stays(client: Client) -> None:
    guest = FakeGuest(config=domain())
    made = attach(guest, client)
    guest.texts[Affect.CONFIG] = domain()
    guest.fail["attach"] = failing()
    with pytest.raises(USwitchError):
        attach(guest, client)
    assert [port["name"] for port in client.port_list()] == [made.port["name"]]


def test_a_port_that_was_there_is_as_it_was(client: Client) -> None:
    client.segment_add("red")
    former = {"segment": "red", "max_kbps": 7000, "admin_up": False, "description": "mine",
              "guard": {"pairs": [{"mac": MAC, "ip": "10.0.0.5"}]}, "external_ids": {"a": "b"},
              "trunk": [{"vid": 7, "segment": "blue"}], "mtu": 9000}  # fmt: skip
    before = client.port_add({"name": NAME, **former})["port"]
    guest, said = FakeGuest(config=domain()), list[str]()
    guest.fail["attach"] = failing()
    with pytest.raises(USwitchError):
        attach(guest, client, said)
    after = client.port_show(NAME)["port"]
    assert {key: after[key] for key in former} == {key: before[key] for key in former}
    assert f"taken back: changes of port {NAME}" in said


def test_an_address_that_the_other_description_has(client: Client) -> None:
    with pytest.raises(Conflict, match="has an interface with it"):
        attach(FakeGuest(domain(bridge()), domain()), client, config=True)
    assert client.port_list() == []


@pytest.mark.parametrize("mode", ["server", "client"])
def test_a_guest_is_not_frozen_for_a_socket_out_of_reach(
    control: Control, client: Client, mode: str
) -> None:
    why = "cannot connect: Permission denied"
    control.fabric.lives[0] = PortLive(link=Link.WAITING, last_error=why)
    guest, said = FakeGuest(domain(), domain()), list[str]()
    with pytest.raises(Forbidden, match="was denied access"):
        attach(guest, client, said, mode=mode)
    assert guest.calls == [] and said == [f"taken back: port {NAME}"] and client.port_list() == []
    attach(guest, client, config=True)


def test_what_others_changed_meanwhile_stays(client: Client) -> None:
    """An entry that came before ours is written, and one that came before it is taken back."""
    guest = FakeGuest(config=domain(memory=""))
    third = "52:54:00:00:00:03"

    def guarded(mac: str) -> None:
        guest.texts[Affect.CONFIG] = guest.xml(Affect.CONFIG).replace(
            "</domain>", "<x/></domain>")  # fmt: skip
        entry = PortSettings(mac, guard=())
        entries.put(guest, Affect.CONFIG, mac, entry)  # type: ignore[arg-type]

    guest.during_attach = lambda: guarded(third)
    guest.after_define = lambda: guarded(OTHER)
    guest.fail["attach"] = failing()
    with pytest.raises(USwitchError):
        attach(guest, client)
    after = parse_domain(guest.xml(Affect.CONFIG))
    assert {mac: one.guard for mac, one in after.ports.items()} == {OTHER: (), third: ()}
    assert not after.shared_memory and guest.xml(Affect.CONFIG).count("<x") == 2


def test_qemu_that_waits_for_its_switch_keeps_its_port(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PATIENCE_S", 0.05)
    guest, release = FakeGuest(domain()), threading.Event()

    def stand_still() -> None:
        release.wait(20)

    guest.during_attach = stand_still
    try:
        with pytest.raises(TimedOut, match=r"is waiting.*goes on by itself"):
            attach(guest, client)
    finally:
        release.set()
    assert [port["name"] for port in client.port_list()] == [NAME]
    assert set(parse_domain(guest.xml(Affect.LIVE)).ports) == {MAC}


def test_an_interruption_leaves_the_port_too(client: Client) -> None:
    guest, said = FakeGuest(domain()), list[str]()

    def interrupted() -> None:
        raise KeyboardInterrupt

    guest.during_attach = interrupted
    with pytest.raises(KeyboardInterrupt):
        attach(guest, client, said)
    assert [port["name"] for port in client.port_list()] == [NAME] and "stays" in said[0]


def test_in_no_segment_is_said_and_the_host_may_have_a_default(client: Client) -> None:
    made = attach(FakeGuest(config=domain()), client, changes={})
    assert "in no segment" in made.notes[0]
    client.port_delete(NAME)
    made = attach(FakeGuest(config=domain()), client, changes={},
                  defaults=HostSettings(default_segment="blue"))  # fmt: skip
    assert made.notes == () and client.port_show(NAME)["port"]["segment"] == "blue"
