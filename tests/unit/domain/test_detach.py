# SPDX-License-Identifier: Apache-2.0
"""Detaching: the port goes with the last description that has the interface, not before."""

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
from vif_uswitch.domain import detach as room
from vif_uswitch.domain.affect import BOTH, Affect
from vif_uswitch.exceptions import Conflict, NotFound, TimedOut, USwitchError
from vif_uswitch.hooks.domain_xml import parse_domain

IDS = {"owner": "libvirt", "domain-uuid": UUID, "mac": MAC}


def detach(guest: FakeGuest, client: Client, word: str = MAC, said: list[str] | None = None,
           **options: Any) -> tuple[room.Plan, str | None]:  # fmt: skip
    wanted = {"live": False, "config": False, "wait_s": 0.0, **options}
    return room.detach(guest, client, word, say=(said if said is not None else []).append,  # type: ignore[arg-type]
                       **wanted)  # fmt: skip


@pytest.fixture
def text(client: Client) -> str:
    """A domain with an interface that has a port, and another one."""
    path = client.port_add({"name": "p", "external_ids": IDS})["port"]["path"]
    return domain(ours(path), bridge(OTHER), metadata=entry(MAC, segment="blue"))


def test_an_alias_of_the_running_guest_means_the_interface_in_both(
    client: Client, text: str
) -> None:
    guest = FakeGuest(text.replace("<model", "<alias name='net0'/><model", 1), text)
    made, port = detach(guest, client, "net0")
    assert made.affect == BOTH and port == "p"
    for which in (Affect.LIVE, Affect.CONFIG):
        after = parse_domain(guest.xml(which))
        assert [one.mac for one in after.interfaces] == [OTHER] and not after.ports
    guest = FakeGuest(text.replace("<model", "<alias name='net0'/><model", 1), text)
    made, _ = detach(guest, client, "net0", config=True)
    assert made.affect == Affect.CONFIG
    assert set(parse_domain(guest.xml(Affect.LIVE)).ports) == {MAC}


def test_an_interface_that_is_there_keeps_its_entry(client: Client, text: str) -> None:
    guest = FakeGuest(text, text)
    guest.obeys = Affect.LIVE
    detach(guest, client)
    assert set(parse_domain(guest.xml(Affect.CONFIG)).ports) == {MAC}, "libvirt left it there"


def test_a_port_of_somebody_else_stays(client: Client) -> None:
    path = client.port_add({"name": "cloud"})["port"]["path"]
    said: list[str] = []
    made, port = detach(FakeGuest(config=domain(ours(path))), client, said=said)
    assert made.last and port is None and names(client) == ["cloud"]
    assert said == ["port cloud is not libvirt's of this domain: it stays"]
    client.port_set("cloud", {"external_ids": {**IDS, "domain-uuid": "another"}})
    detach(FakeGuest(config=domain(ours(path))), client)
    assert names(client) == ["cloud"], "the XML was copied from that domain's"


def test_a_port_of_its_name_goes_whoever_made_it(client: Client) -> None:
    name = f"{UUID}-525400000001"
    path = client.port_add({"name": name})["port"]["path"]
    assert detach(FakeGuest(config=domain(ours(path))), client)[1] == name


def test_an_entry_that_came_meanwhile_stays(client: Client, text: str) -> None:
    guest = FakeGuest(config=text)
    both = text.replace("</uswitch:ports>",
                        f"<uswitch:port mac='{OTHER}'><uswitch:guard/></uswitch:port>"
                        "</uswitch:ports>")  # fmt: skip

    def somebody_else() -> None:
        guest.texts[Affect.CONFIG] = both

    guest.during_detach = somebody_else
    detach(guest, client)
    assert parse_domain(guest.xml(Affect.CONFIG)).ports[OTHER].guard == ()


