# SPDX-License-Identifier: Apache-2.0
"""Two workers, and the limit on what ports may send: what waits is neither lost nor reordered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from testbed.daemons import Switch

from .conftest import Lab, Stream, Witnesses

BROADCAST = b"\xff" * 6
OPTIONS = {"dataplane": {"workers": 2}}
KILLS = True


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [n.to_bytes(4, "big").ljust(1000, b"x") for n in range(first, first + count)]


def test_queues_of_both_workers_and_streams_across(lab: Lab) -> None:
    guests = [lab.guest("spread") for _ in range(4)]
    for guest in guests:
        guest.send(BROADCAST, [b"hello"])
        for other in guests:
            if other is not guest:
                assert len(other.front.recv_frames(1)) == 1
    pairs = list(zip(guests[:2], guests[2:], strict=True))
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(a, b)) for a, b in pairs]
        lab.wait(lambda: all(stream.beyond(400) for stream in streams), "400 frames a stream", 60)
    for stream in streams:
        assert stream.arrived == list(range(stream.sent))
    served = [lab.client.worker_show(index) for index in (0, 1)]
    mine = {guest.name for guest in guests}
    assert all(detail["worker"]["queues"] >= len(detail["queues"]) >= 1 for detail in served)
    rows = [row for detail in served for row in detail["queues"] if row["port"] in mine]
    assert {row["port"] for row in rows} == mine and len(rows) == 4, "one worker a queue"
    by_name = {row["port"]: row for row in rows}
    for stream in streams:
        row = by_name[stream.src.name]
        assert row["frames"] == stream.sent + 1 and row["cycles"] > 0


def test_limited_frames_wait_in_the_ring(lab: Lab, witnesses: Witnesses) -> None:
    """10 kB at 8 kbit/s take ten seconds; nothing is dropped, and others notice nothing."""
    a, b = lab.guest("limit"), lab.guest("limit")
    b.send(BROADCAST, [b"hello"])
    assert len(a.front.recv_frames(1)) == 1
    lab.client.port_set(a.name, {"max_kbps": 8, "max_burst_kbps": 1})
    assert lab.show(a.name)["port"]["max_kbps"] == 8
    assert a.send(b, numbered(10)) == 10, "a bucket that is full lets one burst pass"
    assert len(b.front.recv_frames(10)) == 10
    assert a.send(b, numbered(10, 10)) == 0, "then the debt is paid first: nothing is taken"
    assert b.front.recv_frames(1, timeout=0.5) == []
    witnesses.check()
    assert lab.drops(a.name) == {} and lab.drops(b.name) == {}
    lab.client.port_set(a.name, {"max_kbps": 0})
    got = [data[14:18] for _, data in b.front.recv_frames(10, timeout=30)]
    assert got == [n.to_bytes(4, "big") for n in range(10, 20)]
    assert len(a.front.reap_tx(10)) == 10


def test_limit_survives_both_processes(switch: Switch) -> None:
    lab = Lab(switch)
    a, b = lab.guest("limit2", max_kpps=1, max_burst_kpps=1), lab.guest("limit2")
    b.send(BROADCAST, [b"hello"])
    assert len(a.front.recv_frames(1)) == 1
    lab.switch.restart_daemon()
    shown = lab.show(a.name)["port"]
    assert (shown["max_kpps"], shown["max_burst_kpps"], shown["max_kbps"]) == (1, 1, 0)
    lab.client.port_set(a.name, {"max_kbps": 8, "max_burst_kbps": 1, "max_kpps": 0})
    switch.wait_replaced(switch.kill_dataplane())
    for guest in (a, b):
        switch.wait_link(guest.name)
    assert a.send(b, numbered(10)) == 10
    assert len(b.front.recv_frames(10)) == 10
    assert a.send(b, numbered(10, 10)) == 0, "the new dataplane knows the limit"
    lab.client.port_set(a.name, {"max_kbps": None, "max_burst_kbps": None})
    got = [data[14:18] for _, data in b.front.recv_frames(10, timeout=30)]
    assert got == [n.to_bytes(4, "big") for n in range(10, 20)]
    lab.close()


def test_worker_list_shows_them(lab: Lab) -> None:
    lab.guest("shown")
    command = [str(Path(sys.prefix) / "bin" / "uswitchctl"), "--socket", str(lab.switch.control)]
    shown = subprocess.run(
        [*command, "worker", "list", "--interval", "0.2", "-f", "json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = json.loads(shown.stdout)
    assert [row["index"] for row in rows] == [0, 1]
    assert all(row["load"] is None or 0 <= row["load"] <= 100 for row in rows)
    time.sleep(0.5)  # whatever was moving has come to rest: they sleep
    first, second = lab.client.worker_list(), lab.client.worker_list()
    assert [w["passes"] for w in first["workers"]] == [w["passes"] for w in second["workers"]]
