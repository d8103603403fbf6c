# SPDX-License-Identifier: Apache-2.0
"""What list, check and watch read, while domains come and go."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.daemon.control_rig import Control
from tests.unit.domain.domain_rig import MAC, UUID, FakeGuest, bridge, domain, ours
from vif_uswitch.client import Client
from vif_uswitch.domain import look
from vif_uswitch.domain.affect import Affect, State
from vif_uswitch.domain.check import Switch
from vif_uswitch.exceptions import Busy, DaemonUnreachable, NotFound


class Gone(FakeGuest):
    """A domain that was listed, and is no more."""

    def state(self) -> State:
        raise NotFound("domain", "vm1", "does not exist")


class FakeHypervisor:
    def __init__(self, *guests: FakeGuest) -> None:
        self._guests = list(guests)

    def guests(self) -> list[FakeGuest]:
        return self._guests

    def guest(self, name: str) -> FakeGuest:
        return self._guests[0]


class Stuck(FakeGuest):
    """Its QEMU waits, and libvirt with it."""

    def xml(self, which: Affect, *, secrets: bool = True) -> str:
        raise Busy("domain", "vm1", "libvirt has waited 9 s for its QEMU")


def rows(client: Client, *guests: FakeGuest, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return look.rows(FakeHypervisor(*guests), client, names)  # type: ignore[arg-type]


def test_a_domain_that_goes_meanwhile_is_none_if_nobody_asked_for_it(client: Client) -> None:
    assert len(rows(client, Gone(), FakeGuest(config=domain(bridge())))) == 1
    with pytest.raises(NotFound):
        rows(client, Gone(), names=("vm1",))


def test_a_guest_that_is_stuck_is_what_its_ports_know(control: Control, client: Client) -> None:
    ids = {"domain-uuid": UUID, "mac": MAC}
    client.port_add({"name": "p", "segment": "blue", "external_ids": ids})
    client.port_add({"name": "other"})
    guest = Stuck(domain())
    [row] = rows(client, guest)
    assert (row["state"], row["mac"], row["port"], row["link"]) == ("stuck", MAC, "p", "waiting")
    about, port = look.findings(guest, client)  # type: ignore[arg-type]
    assert (about.check, about.text) == ("DOM-04",
                                         "domain vm1: libvirt has waited 9 s for its QEMU")
    assert (port.check, port.about, port.status.value) == ("NIC-04", MAC, "FAIL")
    assert "does not exist" in port.text
    with Client(f"{control.directory}/none") as nobody:
        assert [one.check for one in look.findings(guest, nobody)] == [  # type: ignore[arg-type]
            "DOM-04", "DOM-03"]  # fmt: skip


def test_a_running_guest_is_shown_as_it_is(control: Control, client: Client) -> None:
    client.port_add({"name": "p", "segment": "blue"})
    guest = FakeGuest(domain(ours(f"{control.vhost}/p.sock")), domain(bridge()))
    [row] = rows(client, guest)
    assert (row["type"], row["state"], row["segment"]) == ("vhostuser", "running", "blue")
    guest.texts = {which: None if which.name == "LIVE" else text
                   for which, text in guest.texts.items()}  # fmt: skip
    [row] = rows(client, guest)
    assert (row["type"], row["state"]) == ("bridge", "shut off")


def test_findings_are_about_both(control: Control, client: Client) -> None:
    guest = FakeGuest(domain(ours(f"{control.vhost}/p.sock")), domain(bridge()))
    found = look.findings(guest, client)  # type: ignore[arg-type]
    assert [one.text for one in found if one.check == "DOM-01"] == [
        "the running guest shares its memory", "the configuration has no vhost-user interface"]


def test_a_users_own_switch_has_its_own_directory(
    control: Control, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = control.directory / "libvirt.conf"
    file.write_text("[libvirt]\nvhost_socket_dir = /run/other\ndefault_segment = lan\n")
    monkeypatch.setenv("USWITCH_LIBVIRT_CONF", str(file))
    assert look.host_settings(client).vhost_socket_dir == "/run/other"
    monkeypatch.setattr("vif_uswitch.client.user_socket", lambda: control.path)
    own = look.host_settings(client)
    assert (own.vhost_socket_dir, own.default_segment) == ("", "lan")


def test_a_switch_that_does_not_answer_is_an_answer(control: Control, client: Client) -> None:
    known = look.switch(client)
    assert isinstance(known, Switch) and known.directory == str(control.vhost)
    with Client(f"{control.directory}/none") as nobody:
        assert isinstance(look.switch(nobody), DaemonUnreachable)
