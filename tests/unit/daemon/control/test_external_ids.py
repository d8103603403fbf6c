# SPDX-License-Identifier: Apache-2.0
"""Whose a port is, when it was made, where its socket may be, what has changed: agents ask that."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch.daemon import reconcile
from vif_uswitch.exceptions import InvalidInput

IDS = {"instance": "0b9d3a52-9c5b-4a35-9a4e-6f9c0f9d1a11", "owner": "nova"}


def test_they_are_kept_shown_replaced_and_no_business_of_the_fabric(control: Control) -> None:
    with control.client() as client:
        port = client.port_add({"name": "vm1", "external_ids": IDS})["port"]
        assert port["external_ids"] == IDS
        assert client.port_ensure({"name": "vm1"})["port"]["external_ids"] == IDS
        config = control.fabric.ports[0]
        assert client.port_set("vm1", {"external_ids": {"a": "\u00fc b"}})["changed"]
        assert control.fabric.ports[0] == config
        assert client.port_show("vm1")["port"]["external_ids"] == {"a": "\u00fc b"}
        assert not client.port_set("vm1", {"external_ids": {"a": "\u00fc b"}})["changed"]
        (row,) = json.loads((control.directory / "state.json").read_bytes())["ports"]
        assert row["port"]["external_ids"] == {"a": "\u00fc b"}
        assert client.port_set("vm1", {"external_ids": {}})["port"]["external_ids"] == {}
        up0 = client.uplink_ensure({"name": "up0", "ifname": "eth7", "external_ids": IDS})
        assert up0["uplink"]["port"]["external_ids"] == IDS


def test_ports_are_found_by_them(control: Control) -> None:
    with control.client() as client:
        for name, ids in (("a", IDS), ("b", {}), ("c", {"owner": "nova"}), ("d", {"x": "nova"})):
            client.port_add({"name": name, "segment": "s", "external_ids": ids},
                            create_segments=True)  # fmt: skip

        def found(*pair: str, **more: Any) -> list[str]:
            ports = client.port_list(external_id=(pair[0], pair[1]), **more)
            return [port["name"] for port in ports]

        assert found("owner", "nova") == ["a", "c"]
        assert found("instance", IDS["instance"], segment="s") == ["a"]
        assert found("owner", "nov") == found("", "") == []


@pytest.mark.parametrize(("ids", "words"), [
    ({"Key": "v"}, r"external_ids {'Key': 'v'}: is malformed\. Whose the port is.*lower case"),
    ({"k": 5}, r"external_ids {'k': 5}: must be a string, not an integer"),
    ({"k": "v" * 129}, "length of at most 128"),
    ({f"k{i}": "" for i in range(17)}, "length of at most 16"),
    ({"k" * 33: ""}, "is malformed"),
    ({"k\n": ""}, "is malformed"),
    ({"k": "a\x1b[2J"}, "external id k .*cannot be printed"),
    ({"k": "\ud800"}, "external id k .*cannot be printed"),
    (None, "must be an object, not null"),
    ([], "must be an object, not a list"),
])  # fmt: skip
def test_what_they_cannot_be(control: Control, ids: Any, words: str) -> None:
    with control.client() as client, pytest.raises(InvalidInput, match=words):
        client.port_add({"name": "vm1", "external_ids": ids})


def test_each_port_has_its_own_time_even_if_the_clock_goes_back(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time_ns() // 1000
    with control.client() as client:
        first = client.port_ensure({"name": "vm1"})["port"]["created_us"]
        assert before <= first <= time.time_ns() // 1000
        assert client.port_ensure({"name": "vm1", "mtu": 1400})["port"]["created_us"] == first
        assert client.port_set("vm1", {"mtu": 1450})["port"]["created_us"] == first
        client.port_delete("vm1")
        monkeypatch.setattr(reconcile.time, "time_ns", lambda: 5_000)  # type: ignore[attr-defined]
        again = client.port_ensure({"name": "vm1"})["port"]["created_us"]
        other = client.uplink_ensure({"name": "up0", "ifname": "eth7"})["uplink"]["port"]
        assert first < again < other["created_us"]


def test_the_time_survives_a_restart(control: Control) -> None:
    with control.client() as client:
        first = client.port_ensure({"name": "vm1"})["port"]["created_us"]
    assert control.store.load().port("vm1").created_us == first


def test_show_says_where_sockets_are(control: Control) -> None:
    with control.client() as client:
        assert client.show()["daemon"]["vhost_socket_dir"] == str(control.vhost)
        assert client.port_add({"name": "a"})["port"]["path"] == f"{control.vhost}/a.sock"


def test_a_revision_tells_whether_to_list_again(control: Control) -> None:
    with control.client() as client:
        seen = [client.version()["revision"]]

        def moved() -> bool:
            seen.append(client.version()["revision"])
            return seen[-1] not in seen[:-1]

        client.port_list()
        assert not moved(), "looking is no change"
        client.port_add({"name": "vm1"})
        assert moved()
        assert not client.port_ensure({"name": "vm1"})["changed"]
        assert not moved()
        client.port_set("vm1", {"external_ids": IDS})
        assert moved()
        client.segment_add("s")
        assert moved()
        client.port_delete("vm1")
        assert moved()
