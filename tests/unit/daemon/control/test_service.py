# SPDX-License-Identifier: Apache-2.0
"""The verbs, over the real socket, with the real state file and a make-believe fabric."""

from __future__ import annotations

import json
import os
import pathlib
import socket
from typing import Any

import jsonschema
import pytest

from tests.unit.daemon.control_rig import UP, Control
from vif_uswitch.api import wire
from vif_uswitch.api.catalogue import CATALOGUE
from vif_uswitch.api.schema import catalogue
from vif_uswitch.daemon.model import FdbEntry, Kind, Link, PortLive, TagRow
from vif_uswitch.daemon.ports import Desired, Port
from vif_uswitch.dataplane.base import DataplaneGone
from vif_uswitch.dataplane.live import QueueCounters
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
    UnknownMethod,
    USwitchError,
)


def saved(control: Control) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((control.directory / "state.json").read_bytes())
    return value


def names_saved(control: Control) -> list[str]:
    return [row["port"]["name"] for row in saved(control)["ports"]]


def test_every_method_of_the_wire_has_types_and_a_verb(control: Control) -> None:
    assert set(CATALOGUE) == set(wire.METHODS)
    with control.client() as client, pytest.raises(UnknownMethod, match=r"v1\.schema"):
        client.call("port.explode")


def test_add_port_is_durable_before_it_is_answered_and_reaches_the_fabric(control: Control) -> None:
    with control.client() as client:
        client.segment_add("blue", "the blue one")
        answer = client.port_add(
            {
                "name": "vm1",
                "mode": "client",
                "segment": "blue",
                "trunk": [{"vid": 20, "segment": "red"}],
                "macs": ["52:54:00:00:00:0A"],
                "mtu": 9000,
            },
            create_segments=True,
        )
    assert answer["created"] and answer["changed"]
    port = answer["port"]
    assert port["path"] == str(control.vhost / "vm1.sock")
    assert port["macs"] == ["52:54:00:00:00:0a"]
    assert (port["mtu"], port["flood_rate"], port["fdb_quota"]) == (9000, 1000, 256)
    assert port["link"] == "waiting"
    assert names_saved(control) == ["vm1"]
    config = control.fabric.ports[0]
    assert config.tags == (TagRow(4096, 1), TagRow(20, 2))
    assert config.macs == (bytes.fromhex("52540000000a"),)
    assert config.max_frame == 9014


def test_add_refuses_an_existing_name_and_says_what_to_do(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1"})
        with pytest.raises(Conflict, match=r"port vm1: exists already\. .*port set vm1"):
            client.port_add({"name": "vm1"})


def test_unknown_segment_is_not_created_silently(control: Control) -> None:
    with control.client() as client:
        with pytest.raises(NotFound, match=r"segment blue.*uswitchctl segment add blue"):
            client.port_add({"name": "vm1", "segment": "blue"})
        assert client.port_list() == []


def test_ensure_twice_is_once_and_keeps_what_is_not_named(control: Control) -> None:
    with control.client() as client:
        client.port_ensure({"name": "vm1", "segment": "blue"}, create_segments=True)
        client.port_set("vm1", {"mtu": 4000})
        again = client.port_ensure({"name": "vm1"})
        assert not again["created"] and not again["changed"]
        assert (again["port"]["segment"], again["port"]["mtu"]) == ("blue", 4000)
        moved = client.port_ensure({"name": "vm1", "segment": None})
        assert moved["changed"] and moved["port"]["segment"] is None
    assert not control.fabric.ports[0].tags


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"mode": "client"}, "mode server, not client"),
        ({"path": "@/other.sock"}, "path"),
        ({"type": "tap", "ifname": "tap0"}, "type vhost-user, not tap"),
    ],
)
def test_ensure_does_not_turn_a_port_into_another(
    control: Control, change: dict[str, str], what: str
) -> None:
    if "path" in change:
        change = {"path": change["path"].replace("@", str(control.vhost))}
    with control.client() as client:
        client.port_ensure({"name": "vm1"})
        with pytest.raises(Conflict, match=what):
            client.port_ensure({"name": "vm1", **change})


