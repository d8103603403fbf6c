# SPDX-License-Identifier: Apache-2.0
"""What the hook decides, for domains and ports of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vif_uswitch.exceptions import Conflict, Forbidden, InvalidInput
from vif_uswitch.hooks import plan
from vif_uswitch.hooks.domain_xml import DomainXml, HostSettings, Interface, PortSettings

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
A, B = "52:54:00:aa:bb:01", "52:54:00:aa:bb:02"
NAME_A, NAME_B = f"{UUID}-525400aabb01", f"{UUID}-525400aabb02"
LAB = HostSettings(default_segment="lab")
URI = "qemu:///system"


def vhost(mac: str, path: str, mode: str = "server") -> Interface:
    return Interface(mac, path, mode)


def port(name: str, path: str, owner: str = "libvirt", **more: Any) -> plan.Port:
    return {"name": name, "path": path, "mode": "server", "link": "waiting", "reason": "",
            "external_ids": {"owner": owner, "domain-uuid": UUID}, **more}


@pytest.fixture
def ours(tmp_path: Path) -> str:
    (tmp_path / "vhost").mkdir()
    return str(tmp_path / "vhost")


def domain(*interfaces: Interface, **more: Any) -> DomainXml:
    return DomainXml("vm1", UUID, interfaces, **more)


# ---- whose interface is it ----


def test_ours_is_what_is_below_our_directory(ours: str, tmp_path: Path) -> None:
    (tmp_path / "way-in").symlink_to(ours)
    (tmp_path / "vhost" / "way-out").symlink_to("/run")
    paths = {
        f"{ours}/a.sock": True, f"{ours}/deeper/a.sock": True, f"{tmp_path}/way-in/a.sock": True,
        f"{ours}/way-out/a.sock": False, f"{ours}2/a.sock": False, f"{ours}/../a.sock": False,
        "/run/openvswitch/vhu0": False, "": False, "vhost/a.sock": False, f"{ours}/\x1b": False,
    }  # fmt: skip
    found = {path for path in paths if plan.ours(domain(vhost(A, path)), ours)}
    assert found == {path for path, wanted in paths.items() if wanted}


def test_other_interfaces_and_novas_are_never_ours(ours: str) -> None:
    bridge = Interface(A, type="bridge", source="br0")
    assert plan.ours(domain(bridge, ports={A: PortSettings(A)}), ours) == ()
    assert plan.ours(domain(vhost(A, f"{ours}/a"), nova=True), ours) == ()


# ---- prepare ----


def test_prepare_makes_a_port_for_each_of_ours_and_no_other(ours: str) -> None:
    both = domain(vhost(A, f"{ours}/a"), vhost(B, "/run/openvswitch/b"))
    found = plan.prepare(both, [], ours, LAB, URI)
    assert [(each["name"], each["segment"]) for each in found.make] == [(NAME_A, "lab")]
    assert found.make[0]["external_ids"]["uri"] == URI
    assert not (found.delete or found.refused or found.notes)


def test_prepare_takes_away_what_an_earlier_start_left(ours: str) -> None:
    """The name is kept, the path is another one: such a port cannot be changed into ours."""
    known = [port(NAME_A, f"{ours}/old"), port(NAME_B, f"{ours}/b")]
    found = plan.prepare(domain(vhost(A, f"{ours}/a")), known, ours, LAB, URI)
    assert found.delete == (NAME_A, NAME_B) and len(found.make) == 1


def test_prepare_keeps_a_port_that_fits(ours: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ours)
    known = [port(NAME_A, f"{ours}/a")]
    found = plan.prepare(domain(vhost(A, f"{tmp_path}/link/a")), known, ours, LAB, URI)
    assert found.delete == () and len(found.make) == 1


def test_what_somebody_else_made_is_never_deleted(ours: str) -> None:
    known = [port("by-hand", f"{ours}/x", owner=""), port(NAME_B, f"{ours}/y", owner="nova"),
             port(NAME_A, f"{ours}/z", external_ids={"owner": "libvirt", "domain-uuid": "other"})]
    some = domain(vhost(A, f"{ours}/a"))
    assert plan.prepare(some, known, ours, LAB, URI).delete == ()
    assert plan.release(some, known, 1e9) == []
    assert plan.reconnect(some, known, ours, LAB, URI).delete == ()


def test_wrong_metadata_refuse_their_interface(ours: str) -> None:
    wrong = InvalidInput("mtu", "many", "is no number")
    both = domain(vhost(A, f"{ours}/a"), vhost(B, f"{ours}/b"), refused={A: wrong})
    found = plan.prepare(both, [], ours, LAB, URI)
    assert found.refused == ((A, wrong),) and [each["name"] for each in found.make] == [NAME_B]


def test_metadata_that_cannot_be_told_apart_refuse_all_of_ours(ours: str) -> None:
    wrong = InvalidInput("uswitch:ports", None, "are there twice")
    both = domain(vhost(A, f"{ours}/a"), vhost(B, "/run/openvswitch/b"), refused={"": wrong})
    assert plan.prepare(both, [], ours, LAB, URI).refused == ((A, wrong),)


def test_an_interface_that_the_metadata_name_must_be_in_our_directory(ours: str) -> None:
    some = domain(vhost(A, "/elsewhere/a.sock"), ports={A: PortSettings(A)})
    found = plan.prepare(some, [], ours, LAB, URI)
    assert not found.make and "is not below" in str(found.refused[0][1])


def test_an_entry_for_nobody_is_worth_a_note(ours: str) -> None:
    some = domain(vhost(A, f"{ours}/a"), ports={B: PortSettings(B)})
    (note,) = plan.prepare(some, [], ours, LAB, URI).notes
    assert B in note


# ---- reconnect ----


def test_reconnect_makes_what_is_missing_and_changes_nothing(ours: str) -> None:
    known = [port(NAME_A, f"{ours}/a", segment="changed-by-hand")]
    both = domain(vhost(A, f"{ours}/a"), vhost(B, f"{ours}/b"))
    found = plan.reconnect(both, known, ours, LAB, URI)
    assert [each["name"] for each in found.make] == [NAME_B] and not found.delete


@pytest.mark.parametrize(("link", "deleted"), [("waiting", (NAME_B,)), ("up", ())])
def test_reconnect_takes_away_what_nobody_uses(
    ours: str, link: str, deleted: tuple[str, ...]
) -> None:
    known = [port(NAME_A, f"{ours}/a"), port(NAME_B, f"{ours}/b", link=link)]
    found = plan.reconnect(domain(vhost(A, f"{ours}/a")), known, ours, LAB, URI)
    assert found.delete == deleted


# ---- release ----


def test_release_takes_the_ports_of_later_interfaces_too(ours: str) -> None:
    known = [port(NAME_A, f"{ours}/a"), port(NAME_B, f"{ours}/hot")]
    assert plan.release(domain(vhost(A, f"{ours}/a")), known, 1.0) == known


@pytest.mark.parametrize(("asked_at", "gone"), [
    ("99.99", True), ("100.00", False), ("250.10", False), ("0", True), ("soon", True),
    (None, True),
])
def test_release_leaves_the_ports_of_the_next_start(
    ours: str, asked_at: str | None, gone: bool
) -> None:
    known = port(NAME_A, f"{ours}/a")
    if asked_at is not None:
        known["external_ids"] = {**known["external_ids"], "asked-at": asked_at}
    found = plan.release(domain(vhost(A, f"{ours}/a")), [known], 100.0)
    assert found == ([known] if gone else [])


# ---- conflicts ----


def test_a_port_of_somebody_else_on_our_socket_will_do(ours: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ours)
    wanted = port(NAME_A, f"{tmp_path}/link/a")
    for owner in ("", "nova"):
        plan.occupied(wanted, [port("by-hand", f"{ours}/a", owner)], Conflict("path"))


@pytest.mark.parametrize("link", ["negotiating", "up"])
def test_but_not_one_that_serves_another_qemu(ours: str, link: str) -> None:
    wanted, other = port(NAME_A, f"{ours}/a"), port("by-hand", f"{ours}/a", owner="", link=link)
    with pytest.raises(Conflict, match="port by-hand, which serves another QEMU"):
        plan.occupied(wanted, [other], Conflict("path"))
    plan.occupied(wanted, [other], Conflict("path"), running=True)  # it is this one


@pytest.mark.parametrize("link", ["waiting", "up"])
@pytest.mark.parametrize("running", [False, True])
def test_nor_that_of_another_guest_of_libvirts(ours: str, link: str, running: bool) -> None:
    """XML that was copied: the second guest would get the first one's segment, or hang."""
    ids = {"owner": "libvirt", "domain-uuid": "other", "domain": "web\x1b", "mac": B}
    other = port("others", f"{ours}/a", link=link, external_ids=ids)
    with pytest.raises(Conflict) as raised:
        plan.occupied(port(NAME_A, f"{ours}/a"), [other], Conflict("path"), running)
    assert str(raised.value) == (
        f"socket {ours}/a: belongs to domain 'web\\x1b', interface {B}. Give each interface a"
        " socket of its own; if that one is no more: uswitchctl port delete others"
    )


