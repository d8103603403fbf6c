# SPDX-License-Identifier: Apache-2.0
"""The state file: whole states only, whatever fails and whenever the process dies."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.daemon.control_rig import Control
from vif_uswitch.daemon import ports, state
from vif_uswitch.daemon.addresses import parse_prefix
from vif_uswitch.daemon.model import Kind, Mode
from vif_uswitch.daemon.ports import Desired, Port, Segment
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.dataplane.base import GuardPair
from vif_uswitch.exceptions import InvalidInput, ResourceExhausted, StateDamaged, Unavailable

OLD = Desired({"a": Port(0, "a", Kind.VHOST, "/v/a.sock")}, {"s": Segment(1, "s")})
NEW = ports.put_port(OLD, Port(1, "b", Kind.TAP, ifname="t0", segment="s"))

NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
TEXT = st.text(max_size=20).filter(str.isprintable)
MAC = st.binary(min_size=6, max_size=6).filter(lambda mac: any(mac) and not mac[0] & 1)
KEY = st.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True)
PAIR = st.builds(GuardPair, MAC) | st.builds(
    lambda mac, ip, length: GuardPair(mac, *parse_prefix(f"{ip}/{length}")),
    MAC, st.ip_addresses(v=4), st.integers(0, 32),
) | st.builds(
    lambda mac, ip, length: GuardPair(mac, *parse_prefix(f"{ip}/{length}")),
    MAC, st.ip_addresses(v=6, network="fd00::/8"), st.integers(8, 128),
)  # fmt: skip
GUARDS = st.sets(PAIR, max_size=4).map(
    lambda pairs: tuple(sorted(pairs, key=lambda p: (p.mac, len(p.ip), p.ip, p.prefix_len)))
)


@st.composite
def states(draw: st.DrawFn) -> Desired:
    """Any state that the API could have brought about."""
    names = draw(st.lists(NAME, unique=True, max_size=4))
    ids = draw(st.lists(st.integers(1, 4095), unique=True, min_size=4, max_size=4))
    segments = {n: Segment(i, n, draw(TEXT)) for n, i in zip(names, ids, strict=False)}
    numbers = draw(st.lists(st.integers(0, 1023), unique=True, max_size=5))
    rows = {}
    for number in numbers:
        used = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        vids = draw(st.lists(st.integers(1, 4094), unique=True, min_size=4, max_size=4))
        tap = draw(st.booleans())
        kind = Kind.TAP if tap else draw(st.sampled_from([Kind.VHOST, Kind.NIC, Kind.XDP]))
        own: dict[str, Any] = {"ifname": f"t{number}"}
        if kind is Kind.TAP:
            own["netns"] = draw(st.sampled_from(["", f"qdhcp-{number}"]))
        elif kind is Kind.VHOST:
            own = {"path": f"/v/{number}.sock", "mode": draw(st.sampled_from(Mode))}
        elif kind is Kind.NIC:
            own = {
                "pci": f"{number:04x}:05:00.0",
                "irq_us": draw(st.none() | st.integers(0, 10_000)),
                "lro": draw(st.booleans()),
            }
        if kind.is_uplink:
            own |= {
                "physnet": draw(st.sampled_from(["", f"net{number}"])),
                "ring_size": draw(st.none() | st.integers(0, 32768)),
                "zero_copy": draw(st.booleans()),
            }
        rows[f"p{number}"] = Port(
            number, f"p{number}", kind, **own,
            segment=used[0] if used else None,
            trunk=tuple(sorted(zip(vids, used[1:], strict=False))),
            macs=tuple({bytes([2, 0, 0, number >> 8, number & 255, draw(st.integers(0, 255))])}),
            mtu=draw(st.none() | st.integers(68, 65521)),
            flood_rate=draw(st.none() | st.integers(0, 2**32 - 1)),
            fdb_quota=draw(st.none() | st.integers(0, 1000)),
            queues=None if tap else draw(st.none() | st.integers(1, 8)),
            max_kbps=draw(st.none() | st.integers(0, 2**31 - 1)),
            max_burst_kbps=draw(st.none() | st.integers(0, 2**31 - 1)),
            max_kpps=draw(st.none() | st.integers(0, 2**31 - 1)),
            max_burst_kpps=draw(st.none() | st.integers(0, 2**31 - 1)),
            admin_up=draw(st.booleans()),
            description=draw(TEXT),
            external_ids=tuple(sorted(draw(st.dictionaries(KEY, TEXT, max_size=2)).items())),
            guard=None if kind.is_uplink else draw(st.none() | GUARDS),
            created_us=draw(st.integers(0, 2**63 - 1)),
        )  # fmt: skip
    return Desired(rows, segments)


@given(states())
def test_what_was_saved_is_what_is_loaded(desired: Desired) -> None:
    data = state.encode(desired)
    assert data.isascii()
    assert state.decode(data, "x") == desired


@given(states(), st.data())
def test_a_damaged_file_is_refused_or_means_something_whole(
    desired: Desired, data: st.DataObject
) -> None:
    good = state.encode(desired)
    position = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:position]  # cut off
    else:
        bad = good[:position] + bytes([data.draw(st.integers(0, 255))]) + good[position + 1 :]
    try:
        found = state.decode(bad, "x")
    except StateDamaged as error:
        assert "x" in str(error)
    else:
        ports.check_whole(found, AssertionError)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(StateDamaged):
        state.decode(data, "x")


def test_a_state_without_uplinks_is_one_that_earlier_releases_read() -> None:
    assert json.loads(state.encode(NEW))["format"] == 1
    assert "uplinks" not in json.loads(state.encode(NEW))
    uplink = Port(2, "up0", Kind.NIC, pci="0000:05:00.0", physnet="phys")
    value = json.loads(state.encode(ports.put_port(NEW, uplink)))
    assert value["format"] == 2
    assert [row["uplink"]["name"] for row in value["uplinks"]] == ["up0"]
    value["uplinks"].append({**value["uplinks"][0], "id": 9})
    with pytest.raises(StateDamaged, match="twice"):
        state.decode(json.dumps(value).encode(), "x")


def test_files_of_former_releases_are_read() -> None:
    """They have neither external ids, guards, nor the time at which a port was made."""
    port = {
        "name": "vm1", "type": "vhost-user", "path": "/v/vm1.sock", "mode": "server", "ifname": "",
        "segment": "s", "trunk": [], "macs": ["52:54:00:00:00:01"], "mtu": None, "flood_rate": None,
        "flood_burst": None, "fdb_quota": None, "queues": None, "max_kbps": None,
        "max_burst_kbps": None, "max_kpps": None, "max_burst_kpps": None, "admin_up": True,
        "description": "",
    }  # fmt: skip
    more = ("path", "mode", "type")
    uplink = {key: value for key, value in port.items() if key not in more} | {
        "name": "up0", "ifname": "eth7", "pci": "", "physnet": "", "ring_size": None,
        "irq_us": None, "zero_copy": False, "lro": False, "segment": None,
        "trunk": [{"vid": 9, "segment": "s"}],
        "macs": [],
    }  # fmt: skip
    for format_ in (1, 2, 3):
        file: dict[str, Any] = {
            "format": format_, "segments": [{"id": 1, "name": "s", "description": ""}],
            "ports": [{"id": 7, "port": port}],
        }  # fmt: skip
        if format_ > 1:
            file["uplinks"] = [{"id": 8, "uplink": uplink}]
        if format_ > 2:
            file["uplinks"][0]["static"] = True
        found = state.decode(json.dumps(file).encode(), "x")
        assert found.port("vm1") == Port(
            7, "vm1", Kind.VHOST, "/v/vm1.sock", segment="s", macs=(b"\x52\x54\0\0\0\1",)
        )
        if format_ > 1:
            expected = Port(8, "up0", Kind.XDP, ifname="eth7", trunk=((9, "s"),))
            assert found.port("up0") == replace(expected, static=format_ == 3)
        assert json.loads(state.encode(found))["format"] == format_


def test_what_needs_the_newest_format() -> None:
    (port,) = (port for port in NEW.ports.values() if port.name == "b")
    for change in (
        {"created_us": 5}, {"guard": ()}, {"guard": (GuardPair(b"\2\0\0\0\0\1"),)},
        {"external_ids": (("a", "b"),)}, {"netns": "qdhcp-1"},
    ):  # fmt: skip
        desired = ports.put_port(NEW, replace(port, **change))
        assert json.loads(state.encode(desired))["format"] == 4
        assert state.decode(state.encode(desired), "x") == desired


def edited(change: Callable[[dict[str, Any]], Any]) -> bytes:
    value = json.loads(state.encode(NEW))
    change(value)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v: v.update(format=5), "newer release"),
        (lambda v: v.update(format=0), "format is 0"),
        (lambda v: v.update(format=True), "bool"),
        (lambda v: v.pop("format"), "format is None"),
        (lambda v: v.pop("ports"), "ports"),
        (lambda v: v.update(extra=1), "extra"),
        (lambda v: v["ports"].append(v["ports"][0]), "twice"),
        (lambda v: v["ports"][1].update(id=0), "id"),
        (lambda v: v["ports"][1].update(id=1024), "id"),
        (lambda v: v["ports"][1].update(id=-1), "id"),
        (lambda v: v["segments"][0].update(id=0), "id"),
        (lambda v: v["segments"][0].update(id=4096), "id"),
        (lambda v: v["segments"].clear(), "segment s"),
        (lambda v: v["ports"][0]["port"].update(mtu=5), "mtu"),
        (lambda v: v["ports"][0]["port"].update(macs=["ff:ff:ff:ff:ff:ff"]), "group"),
        (lambda v: v["ports"][1]["port"].update(ifname=""), "tap"),
    ],
)
def test_a_state_that_cannot_be_is_refused(
    change: Callable[[dict[str, Any]], Any], text: str
) -> None:
    with pytest.raises(StateDamaged, match=text):
        state.decode(edited(change), "/x/state.json")


def test_no_file_means_nothing_is_desired(tmp_path: pathlib.Path) -> None:
    assert StateStore(str(tmp_path)).load() == Desired()


def test_a_refused_file_is_never_touched(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"", b"garbage", edited(lambda v: v.update(format=7))):
        path.write_bytes(content)
        with pytest.raises(StateDamaged, match=str(path)):
            StateStore(str(tmp_path)).load()
        assert path.read_bytes() == content


def test_the_file_is_private_and_leaves_no_other(tmp_path: pathlib.Path) -> None:
    store = StateStore(str(tmp_path))
    store.save(OLD)
    store.save(NEW)
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state.json"]
    assert StateStore(str(tmp_path)).load() == NEW


STEPS = ("open", "write", "fsync", "rename")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", [*STEPS, "directory", "fsync-directory"])
@pytest.mark.parametrize("first", [True, False])
def test_an_error_at_any_step_leaves_the_old_state(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, first: bool
) -> None:
    store = StateStore(str(tmp_path))
    before = Desired()
    if not first:
        store.save(OLD)
        before = OLD
    fail_at(monkeypatch, step, number)
    kind = ResourceExhausted if number == errno.ENOSPC else Unavailable
    with pytest.raises(kind, match=r"state\.json.*Nothing was changed"):
        store.save(NEW)
    monkeypatch.undo()
    assert StateStore(str(tmp_path)).load() == before
    assert [name for name in os.listdir(tmp_path) if name != "state.json"] == []
    store.save(NEW)
    assert StateStore(str(tmp_path)).load() == NEW


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """Makes one step of saving fail, once."""
    call, nth = {
        "directory": ("open", 2), "fsync-directory": ("fsync", 2),
    }.get(step, (step, 1))  # fmt: skip
    real = getattr(os, call)
    count = 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == nth:
            if call == "write":  # a full disk takes some of it first
                real(args[0], bytes(args[1])[:10])
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)


@pytest.mark.parametrize("call", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2])
def test_death_at_any_step_leaves_one_whole_state(
    tmp_path: pathlib.Path, call: str, when: str, nth: int
) -> None:
    """A process of its own dies inside save(), as by kill -9."""
    StateStore(str(tmp_path)).save(OLD)
    code = f"""
