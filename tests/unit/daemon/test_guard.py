# SPDX-License-Identifier: Apache-2.0
"""What a port may claim to be: which guards the API takes, and what becomes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch.api import wire
from vif_uswitch.api.names import DROP_TEXT
from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.addresses import format_prefix, parse_prefix
from vif_uswitch.daemon.model import PortLive, TagRow
from vif_uswitch.dataplane.base import GuardPair
from vif_uswitch.dataplane.live import QueueCounters, RingLive
from vif_uswitch.exceptions import InvalidInput, ProtocolError

MAC, OTHER = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
RAW = bytes.fromhex("fa163e000001")
BLOB_MAX = 32768  # US_BLOB_MAX


def pairs(*ips: str | None, mac: str = MAC) -> dict[str, Any]:
    return {"pairs": [{"mac": mac, "ip": ip} for ip in ips]}


@pytest.mark.parametrize(("text", "address", "length", "shown"), [
    ("10.0.0.5", "0a000005", 32, "10.0.0.5"),
    ("10.0.0.5/24", "0a000000", 24, "10.0.0.0/24"),
    ("10.0.0.5/32", "0a000005", 32, "10.0.0.5"),
    ("0.0.0.0/0", "00000000", 0, "0.0.0.0/0"),
    ("FD00::1", "fd00" + 26 * "0" + "01", 128, "fd00::1"),
    ("fd00::1/64", "fd00" + 28 * "0", 64, "fd00::/64"),
    ("::/0", 32 * "0", 0, "::/0"),
])  # fmt: skip
def test_prefixes_have_one_form(text: str, address: str, length: int, shown: str) -> None:
    assert parse_prefix(text) == (bytes.fromhex(address), length)
    assert format_prefix(*parse_prefix(text)) == shown


def test_a_guard_is_kept_shown_and_told(control: Control) -> None:
    with control.client() as client:
        assert client.port_add({"name": "a"})["port"]["guard"] is None
        guard = pairs("fd00::1/64", "10.0.0.5", None, "10.0.0.5")
        guard["pairs"] += pairs("10.0.0.6", mac=OTHER.upper())["pairs"]
        port = client.port_set("a", {"guard": guard})["port"]
        told = control.fabric.ports[0].guard
        assert told == (
            GuardPair(RAW), GuardPair(RAW, bytes([10, 0, 0, 5]), 32),
            GuardPair(RAW, bytes.fromhex("fd00") + bytes(14), 64),
            GuardPair(RAW[:5] + b"\2", bytes([10, 0, 0, 6]), 32),
        )  # fmt: skip
        assert port["guard"]["pairs"] == [
            {"mac": MAC, "ip": None}, {"mac": MAC, "ip": "10.0.0.5"},
            {"mac": MAC, "ip": "fd00::/64"}, {"mac": OTHER, "ip": "10.0.0.6"},
        ]  # fmt: skip
        guard["pairs"].reverse()
        assert not client.port_set("a", {"guard": guard})["changed"]
        assert client.port_ensure({"name": "a"})["port"]["guard"] == port["guard"]
        assert control.store.load().port("a").guard == told
        assert client.port_set("a", {"guard": {"pairs": []}})["port"]["guard"] == {"pairs": []}
        seen = [control.fabric.ports[0].guard]
        assert client.port_set("a", {"guard": None})["port"]["guard"] is None
        seen.append(control.fabric.ports[0].guard)
        assert seen == [(), None]
        (row,) = json.loads((control.directory / "state.json").read_bytes())["ports"]
        assert "guard" not in row["port"]


def test_with_the_segment_in_one_call(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "a"})
        client.port_set("a", {"segment": "s", "guard": pairs("10.0.0.5"), "macs": [MAC]},
                        create_segments=True)  # fmt: skip
    config = control.fabric.ports[0]
    assert config.tags == (TagRow(4096, 1),) and config.guard and config.macs == (RAW,)


@pytest.mark.parametrize(("guard", "words"), [
    (pairs("10.0.0.256"), r"IP address 10\.0\.0\.256: is malformed\. Give an address or a prefix"),
    (pairs("10.0.0.5/33"), "10.0.0.5/33: is malformed"),
    (pairs("fd00::/129"), "fd00::/129: is malformed"),
    (pairs("1:2:3"), "1:2:3: is malformed"),
    (pairs("10.0.0.0/255.255.255.0"), r"ip 10\.0\.0\.0/255.*: is malformed\. An IPv4 or IPv6"),
    (pairs("fe80::1%eth0"), "ip fe80::1%eth0: is malformed"),
    (pairs("10.0.0.5\n"), "is malformed"),
    (pairs(""), "is malformed"),
    (pairs("::ffff:10.0.0.5"), r"inside an IPv6 one, which no frame has\. Give 10\.0\.0\.5 itself"),
    (pairs("::ffff:0:0/96"), "inside an IPv6 one"),
    (pairs(None, mac="01:00:5e:00:00:01"), r"01:00:5e:00:00:01: is a group"),
    (pairs(None, mac="00:00:00:00:00:00"), "is all zero"),
    (pairs(None, mac="fa:16"), "mac fa:16: is malformed"),
    ({"pairs": pairs(None)["pairs"] * 257}, "length of at most 256"),
    ({}, r"parameter pairs: is missing\. MAC and IP addresses that the port may claim"),
    ({"pairs": [{"ip": "10.0.0.5"}]}, "parameter mac: is missing"),
    ({"pairs": [{"mac": MAC, "ips": "10.0.0.5"}]}, r"parameter ips: is unknown\. Did you mean ip"),
    ([], "guard .*must be an object or null"),
])  # fmt: skip
def test_guards_that_cannot_be(control: Control, guard: Any, words: str) -> None:
    with control.client() as client, pytest.raises(InvalidInput, match=words):
        client.port_add({"name": "a", "guard": guard})


def test_uplinks_have_none(control: Control) -> None:
    with control.client() as client:
        with pytest.raises(InvalidInput, match="guard: cannot be set on uplink up0: whatever"):
            client.uplink_ensure({"name": "up0", "ifname": "eth7", "guard": pairs("10.0.0.5")})
        client.uplink_ensure({"name": "up0", "ifname": "eth7", "guard": None})
        with pytest.raises(InvalidInput, match="guard: cannot be set on uplink up0"):
            client.port_set("up0", {"guard": {"pairs": []}})


def many(n: int) -> dict[str, Any]:
    return {
        "pairs": [
            {"mac": MAC, "ip": f"fd00:aaaa:bbbb:cccc:dddd:eeee:ffff:{0x1000 + i:x}"}
            for i in range(n)
        ]
    }


def worst() -> PortLive:
    """Every reason to drop a frame, each in its direction, or in one of them."""
    drops = dict.fromkeys(DROP_TEXT, 10**17)
    counters = QueueCounters(frames=2**63, bytes=2**63)
    rings = tuple(RingLive(i, True, True, 32768, 65535, 65535, 2**63) for i in range(16))
    return PortLive(incoming=replace(counters, drops=drops), outgoing=counters, rings=rings)


def test_the_longest_port_still_fits_in_a_line_and_in_the_escrow(control: Control) -> None:
    """Its record is bounded as a whole; beyond that it is refused, and nobody's list breaks."""
    segments = [f"{i:04}".ljust(64, "x") for i in range(512)]
    with control.client(60) as client:
        for segment in segments:
            client.segment_add(segment)
        client.port_add({"name": "p" * 64, "guard": many(256), "macs": [MAC],
                         "external_ids": {"k" * 32: "v" * 128}})  # fmt: skip
        low, high = 0, 512
        while low < high:
            middle = (low + high + 1) // 2
            trunk = [{"vid": i + 1000, "segment": segments[i]} for i in range(middle)]
            try:
                client.port_set("p" * 64, {"trunk": trunk})
                low = middle
            except InvalidInput as error:
                assert "too long for an answer of the API" in str(error)
                high = middle - 1
        assert low > 250
        trunk = [{"vid": i + 1000, "segment": segments[i]} for i in range(low)]
        client.port_set("p" * 64, {"trunk": trunk})
        control.fabric.lives[0] = worst()
        (port,) = client.port_list()
        assert len(port["trunk"]) == low and len(port["guard"]["pairs"]) == 256
        assert client.port_show("p" * 64)["port"]["name"] == "p" * 64
        record = escrow.encode(escrow.PortRecord.of(control.fabric.ports[0]))
        assert len(record) < BLOB_MAX
        with pytest.raises((InvalidInput, ProtocolError)):
            client.port_set("p" * 64, {"description": "\U0001f600" * 256})


def test_a_full_trunk_without_a_guard_is_not_too_long(control: Control) -> None:
    trunk = [{"vid": i + 1000, "segment": f"{i:04}".ljust(64, "x")} for i in range(512)]
    with control.client(60) as client:
        client.port_add({"name": "p" * 64, "trunk": trunk}, create_segments=True)
        assert len(client.port_list()[0]["trunk"]) == 512


def test_pages_of_guarded_ports(control: Control) -> None:
    with control.client(60) as client:
        for i in range(10):
            client.port_add({"name": f"p{i}", "guard": many(256)})
        page = client.call("port.list")
        assert len(page["ports"]) == 2 and page["next"] == "p1"
        assert len(wire.dumps(page)) < wire.MAX_LINE
        assert [len(port["guard"]["pairs"]) for port in client.port_list()] == 10 * [256]