def test_nor_that_of_another_interface_of_the_guest(ours: str) -> None:
    ids = {"owner": "libvirt", "domain-uuid": UUID, "mac": B}
    with pytest.raises(Conflict, match=f"belongs to interface {B} of the same domain"):
        plan.occupied(port(NAME_A, f"{ours}/a"),
                      [port(NAME_B, f"{ours}/a", external_ids=ids)], Conflict("path"))


@pytest.mark.parametrize(("mode", "what"), [("server", "listen"), ("client", "connect")])
def test_but_not_if_both_sides_would_do_the_same(ours: str, mode: str, what: str) -> None:
    other = "client" if mode == "server" else "server"
    wanted = port(NAME_A, f"{ours}/a", mode=mode)
    by_hand = port("by-hand", f"{ours}/a", owner="", mode=other)
    with pytest.raises(Conflict, match=f"both sides would {what}"):
        plan.occupied(wanted, [by_hand], Conflict("path"))


@pytest.mark.parametrize("others", [[], [port(NAME_A, "/x/a")], [port("other", "/x/b")]])
def test_another_conflict_is_told_as_it_is(others: list[plan.Port]) -> None:
    said = Conflict("port", NAME_A, "exists with another path")
    with pytest.raises(Conflict) as raised:
        plan.occupied(port(NAME_A, "/x/a"), others, said)
    assert raised.value is said


