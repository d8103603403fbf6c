# SPDX-License-Identifier: Apache-2.0
"""The hook as libvirt runs it: arguments, XML, exit status; with a uswitchd that is scripted."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from tests.unit.hooks.hook_rig import MAC, NAME, UUID, Bed, Run, port_entry
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound
from vif_uswitch.hooks import domain_xml, qemu

# ---- prepare ----


def test_prepare_makes_the_port(bed: Bed, run: Run) -> None:
    with bed.uswitchd() as uswitchd:
        assert run("prepare", bed.xml(metadata=port_entry("segment='blue'"))) == 0
    method, params = uswitchd.asked[-1]
    assert method == "port.ensure" and params["create_segments"] is True
    assert params["port"]["name"] == NAME and params["port"]["segment"] == "blue"
    assert [method for method, _ in uswitchd.asked] == ["show", "port.list", "port.ensure"]


def test_prepare_leaves_other_switches_sockets_alone(bed: Bed, run: Run) -> None:
    with bed.uswitchd() as uswitchd:
        assert run("prepare", bed.xml("/run/openvswitch/vhu0")) == 0
    assert [method for method, _ in uswitchd.asked] == ["show"]


def test_with_a_directory_in_the_settings_nobody_is_asked_for_it(bed: Bed, run: Run) -> None:
    bed.configure(f"vhost_socket_dir = {bed.vhost}")
    assert run("prepare", bed.xml("/run/openvswitch/vhu0")) == 0  # there is no uswitchd
    with bed.uswitchd() as uswitchd:
        assert run("prepare") == 0
    assert [method for method, _ in uswitchd.asked] == ["port.list", "port.ensure"]


def test_without_uswitchd_the_guest_would_hang(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare") == 1
    said = capsys.readouterr().err
    assert f"interface {MAC} of domain vm1 gets no port: control socket" in said
    assert "Start uswitchd" in said


def test_without_uswitchd_a_guest_of_another_switch_starts(
    bed: Bed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not worth a wait."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    bed.configure(deadline_s=1)
    assert run("prepare", bed.xml("/run/openvswitch/vhu0")) == 0
    assert pauses == []


def test_a_uswitchd_that_is_being_restarted_is_waited_for(
    bed: Bed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes up in the first pause."""
    bed.configure(deadline_s=30)
    late = bed.uswitchd()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        if not pauses:
            late.__enter__()
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    try:
        assert run("prepare") == 0
    finally:
        if pauses:
            late.__exit__()
    assert pauses and late.asked[-1][0] == "port.ensure"