def test_repeated_when_the_guest_has_let_go(client: Client, text: str) -> None:
    for word in (MAC, MAC.upper(), "p", f"{UUID}-525400000001"):
        guest = FakeGuest(text, text)
        guest.obeys = Affect.CONFIG
        with pytest.raises(TimedOut, match="Then repeat"):
            detach(guest, client)
        guest.texts[Affect.LIVE] = domain(bridge(OTHER), metadata=entry(MAC, segment="blue"))
        guest.calls.clear()
        made, port = detach(guest, client, word)
        assert (made.affect, made.last, port) == (Affect(0), True, "p")
        assert guest.calls == ["no metadata LIVE", "no metadata CONFIG"] and names(client) == []
        client.port_add({"name": "p", "external_ids": IDS})
    client.port_delete("p")
    with pytest.raises(NotFound):
        detach(guest, client)


def test_what_the_other_description_has_was_not_left_behind(client: Client, text: str) -> None:
    guest = FakeGuest(text, domain(bridge(OTHER)))
    with pytest.raises(NotFound):
        detach(guest, client, config=True)
    assert names(client) == ["p"]


def names(client: Client) -> list[str]:
    return [port["name"] for port in client.port_list()]


def test_interface_metadata_and_port(client: Client, text: str) -> None:
    guest = FakeGuest(text, text)
    made, port = detach(guest, client)
    assert made.affect == BOTH and port == "p" and names(client) == []
    assert guest.calls == ["detach LIVE+CONFIG", "no metadata LIVE", "no metadata CONFIG"]
    for which in (Affect.LIVE, Affect.CONFIG):
        after = parse_domain(guest.xml(which))
        assert [one.mac for one in after.interfaces] == [OTHER] and not after.ports


def test_other_entries_stay(client: Client, text: str) -> None:
    text = text.replace("</uswitch:ports>", f"<uswitch:port mac='{OTHER}'/></uswitch:ports>")
    guest = FakeGuest(config=text)
    detach(guest, client)
    assert set(parse_domain(guest.xml(Affect.CONFIG)).ports) == {OTHER}


@pytest.mark.parametrize(("options", "left"), [
    ({"live": True}, Affect.CONFIG), ({"config": True}, Affect.LIVE),
])  # fmt: skip
def test_the_port_stays_while_a_description_has_the_interface(
    client: Client, text: str, options: dict[str, Any], left: Affect
) -> None:
    guest = FakeGuest(text, text)
    made, port = detach(guest, client, **options)
    assert not made.last and port is None and names(client) == ["p"]
    assert guest.xml(left) == text
    made, port = detach(guest, client)
    assert made.affect == left and port == "p" and names(client) == []


def test_a_guest_that_does_not_let_go(client: Client, text: str) -> None:
    guest = FakeGuest(text, text)
    guest.obeys = Affect.CONFIG
    with pytest.raises(TimedOut, match="not let go"):
        detach(guest, client)
    assert names(client) == ["p"]
    guest.obeys = BOTH
    made, port = detach(guest, client)
    assert made.affect == Affect.LIVE and port == "p"
    assert not parse_domain(guest.xml(Affect.CONFIG)).ports, "what the first attempt left"


def test_libvirts_refusal_changes_nothing(client: Client, text: str) -> None:
    guest = FakeGuest(text, text)
    guest.fail["detach"] = failing("busy")
    with pytest.raises(USwitchError, match="busy"):
        detach(guest, client)
    assert names(client) == ["p"] and guest.xml(Affect.LIVE) == guest.xml(Affect.CONFIG) == text


def test_metadata_that_cannot_be_read_stay(client: Client, text: str) -> None:
    guest, said = FakeGuest(config=text.replace("segment='blue'", "speed='1'")), list[str]()
    _, port = detach(guest, client, said=said)
    assert port == "p" and "speed='1'" in guest.xml(Affect.CONFIG).replace('"', "'")
    assert "stay as they are" in said[0]


def test_not_ours(client: Client, text: str) -> None:
    with pytest.raises(Conflict, match="virsh detach-interface"):
        detach(FakeGuest(text), client, OTHER)
    with pytest.raises(NotFound, match="99"):
        detach(FakeGuest(text, text), client, "52:54:00:00:00:99")
    with pytest.raises(Conflict, match="belongs to Nova"):
        detach(FakeGuest(config=domain(ours("/run/v/a.sock"), metadata=NOVA)), client)
    assert names(client) == ["p"]


def test_without_a_port(client: Client) -> None:
    made, port = detach(FakeGuest(config=domain(ours("/elsewhere/x.sock"))), client)
    assert made.last and port is None