def test_a_directory_that_uswitchd_may_not_use(ours: str) -> None:
    plan.check_reachable(port(NAME_A, f"{ours}/a"))
    plan.check_reachable(port(NAME_A, f"{ours}/a", reason="nobody listens"))
    with pytest.raises(Forbidden, match="mode 2775"):
        plan.check_reachable(port(NAME_A, f"{ours}/a", reason="connect: Permission denied"))


# ---- migration ----


@pytest.mark.parametrize(("path", "named", "expected"), [
    ("/far/vhost/web.sock", True, "web.sock"),
    (f"/far/vhost/{NAME_A}.sock", False, f"{NAME_A}.sock"),
    ("/far/vhost/web.sock", False, None),
    ("/here/vhost/web.sock", True, None),
    ("/here/vhost/deeper/web.sock", True, None),
    ("/here/vhost/" + "x" * 120, True, None),
])
def test_paths_of_another_host_become_ours(path: str, named: bool, expected: str | None) -> None:
    some = domain(vhost(A, path), ports={A: PortSettings(A)} if named else {})
    wanted = {A: f"/here/vhost/{expected}"} if expected else {}
    assert plan.moved(some, "/here/vhost") == wanted


def test_novas_paths_are_novas(ours: str) -> None:
    some = domain(vhost(A, "/far/a"), ports={A: PortSettings(A)}, nova=True)
    assert plan.moved(some, ours) == {}


@pytest.mark.parametrize("path", ["/far/" + "x" * 104, "/far/..", "/far/"])
def test_a_path_that_cannot_be(path: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be that of interface"):
        plan.moved(domain(vhost(A, path), ports={A: PortSettings(A)}), "/run/uswitch/vhost")