def test_a_uswitchd_that_says_nothing_costs_the_deadline_and_no_more(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(bed.control)
        mute.listen(8)
        assert run("prepare") == 1
    assert "in the time the hook has" in capsys.readouterr().err


def test_all_pages_of_a_list_have_one_deadline(
    bed: Bed, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each page takes a third of it, by a clock that the pages push on; there are too many."""
    later = [0.0]
    real, answer = time.monotonic, bed.answer
    monkeypatch.setattr(time, "monotonic", lambda: real() + later[0])

    def page(method: str, params: dict[str, Any]) -> Any:
        if method != "port.list":
            return answer(method, params)
        later[0] += 10
        return {"ports": [], "next": "" if later[0] > 90 else "more"}

    monkeypatch.setattr(bed, "answer", page)
    bed.configure(deadline_s=30)
    with bed.uswitchd() as uswitchd:
        assert run("prepare") == 1
    assert "in the time the hook has" in capsys.readouterr().err
    assert [method for method, _ in uswitchd.asked] == ["show"] + 3 * ["port.list"]


def test_a_refusal_is_told(bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    bed.errors["port.ensure"] = InvalidInput("mtu", 5, "is too small", "Use 68 or more.")
    with bed.uswitchd():
        assert run("prepare", bed.xml(metadata=port_entry("mtu='5'"))) == 1
    said = capsys.readouterr().err
    assert said == (f"uswitch: interface {MAC} of domain vm1 gets no port: mtu 5: is too small."
                    " Use 68 or more.\n")


def test_wrong_metadata_are_told(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with bed.uswitchd() as uswitchd:
        assert run("prepare", bed.xml(metadata=port_entry("segmnt='blue'"))) == 1
    assert "attribute segmnt" in capsys.readouterr().err
    assert "port.ensure" not in dict(uswitchd.asked)


def test_wrong_settings_concern_our_guests_only(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USWITCH_SOCKET", bed.control)
    (bed.directory / "libvirt.conf").write_text("[libvirt]\ncolour = red\n")
    with bed.uswitchd():
        assert run("prepare", bed.xml("/run/openvswitch/vhu0")) == 0
        assert run("prepare") == 1
        assert "option colour: is unknown" in capsys.readouterr().err
        assert run("migrate") == 1


def test_a_port_that_somebody_made_by_hand_serves_as_well(bed: Bed, run: Run) -> None:
    bed.errors["port.ensure"] = Conflict("path", "", "is the socket of port web")
    bed.ports = [bed.port(name="web", external_ids={}, link="waiting")]
    with bed.uswitchd() as uswitchd:
        assert run("prepare") == 0
        bed.ports[0]["mode"] = "client"
        assert run("prepare") == 1
    assert "port.delete" not in dict(uswitchd.asked)


def test_a_port_that_another_guest_uses_does_not(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bed.errors["port.ensure"] = Conflict("path", "", "is the socket of port web")
    bed.ports = [bed.port(name="web", external_ids={})]
    with bed.uswitchd():
        assert run("prepare") == 1
        assert "port web, which serves another QEMU" in capsys.readouterr().err
        assert run("reconnect") == 0  # this guest runs: it is the one
    assert capsys.readouterr().err == ""


def test_a_directory_closed_to_uswitchd_is_told(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bed.reason = "a.sock: Permission denied"
    with bed.uswitchd():
        assert run("prepare") == 1
    assert "was denied access" in capsys.readouterr().err


# ---- release, reconnect ----


def test_release_deletes_the_domains_ports(bed: Bed, run: Run) -> None:
    bed.ports = [bed.port(), bed.port(name="hot-plugged")]
    with bed.uswitchd() as uswitchd:
        assert run("release") == 0
    assert uswitchd.asked[0] == ("port.list", {
        "cursor": "", "segment": None,
        "external_id": {"key": "domain-uuid", "value": UUID},
    })
    deleted = [params for method, params in uswitchd.asked if method == "port.delete"]
    ids = {"owner": "libvirt", "domain-uuid": UUID}
    assert deleted == [{"name": NAME, "external_ids": ids},
                       {"name": "hot-plugged", "external_ids": ids}]


def test_release_comes_after_the_next_prepare(
    bed: Bed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt does not wait for it: what was asked for since belongs to the guest that starts."""
    with bed.uswitchd() as uswitchd:
        assert run("prepare") == 0
        [asked] = [params["port"] for method, params in uswitchd.asked if method == "port.ensure"]
        at = float(asked["external_ids"]["asked-at"])
        bed.ports = [bed.port(external_ids=asked["external_ids"])]
        for ended, deleted in ((at - 0.5, False), (at + 0.5, True)):
            monkeypatch.setenv("USWITCH_CALLED_AT", f"{ended:.2f}")
            assert run("release") == 0
            assert any(method == "port.delete" for method, _ in uswitchd.asked) == deleted


def test_reconnect_makes_missing_ports(bed: Bed, run: Run) -> None:
    with bed.uswitchd() as uswitchd:
        assert run("reconnect") == 0
        bed.ports = [bed.port()]
        assert run("reconnect") == 0
    assert [method for method, _ in uswitchd.asked].count("port.ensure") == 1


@pytest.mark.parametrize("error", [None, NotFound("segment", "blue", "is gone")])
def test_reconnect_never_fails(bed: Bed, run: Run, error: Exception | None) -> None:
    """libvirt would kill a guest that runs."""
    if error is None:
        assert run("reconnect") == 0  # nobody answers
    else:
        bed.errors = {"port.ensure": error}
        with bed.uswitchd():
            assert run("reconnect") == 0
    assert run("reconnect", b"<domain") == 0
    assert run("reconnect", bed.xml(metadata=port_entry("mtu='x'"))) == 0


def test_not_even_by_a_defect(bed: Bed, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: bytes) -> domain_xml.DomainXml:
        raise RuntimeError("a defect")

    monkeypatch.setattr(qemu, "parse_domain", broken)
    assert run("reconnect") == 0
    assert run("prepare") == 1


@pytest.mark.parametrize(("operation", "seconds"), [
    ("prepare", 30), ("migrate", 30), ("release", qemu.RELEASE_S), ("reconnect", 1),
])
def test_who_has_no_guest_to_start_waits_less(
    bed: Bed, run: Run, monkeypatch: pytest.MonkeyPatch, operation: str, seconds: float
) -> None:
    given: list[float] = []

    class Noting(qemu.Uswitchd):
        def __init__(self, path: str, seconds: float) -> None:
            given.append(seconds)
            super().__init__(path, seconds)

    monkeypatch.setattr(qemu, "Uswitchd", Noting)
    bed.configure(deadline_s=30)
    with bed.uswitchd():
        run(operation)
    assert given == [seconds]


# ---- migrate, restore ----


@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_paths_of_another_host(
    bed: Bed, run: Run, operation: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with bed.uswitchd():
        assert run(operation, bed.xml("/far/web.sock", port_entry("description='ö'"))) == 0
    found = domain_xml.parse_domain(capsysbinary.readouterr().out)
    assert [each.path for each in found.vhost_users] == [f"{bed.vhost}/web.sock"]
    assert found.ports[MAC].description == "ö"


def test_what_needs_no_change_is_not_printed(
    bed: Bed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with bed.uswitchd():
        assert run("migrate") == 0
        assert run("migrate", bed.xml("/far/web.sock")) == 0
    assert capsys.readouterr().out == ""


# ---- the program ----


@pytest.mark.parametrize("xml", [
    b"vhostuser", b"<domain type='vhostuser'>", b"<domain/>", b"\xff" * 100,
    b"<domain>" + b"<!-- vhostuser -->" * 300_000 + b"</domain>",
])
def test_what_is_no_domain_stops_the_start(
    bed: Bed, run: Run, xml: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare", xml) == 1
    said = capsys.readouterr().err
    assert said.startswith("uswitch: prepare of domain vm1: ") and len(said) < 400


def test_other_operations_are_none_of_ours(bed: Bed, run: Run) -> None:
    assert run("start") == run("attach") == 0


def test_by_hand_it_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert qemu.main([]) == 2
    assert "run by libvirt" in capsys.readouterr().err