def test_delete_is_idempotent(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1"})
        assert client.port_delete("vm1") is True
        assert client.port_delete("vm1") is False
    assert control.fabric.ports == {} and names_saved(control) == []


def test_delete_of_a_port_that_became_anothers(control: Control) -> None:
    """Who looked at a port and then deletes it may say which one was meant."""
    with control.client() as client:
        client.port_add({"name": "vm1", "external_ids": {"owner": "me", "asked-at": "2"}})
        assert client.port_delete("vm1", {"owner": "me", "asked-at": "1"}) is False
        assert client.port_delete("vm1", {"owner": "me", "start": "2"}) is False
        assert [port["name"] for port in client.port_list()] == ["vm1"]
        assert client.port_delete("vm1", {"owner": "me"}) is True
        assert client.port_list() == []


def test_admin_down_cuts_off_and_keeps_the_rows(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1", "segment": "a"}, create_segments=True)
        control.fabric.lives[0] = UP
        down = client.port_set("vm1", {"admin_up": False})["port"]
        assert (down["link"], down["segment"]) == ("down", "a")
        assert not control.fabric.ports[0].tags
        up = client.port_set("vm1", {"admin_up": True})["port"]
        assert up["link"] == "up" and control.fabric.ports[0].tags == (TagRow(4096, 1),)


# ---- "Bad input" of the control API ----


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        ({"colour": 1}, InvalidInput, "colour: is unknown"),
        ({"mtuu": 1500}, InvalidInput, "Did you mean mtu"),
        ({"trunk": [{"vid": 0, "segment": "a"}]}, InvalidInput, "vid 0"),
        ({"trunk": [{"vid": 4095, "segment": "a"}]}, InvalidInput, "vid 4095.*1 to 4094"),
        (
            {"trunk": [{"vid": 5, "segment": "a"}, {"vid": 5, "segment": "b"}]},
            InvalidInput, "VLAN id 5: has two rows",
        ),
        ({"segment": "a", "trunk": [{"vid": 5, "segment": "a"}]}, InvalidInput, "two rows"),
        ({"macs": ["01:00:5e:00:00:01"]}, InvalidInput, "01:00:5e:00:00:01.*multicast"),
        ({"macs": ["ff:ff:ff:ff:ff:ff"]}, InvalidInput, "broadcast"),
        ({"macs": ["00:00:00:00:00:00"]}, InvalidInput, "all zero"),
        ({"macs": ["52:54:00:00:00"]}, InvalidInput, "malformed"),
        ({"macs": ["52:54:00:00:00:01"] * 2}, InvalidInput, "twice"),
        ({"macs": [f"52:54:00:00:00:{i:02x}" for i in range(65)]}, InvalidInput, "at most 64"),
        ({"mtu": 67}, InvalidInput, "mtu 67.*68"),
        ({"mtu": 65522}, InvalidInput, "mtu 65522.*65535"),
        ({"path": "/etc/passwd"}, InvalidInput, "not below vhost_socket_dir"),
        ({"path": "relative.sock"}, InvalidInput, "not absolute"),
        ({"path": "@/" + "x" * 108}, InvalidInput, "path .*107"),
        ({"path": "@/../control.sock"}, InvalidInput, r"'\.\.'"),
        ({"path": "@/a\x00b"}, InvalidInput, "cannot be printed"),
        ({"type": "tap"}, InvalidInput, "needs one"),
        ({"type": "tap", "ifname": "x" * 16}, InvalidInput, "ifname"),
        ({"type": "tap", "ifname": "a/b"}, InvalidInput, "ifname"),
        ({"type": "tap", "ifname": "t0", "path": "@/x"}, InvalidInput, "neither path"),
        ({"ifname": "t0"}, InvalidInput, "vhost-user port has none"),
        ({"description": "a\nb"}, InvalidInput, "cannot be printed"),
        ({"description": "\ud800"}, InvalidInput, "cannot be printed"),
        ({"description": "x" * 257}, InvalidInput, "256"),
        ({"mtu": 2**63}, InvalidInput, "65521"),
        ({"flood_rate": -1}, InvalidInput, "at least 0"),
        ({"admin_up": 1}, InvalidInput, "boolean"),
    ],
)  # fmt: skip
def test_bad_ports_are_refused_and_disturb_nothing(
    control: Control, spec: dict[str, Any], kind: type[USwitchError], text: str
) -> None:
    if "path" in spec:
        spec = {**spec, "path": spec["path"].replace("@", str(control.vhost))}
    with control.client() as client:
        client.port_add({"name": "good", "segment": "a"}, create_segments=True)
        before = (control.directory / "state.json").read_bytes()
        calls = list(control.fabric.calls)
        with pytest.raises(kind, match=text):
            client.port_add({"name": "bad", **spec}, create_segments=True)
        assert (control.directory / "state.json").read_bytes() == before
        assert control.fabric.calls == calls
        assert [port["name"] for port in client.port_list()] == ["good"]