import os
from vif_uswitch.daemon.state import StateStore, decode
new = decode({state.encode(NEW)!r}, "")
real, count = os.{call}, 0
def deadly(*args, **kwargs):
    global count
    count += 1
    if count == {nth} and {when!r} == "before":
        os._exit(9)
    result = real(*args, **kwargs)
    if count == {nth}:
        os._exit(9)
    return result
store = StateStore({str(tmp_path)!r})
os.{call} = deadly
store.save(new)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=_top())
    found = StateStore(str(tmp_path)).load()
    assert found in (OLD, NEW)
    if done.returncode == 0:  # the step does not happen that often
        assert found == NEW
    else:
        assert done.returncode == 9
    StateStore(str(tmp_path)).save(NEW)  # what the dead one left is no obstacle
    assert StateStore(str(tmp_path)).load() == NEW


def _top() -> pathlib.Path:
    return pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs")
def test_a_full_disk_is_a_clear_error_and_heals() -> None:
    """Not injected: a tmpfs that is really full."""
    with tempfile.TemporaryDirectory(prefix="us-full-") as name:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", name], capture_output=True,
            check=False,
        )  # fmt: skip
        if mounted.returncode != 0:
            pytest.skip(f"no mount here: {mounted.stderr.decode().strip()}")
        try:
            store = StateStore(name)
            store.save(OLD)
            ballast = pathlib.Path(name, "ballast")
            with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            with pytest.raises(ResourceExhausted, match="No space left"):
                store.save(NEW)
            assert StateStore(name).load() == OLD
            ballast.unlink()
            store.save(NEW)
            assert StateStore(name).load() == NEW
        finally:
            subprocess.run(["umount", name], check=True)


