# SPDX-License-Identifier: Apache-2.0
"""What ``domain check`` finds, one trouble at a time."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from tests.unit.domain.domain_rig import MAC, OTHER, bridge, domain, entry, ours
from vif_uswitch.access import Identity
from vif_uswitch.domain import check as room
from vif_uswitch.domain import tree
from vif_uswitch.domain.affect import Affect
from vif_uswitch.domain.check import Finding, Side, Status, Switch
from vif_uswitch.exceptions import DaemonUnreachable
from vif_uswitch.hooks.domain_xml import parse_domain

PATH = "/run/v/a.sock"
PORT: dict[str, Any] = {
    "name": "p", "path": PATH, "mode": "server", "queues": 1, "segment": "blue", "trunk": [],
    "admin_up": True, "link": "up", "reason": "",
}  # fmt: skip
WHO = Identity("65533", 65533)
LIVE, CONFIG = Affect.LIVE, Affect.CONFIG


def findings(text: str, port: dict[str, Any] | None = PORT, which: Affect = LIVE,
             obstacle: str = "", listens: bool | None = True) -> list[Finding]:  # fmt: skip
    side = Side(which, parse_domain(text), tuple(tree.interfaces(tree.parse(text))))
    ports = {} if port is None else {port["path"]: port}
    return room.check(side, Switch("/run/v", ports, WHO), lambda path, who: obstacle,
                      lambda path: listens)  # fmt: skip


def wrong(*args: Any, **options: Any) -> list[tuple[str, str, str]]:
    """(check, status, text and advice) of what is not in order."""
    return [(one.check, one.status.value, f"{one.text}. {one.todo}")
            for one in findings(*args, **options) if one.status is not Status.PASS]  # fmt: skip


def test_all_is_well() -> None:
    assert {one.check for one in findings(domain(ours(PATH)))} == {
        "DOM-01", "NIC-01", "NIC-02", "NIC-03", "NIC-04"}  # fmt: skip
    assert wrong(domain(ours(PATH))) == []
    assert wrong(domain(ours(PATH)), which=CONFIG) == []
    trunk = {**PORT, "segment": None, "trunk": [{"vid": 1, "segment": "x"}]}
    assert wrong(domain(ours(PATH)), trunk) == []


@pytest.mark.parametrize(("text", "change", "check", "status", "why"), [
    (domain(ours(PATH), memory=""), {}, "DOM-01", "FAIL", "does not share its memory"),
    (domain(ours(PATH), metadata=entry(MAC, speed="1")), {}, "DOM-02", "FAIL", "speed"),
    (domain(ours(PATH), metadata=entry(OTHER)), {}, "DOM-02", "WARN", "does not have"),
    (domain(ours(PATH).replace("'virtio'", "'e1000'")), {}, "NIC-01", "FAIL", "model is e1000"),
    (domain(ours(PATH, inner="<mtu size='9000'/>")), {}, "NIC-01", "FAIL", "<mtu>"),
    (domain(ours(PATH)), {"mode": "client"}, "NIC-02", "FAIL", "both listen"),
    (domain(ours(PATH, inner="<driver queues='4'/>")), {}, "NIC-02", "FAIL", "--queues 4"),
    (domain(ours(PATH)), {"segment": None}, "NIC-03", "FAIL", "no segment"),
    (domain(ours(PATH)), {"admin_up": False, "link": "down"}, "NIC-03", "WARN", "port set p --up"),
    (domain(ours(PATH)), {"link": "negotiating"}, "NIC-04", "WARN", "not ready yet"),
    (domain(ours(PATH)), {"link": "broken", "reason": "a ring"}, "NIC-04", "FAIL", "a ring"),
    (domain(ours(PATH)), {"link": "waiting", "reason": "refused"}, "NIC-04", "FAIL", "refused"),
])  # fmt: skip
def test_each_trouble_is_found_and_alone(
    text: str, change: dict[str, Any], check: str, status: str, why: str
) -> None:
    [found] = wrong(text, {**PORT, **change})
    assert found[:2] == (check, status) and why in found[2]


def test_a_client_that_does_not_try_again() -> None:
    text = domain(ours(PATH, mode="client"))
    port = {**PORT, "mode": "client"}
    assert [found[:2] for found in wrong(text, port)] == [("NIC-01", "WARN")]
    again = text.replace("mode='client'/>", "mode='client'><reconnect enabled='yes'/></source>")
    assert wrong(again, port) == []
    [found] = wrong(again, PORT)
    assert "both connect" in found[2]


def test_a_socket_out_of_reach() -> None:
    text, port = domain(ours(PATH)), {**PORT, "link": "waiting"}
    [found] = wrong(text, port, obstacle="/run/v (root:root 700) does not let 65533 in")
    assert "(root:root 700)" in found[2] and "doctor" in found[2]
    assert wrong(text, port, which=CONFIG, obstacle="x") == [], "nobody is there yet"
    client = domain(ours(PATH, mode="client").replace("mode='client'/>",
                    "mode='client'><reconnect enabled='yes'/></source>"))  # fmt: skip
    port["mode"] = "client"
    assert "nobody listens" in wrong(client, port, listens=False)[0][2]
    assert "does not connect" in wrong(client, port, listens=None)[0][2]


def test_no_port() -> None:
    [found] = wrong(domain(ours(PATH)), None)
    assert found[:2] == ("NIC-02", "FAIL") and f"--path {PATH} --mode server" in found[2]
    [found] = wrong(domain(ours(PATH)), None, CONFIG)
    assert found[:2] == ("NIC-02", "WARN") and "hook" in found[2]
    [found] = wrong(domain(ours("/run/vhost/other.sock")), None)
    assert found[:2] == ("NIC-02", "WARN") and "not this switch's" in found[2]
    alone = domain(ours(PATH, mode="client"))
    again = alone.replace("mode='client'/>", "mode='client'><reconnect enabled='yes'/></source>")
    assert "a start fails" in wrong(alone, None, CONFIG)[-1][2]
    for text in (domain(ours(PATH)), again):
        [found] = wrong(text, None, CONFIG)
        assert "a start waits until there is one" in found[2]


def test_passt_needs_no_switch() -> None:
    """libvirt starts it, and finds the socket's path itself."""
    passt = (f"<interface type='vhostuser'><backend type='passt'/><mac address='{OTHER}'/>"
             "<source dev='eth0'/><model type='virtio'/></interface>")  # fmt: skip
    assert wrong(domain(passt, ours(PATH))) == []
    assert {one.about for one in findings(domain(passt, ours(PATH)))} == {"", MAC}


