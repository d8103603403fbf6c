# SPDX-License-Identifier: Apache-2.0
"""Interfaces by the names people have for them, and beside their ports."""

from __future__ import annotations

import pathlib

import pytest

from tests.unit.domain.domain_rig import MAC, OTHER, UUID, bridge, domain, ours
from vif_uswitch.domain import interfaces
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound
from vif_uswitch.hooks.domain_xml import parse_domain

NAMES = "<target dev='vnet7'/><alias name='net0'/>"
THIRD = bridge("52:54:00:00:00:03", NAMES)
DOMAIN = parse_domain(domain(bridge(OTHER), ours("/run/a.sock", inner=NAMES), THIRD))


@pytest.mark.parametrize("word", [MAC, "/run/a.sock", f"{UUID}-525400000001"])
def test_an_interface_by_name(word: str) -> None:
    assert interfaces.find(DOMAIN, word).mac == MAC
    assert interfaces.find(DOMAIN, OTHER.upper()).type == "bridge"


def test_none_and_too_many() -> None:
    for word in ("", "52:54:00:00:00:99", "eth0"):
        with pytest.raises(NotFound, match=MAC):
            interfaces.find(DOMAIN, word)
    for word in ("vnet7", "net0"):
        with pytest.raises(Conflict, match="2 of that name"):
            interfaces.find(DOMAIN, word)


def test_a_new_address_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter((1, 2, 0xABCDEF))
    monkeypatch.setattr(interfaces, "getrandbits", lambda bits: next(drawn))
    assert interfaces.new_mac({MAC, OTHER}) == "52:54:00:ab:cd:ef"


@pytest.mark.parametrize("text", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "x", "52-54-00-0-0-1"])
def test_addresses_that_no_interface_can_have(text: str) -> None:
    with pytest.raises(InvalidInput):
        interfaces.station(text)
    assert interfaces.station("52:54:00:AB:00:01") == "52:54:00:ab:00:01"


def test_rows() -> None:
    port = {"name": "p", "path": "/run/a.sock", "link": "up", "segment": "blue", "trunk": [],
            "reason": ""}  # fmt: skip
    other, mine, _ = interfaces.rows(DOMAIN, interfaces.by_path([port, {"path": ""}]))
    assert (mine["port"], mine["link"], mine["segment"]) == ("p", "up", "blue")
    assert (mine["interface"], mine["alias"], mine["source"]) == ("vnet7", "net0", "/run/a.sock")
    assert (other["source"], other["link"], other["port"]) == ("br0", None, None)
    assert interfaces.rows(DOMAIN, {})[1]["link"] == "no port"


def test_a_port_is_found_through_a_link(tmp_path: pathlib.Path) -> None:
    real = tmp_path.resolve() / "run"
    real.mkdir()
    (tmp_path / "var").symlink_to(real)
    ports = {f"{real}/a.sock": {"name": "p"}}
    for path in (f"{tmp_path}/var/a.sock", f"{real}/a.sock"):
        assert interfaces.port_at(ports, path) == {"name": "p"}
    assert interfaces.port_at(ports, f"{real}/b.sock") is interfaces.port_at(ports, "") is None