def test_enospc_on_the_api(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    with control.client() as client:
        client.port_add({"name": "a"})
        with monkeypatch.context() as patch:
            fail_at(patch, "write", errno.ENOSPC)
            with pytest.raises(ResourceExhausted, match=r"No space left.*Make room"):
                client.port_add({"name": "b"})
        assert [port["name"] for port in client.port_list()] == ["a"]
        assert ("ensure", "b") not in control.fabric.calls
        client.port_add({"name": "b"})


def test_an_unreadable_file_is_no_empty_state(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(Unavailable, match="cannot be read"):
        StateStore(str(tmp_path)).load()


def test_a_port_that_today_would_be_too_long_is_read() -> None:
    """Earlier releases took it; an upgrade must not end there."""
    names = {f"{i:04}".ljust(64, "x"): i for i in range(1, 513)}
    trunk = tuple((i, name) for name, i in names.items())
    macs = tuple(bytes([2, 0, 0, 0, 0, i]) for i in range(64))
    port = Port(0, "a", Kind.VHOST, "/v/a.sock", trunk=trunk, macs=macs,
                description="\U0001f600" * 256)  # fmt: skip
    desired = Desired({"a": port}, {name: Segment(i, name) for name, i in names.items()})
    with pytest.raises(InvalidInput, match="too long"):
        ports.check_size(port)
    assert state.decode(state.encode(desired), "x") == desired