@pytest.mark.parametrize("name", ["", "a b", "-x", ".x", "a/b", "a\n", "x" * 65, "é", 5, None])
def test_bad_names_are_refused(control: Control, name: object) -> None:
    with control.client() as client, pytest.raises(InvalidInput, match="name"):
        client.port_add({"name": name})


def test_duplicate_path_ifname_and_mac(control: Control) -> None:
    with control.client() as client:
        client.port_add(
            {"name": "a", "segment": "s", "macs": ["52:54:00:00:00:01"]}, create_segments=True
        )
        client.port_add({"name": "t", "type": "tap", "ifname": "tap0"})
        with pytest.raises(Conflict, match="socket of port a"):
            client.port_add({"name": "b", "path": str(control.vhost / "a.sock")})
        with pytest.raises(Conflict, match="device of port t"):
            client.port_add({"name": "b", "type": "tap", "ifname": "tap0"})
        with pytest.raises(Conflict, match="pinned to port a"):
            client.port_add({"name": "b", "segment": "s", "macs": ["52:54:00:00:00:01"]})
        # The same address in another segment is another station.
        other = {"name": "b", "segment": "s2", "macs": ["52:54:00:00:00:01"]}
        client.port_add(other, create_segments=True)
        with pytest.raises(Conflict, match="pinned to port a"):
            client.port_set("b", {"segment": "s"})


def test_socket_path_must_be_ours(control: Control, tmp_path: pathlib.Path) -> None:
    (control.vhost / "out").symlink_to(tmp_path)
    (control.vhost / "file").write_text("precious")
    (control.vhost / "link").symlink_to("/etc/passwd")
    (control.vhost / "sub").mkdir()
    with control.client() as client:
        for path, text in (("out/x", "it leads to"), ("file", "no socket"), ("link", "no socket")):
            with pytest.raises(InvalidInput, match=text):
                client.port_add({"name": "a", "path": str(control.vhost / path)})
        client.port_add({"name": "a", "path": str(control.vhost / "sub" / "x")})
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(control.vhost / "stale"))
        client.port_add({"name": "b", "path": str(control.vhost / "stale")})
    assert (control.vhost / "file").read_text() == "precious"


def test_segment_in_use_is_refused_naming_the_ports(control: Control) -> None:
    with control.client() as client:
        for i in range(10):
            client.port_add({"name": f"vm{i}", "segment": "blue"}, create_segments=True)
        with pytest.raises(Busy, match=r"vm0, vm1, .* and 2 more.*--no-segment"):
            client.segment_delete("blue")
        for i in range(10):
            client.port_set(f"vm{i}", {"segment": None})
        assert client.segment_delete("blue") is True
        assert client.segment_delete("blue") is False
    assert ("flush", (None, 1)) in control.fabric.calls


def test_ids_are_stable_over_a_restart_and_reused_only_when_free(short_dir: pathlib.Path) -> None:
    with Control(short_dir).serving() as first, first.client() as client:
        for name in ("a", "b", "c"):
            client.port_add({"name": name, "segment": f"s-{name}"}, create_segments=True)
        client.port_delete("b")
    with Control(short_dir).serving() as second, second.client() as client:
        assert {cfg.name: cfg.port_id for cfg in second.fabric.ports.values()} == {"a": 0, "c": 2}
        assert client.port_add({"name": "d"})["port"]["id"] == 1
        assert [segment["id"] for segment in client.segment_list()] == [1, 2, 3]


def test_table_of_ports_full(control: Control) -> None:
    async def fill() -> None:
        rows = {f"p{i}": Port(i, f"p{i}", Kind.TAP, ifname=f"t{i}") for i in range(1024)}
        control.rec.desired = Desired(rows)

    control.on_loop(fill)
    with control.client() as client:
        with pytest.raises(ResourceExhausted, match="all 1024 are in use"):
            client.port_add({"name": "one-more"})
        listed = client.port_list()  # several pages
        assert len(listed) == 1024 and len({port["name"] for port in listed}) == 1024


# ---- what the fabric says no to, and what breaks ----