def test_a_path_through_a_link(tmp_path: pathlib.Path) -> None:
    """/var/run is one."""
    real = tmp_path.resolve() / "run"
    real.mkdir()
    (tmp_path / "var").symlink_to(real)
    port = {**PORT, "path": f"{real}/a.sock"}
    text = domain(ours(f"{tmp_path}/var/a.sock"))
    assert wrong(text, port) == []
    side = Side(LIVE, parse_domain(text), tuple(tree.interfaces(tree.parse(text))))
    found = [one for one in room.check(side, Switch(str(real), {}, WHO)) if one.check == "NIC-02"]
    assert [one.status for one in found] == [Status.FAIL], "it is below the directory"
    waiting = {**port, "link": "waiting"}
    switch = Switch(str(real), {waiting["path"]: waiting}, WHO)
    [link] = [one for one in room.check(side, switch, lambda path, _: f"[{path}]")
              if one.check == "NIC-04"]  # fmt: skip
    assert f"[{port['path']}]" in link.text


def test_no_interface_and_no_switch() -> None:
    assert [found[:2] for found in wrong(domain(bridge()))] == [("DOM-01", "WARN")]
    text = domain(ours(PATH))
    side = Side(LIVE, parse_domain(text), tuple(tree.interfaces(tree.parse(text))))
    found = room.check(side, DaemonUnreachable("uswitchd", "/x", "nobody answers"))
    assert [(one.check, one.status) for one in found if one.status is not Status.PASS] == [
        ("DOM-03", Status.FAIL)]  # fmt: skip
    refused = DaemonUnreachable("uswitchd", "/x", "may not be used by you", "Use root")
    [third] = [one for one in room.check(side, refused) if one.check == "DOM-03"]
    assert (third.text, third.todo) == (str(refused), "")


def test_both_descriptions_are_told_of_once() -> None:
    text = domain(ours(PATH, OTHER), ours("/run/v/b.sock"))
    both = findings(text, None) + findings(text, None, CONFIG)
    merged = room.merged(both)
    assert [one.about for one in merged] == sorted((one.about for one in merged),
                                                   key=["", OTHER, MAC].index)  # fmt: skip
    virtio = [one for one in merged if one.check == "NIC-01"]
    assert len(virtio) == 2 and len(merged) == len(set(merged))