def test_a_port_the_fabric_refuses_is_taken_back(control: Control) -> None:
    control.fabric.fail["tap"] = Unavailable("tap", "t0", "permission denied", "Ask root.")
    with control.client() as client:
        with pytest.raises(Unavailable, match="Ask root"):
            client.port_add({"name": "tap", "type": "tap", "ifname": "t0"})
        assert client.port_list() == []
        assert names_saved(control) == []
        assert control.fabric.calls[-1] == ("remove", 0)


def test_a_change_the_fabric_refuses_leaves_the_former_port(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1", "mtu": 2000})
        control.fabric.fail["vm1"] = OSError(12, "Cannot allocate memory")
        with pytest.raises(Unavailable, match="Cannot allocate memory"):
            client.port_set("vm1", {"mtu": 3000})
        control.fabric.fail.clear()
        control.on_loop(control.rec.heal)
        assert client.port_show("vm1")["port"]["mtu"] == 2000
        assert saved(control)["ports"][0]["port"]["mtu"] == 2000
        assert control.fabric.ports[0].mtu == 2000


def test_a_dead_dataplane_is_no_refusal(control: Control) -> None:
    control.fabric.fail["vm1"] = DataplaneGone("the dataplane died")
    with control.client() as client:
        assert client.port_add({"name": "vm1"})["created"]
        assert names_saved(control) == ["vm1"]
        control.fabric.fail_remove = DataplaneGone("the dataplane died")
        assert client.port_delete("vm1")


def test_a_defect_of_the_fabric_reaches_nobody_as_a_traceback(control: Control) -> None:
    control.fabric.fail["vm1"] = ZeroDivisionError("secret detail")
    with control.client() as client:
        with pytest.raises(USwitchError, match=r"internal error.*incident 1") as caught:
            client.port_add({"name": "vm1"})
        assert "secret" not in str(caught.value) and "Traceback" not in str(caught.value)
        assert client.port_list() == []


def test_an_id_that_could_not_be_removed_is_not_given_out(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "a"})
        control.fabric.fail_remove = OSError(5, "Input/output error")
        assert client.port_delete("a") is True
        assert client.port_add({"name": "b"})["port"]["id"] == 1
        control.fabric.fail_remove = None
        control.on_loop(control.rec.heal)
        assert client.port_add({"name": "c"})["port"]["id"] == 0


def test_replay_goes_past_a_port_that_fails_and_removes_what_nobody_wants(
    short_dir: pathlib.Path,
) -> None:
    with Control(short_dir).serving() as first, first.client() as client:
        for name in ("a", "b", "c"):
            client.port_add({"name": name})
    second = Control(short_dir)
    second.fabric.fail["b"] = Unavailable("socket", "b.sock", "permission denied")
    second.fabric.adopted = [0, 1, 9]
    with second.serving(), second.client() as client:
        assert ("remove", 9) in second.fabric.calls and ("remove", 1) not in second.fabric.calls
        found = {port["name"]: (port["link"], port["reason"]) for port in client.port_list()}
        assert found["a"] == ("waiting", "") == found["c"]
        assert found["b"] == ("broken", "socket b.sock: permission denied")
        second.fabric.fail.clear()
        second.on_loop(second.rec.heal)
        assert client.port_show("b")["port"]["link"] == "waiting"


# ---- what is shown ----


def test_port_show_stats_and_drops(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1"})
        client.port_add({"name": "vm2"})
        control.fabric.lives[0] = UP
        detail = client.port_show("vm1")
        assert detail["virtio_features"] == hex(UP.virtio_features)
        assert [drop["reason"] for drop in detail["drops"]] == [
            "ring_full", "no_receiver", "link_down",
        ]  # fmt: skip
        assert detail["drops"][0]["text"] == "the receiver has no free buffers"
        drops = client.drops()
        assert [(d["port"], d["direction"], d["frames"]) for d in drops] == [
            ("vm1", "out", 5), ("vm1", "in", 3), ("vm1", "out", 1),
        ]  # fmt: skip
        rows = {row["port"]: row for row in client.stats()}
        assert rows["vm1"]["incoming"]["frames"] == 10 and rows["vm1"]["outgoing"]["dropped"] == 6
        assert rows["vm2"]["incoming"]["frames"] == 0


def test_a_fence_is_shown_with_its_reason(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1", "admin_up": False})
        control.fabric.lives[0] = PortLive(
            link=Link.BROKEN, broken_reason="avail_head", broken_text="the avail ring names ..."
        )
        port = client.port_show("vm1")["port"]
        assert (port["link"], port["reason"]) == ("broken", "the avail ring names ...")


def test_show_sums_up(control: Control) -> None:
    with control.client() as client:
        for i in range(3):
            client.port_add({"name": f"vm{i}", "segment": "blue"}, create_segments=True)
        control.fabric.lives[0] = UP
        control.fabric.lives[1] = UP
        host = client.show()
    assert host["links"] == {"up": 2, "waiting": 1}
    assert host["incoming"]["frames"] == 20
    assert host["drops"][0] == {
        "reason": "ring_full", "frames": 10, "ports": 2, "text": "the receiver has no free buffers",
    }  # fmt: skip
    assert host["dataplane"]["pid"] == 4242 and host["daemon"]["pid"] == os.getpid()


def test_fdb_list_filters_pages_and_flush(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm0", "segment": "blue"}, create_segments=True)
        client.port_add({"name": "vm1", "segment": "red"}, create_segments=True)
        control.fabric.fdb = [
            FdbEntry(bytes([2, 0, 0, i >> 16, i >> 8 & 255, i & 255]), 1 + i % 2, i % 2, 5, i < 2)
            for i in range(3000)
        ]
        assert len(client.fdb_list()) == 3000
        only = client.fdb_list(port="vm1")
        assert len(only) == 1500 and {entry["segment"] for entry in only} == {"red"}
        assert len(client.fdb_list(mac="02:00:00:00:00:07")) == 1
        assert len(client.fdb_list(mac="02:00:00:00:00:0A", segment="red")) == 0
        with pytest.raises(NotFound, match="port nobody"):
            client.fdb_list(port="nobody")
        with pytest.raises(InvalidInput, match="cursor"):
            client.call("fdb.list", cursor="1:0x")
        assert client.fdb_flush(port="vm1") == 1499
        assert client.fdb_flush() == 1499
        assert client.fdb_flush(segment="blue") == 0


def test_long_names_and_full_tables_fit_in_a_line(control: Control) -> None:
    name = "x" * 62
    rows = [{"vid": 1 + i, "segment": f"{i:03d}{'s' * 61}"} for i in range(512)]
    macs = [f"52:54:00:00:00:{i:02x}" for i in range(64)]
    text = "\u4e16" * 256
    with control.client() as client:
        spec = {"name": f"{name}1", "trunk": rows, "macs": macs, "description": text}
        client.port_add(spec, create_segments=True)
        assert client.port_show(f"{name}1")["port"]["trunk"] == rows
        assert len(client.port_list()) == 1
        assert len(client.segment_list()) == 512
        with pytest.raises(InvalidInput, match="at most 512"):
            client.port_set(f"{name}1", {"trunk": [*rows, {"vid": 600, "segment": "a"}]})


def test_answers_match_the_published_schema(control: Control) -> None:
    control.fabric.lives[0] = UP
    control.fabric.fdb = [FdbEntry(bytes([2, 0, 0, 0, 0, 1]), 1, 0, 5, False)]
    published = catalogue()

    def check(verb: str, **params: Any) -> None:
        method = published["methods"][wire.PREFIX + verb]
        for side, value in (("params", params), ("result", client.call(verb, **params))):
            jsonschema.Draft202012Validator({**method[side], "$defs": published["$defs"]}).validate(
                value
            )

    with control.client() as client:
        check("segment.add", name="blue")
        check("port.add", port={"name": "vm1", "segment": "blue", "macs": ["02:00:00:00:00:01"]})
        check("port.ensure", port={"name": "vm1", "mtu": None})
        check("port.set", name="vm1", changes={"trunk": [{"vid": 3, "segment": "s"}]},
              create_segments=True)  # fmt: skip
        for verb in ("port.list", "segment.list", "fdb.list", "drops", "stats", "show", "version"):
            check(verb)
        for verb in ("worker.list", "schema", "fdb.flush"):
            check(verb)
        check("port.show", name="vm1")
        check("segment.show", name="blue")
        check("port.delete", name="vm1")
        check("segment.delete", name="blue")


def test_counters_of_a_port_survive_names_that_are_unknown(control: Control) -> None:
    with control.client() as client:
        client.port_add({"name": "vm1"})
        control.fabric.lives[0] = PortLive(incoming=QueueCounters(drops={"brand_new": 2}))
        assert client.drops()[0]["text"] == "brand new"
