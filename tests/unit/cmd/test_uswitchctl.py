# SPDX-License-Identifier: Apache-2.0
"""The command line against a real control socket: its words, its exit codes, its manners."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from tests.unit.cmd.ctl_rig import Ctl
from tests.unit.daemon.control_rig import UP, Control
from vif_uswitch.cmd.worker import measured
from vif_uswitch.daemon.model import FdbEntry, Link, PortLive
from vif_uswitch.dataplane.base import RateLimit
from vif_uswitch.dataplane.live import QueueLive, RingLive

TOP = pathlib.Path(__file__).resolve().parents[3]


def test_add_show_change_delete(control: Control, ctl: Ctl) -> None:
    assert ctl("segment add blue --description office") == 0
    assert ctl("port add vm1 --type vhost-user --mode client --segment blue --mtu 9000"
               " --mac 52:54:00:00:00:01 --mac 52:54:00:00:00:02 --trunk 10:red --create-segment"
               ) == 0  # fmt: skip
    assert ctl.out == f"port vm1 added: {control.vhost}/vm1.sock, link waiting\n"
    assert ctl("port add t0 --type tap --ifname tap0") == 0
    assert ctl("port list") == 0
    assert [re.sub(" +", " ", line) for line in ctl.out.splitlines()] == [
        "NAME TYPE LINK SEGMENT TRUNK MACS MTU WHERE",
        "t0 tap waiting - - - 1500 tap0",
        "vm1 vhost-user waiting blue 10:red 52:54:00:00:00:01 +1 9000"
        f" {control.vhost}/vm1.sock",
    ]
    assert ctl("port set vm1 --no-trunk --segment red --down") == 0 and "changed" in ctl.out
    assert ctl("port set vm1 --down") == 0 and "is so already" in ctl.out
    assert ctl("port show vm1 -f json") == 0
    shown = json.loads(ctl.out)
    assert (shown["segment"], shown["trunk"], shown["link"]) == ("red", [], "down")
    assert ctl("port delete vm1 t0") == 0
    assert ctl("port list") == 0 and "no ports" in ctl.out
    assert ctl("segment delete blue red") == 0


def test_port_show_prints_features_by_name_and_rings(control: Control, ctl: Ctl) -> None:
    ctl("port add vm1")
    control.fabric.lives[0] = UP
    control.fabric.set_live(0, rings=(RingLive(0, True, True, 256, 5, 4),
                                      RingLive(1, False, False, 0, 0, 0)))  # fmt: skip
    assert ctl("port show vm1") == 0
    assert "MRG_RXBUF VERSION_1 bit 41" in ctl.out
    assert "REPLY_ACK" in ctl.out
    assert "0 (guest receives): enabled, size 256, avail 5, used 4" in ctl.out
    assert "1 (guest transmits): not started" in ctl.out
    assert "5 ring_full (out): the receiver has no free buffers" in ctl.out
    assert "256.0 MiB" in ctl.out
    assert ctl("port show vm1 -f value -c link -c peer_pid") == 0 and ctl.out == "up\n77\n"
    assert ctl("port show vm1 -f json") == 0
    assert json.loads(ctl.out)["virtio_feature_names"] == ["MRG_RXBUF", "VERSION_1", "bit 41"]


def test_show_is_one_screen(control: Control, ctl: Ctl) -> None:
    assert ctl("show") == 0 and "ports      0 in 0 segments" in ctl.out
    ctl("segment add empty")
    ctl("port add vm1 --segment blue --create-segment --trunk 10:red")
    ctl("port add vm2 --segment blue")
    ctl("port add lonely")
    control.fabric.lives[0] = UP
    control.fabric.lives[1] = PortLive(link=Link.BROKEN, broken_text="a ring lies outside memory")
    assert ctl("show") == 0
    text = ctl.out
    assert "dataplane  running, pid 4242 (start 1), 1 worker, polls 50 us, FDB 2 of 80" in text
    assert "ports      3 in 3 segments: 1 broken, 1 up, 1 waiting" in text
    assert re.search(r"segment blue\n  PORT .*\n  vm1 +up +untagged.*\n  vm2 +broken", text)
    assert "  vm2: a ring lies outside memory" in text
    assert re.search(r"segment red\n  PORT .*\n  vm1 +up +10 ", text)
    assert "segment empty\n  (no ports)" in text
    assert re.search(r"in no segment\n  PORT .*\n  lonely", text)
    assert re.search(r"drops .*\n +FRAMES .*\n +5 +1  ring_full +the receiver has no free", text)
    assert "\x1b" not in text
    assert ctl("show -f json") == 0
    assert set(json.loads(ctl.out)) == {"host", "segments", "ports"}
    control.fabric.dataplane = type(control.fabric.dataplane)()
    assert ctl("show") == 0 and "NOT RUNNING" in ctl.out


def test_show_rates_and_stats_watch(control: Control, ctl: Ctl) -> None:
    ctl("port add vm1 --segment blue --create-segment")
    control.fabric.lives[0] = UP
    stop = threading.Event()

    def traffic() -> None:
        frames = 0
        while not stop.wait(0.01):
            frames += 10
            counters = type(UP.incoming)(frames=frames, bytes=frames * 100)
            control.fabric.set_live(0, incoming=counters)

    thread = threading.Thread(target=traffic, daemon=True)
    thread.start()
    try:
        assert ctl("stats --watch 0.2 --count 2 -f json") == 0
        last = json.loads(ctl.out.splitlines()[-1])
        assert last[0]["port"] == "vm1" and 200 < last[0]["in_frames_s"] < 1500
        assert last[0]["out_frames_s"] == 0
        assert ctl("stats --watch 0.1 --count 1") == 0
        assert re.match(r"\d\d:\d\d:\d\d\nPORT +LINK +IN FRAMES/S", ctl.out)
        assert ctl("show --rates") == 0 and "IN FRAMES/S" in ctl.out
    finally:
        stop.set()
        thread.join()
    assert ctl("stats") == 0 and "OUT DROPS" in ctl.out
    assert ctl("stats -f csv -c port -c out_frames") == 0
    assert ctl.out == "port,out_frames\nvm1,7\n"


def test_fdb_drops_workers_version_schema(control: Control, ctl: Ctl) -> None:
    ctl("port add vm1 --segment blue --create-segment")
    control.fabric.lives[0] = UP
    control.fabric.fdb = [FdbEntry(bytes([2, 0, 0, 0, 0, 1]), 1, 0, 5, False)]
    assert ctl("fdb list --port vm1") == 0 and "02:00:00:00:00:01  blue" in ctl.out
    assert ctl("fdb flush") == 0 and ctl.out == "1 address forgotten\n"
    assert ctl("fdb list") == 0 and ctl.out == "(no addresses)\n"
    assert ctl("drops") == 0 and "no_receiver  nobody else is in the segment" in ctl.out
    assert ctl("drops --port vm1 -f value -c frames --sort-column frames") == 0
    assert ctl.out == "1\n3\n5\n"
    assert ctl("version") == 0 and "API 1" in ctl.out
    assert ctl("schema") == 0 and "v1.port.add" in json.loads(ctl.out)["methods"]
    assert ctl("segment list") == 0 and ctl("segment show blue") == 0 and "vm1" in ctl.out


def test_workers(control: Control, ctl: Ctl) -> None:
    """Between the two looks of a command: a worker that was busy, and one that began anew."""
    ctl("port add vm1 --segment blue --create-segment")
    ctl("port add vm2 --segment blue")
    control.fabric.queues = {
        0: (QueueLive(0, 0, 5, 1000), QueueLive(1, 1, 1, 9)), 1: (QueueLive(0, 0, 7, 70_000),)
    }  # fmt: skip
    assert ctl("worker list --interval 0") == 0
    assert re.search(r"0 +4243 +any +- +50 +5 +3 +3 +2\n", ctl.out)
    assert ctl("worker list --interval 0.1 -f json -c load -c cycles_a_frame") == 0
    assert json.loads(ctl.out) == [{"load": 0.0, "cycles_a_frame": None}]
    assert ctl("worker show 0 --interval 0") == 0
    assert re.search(r"PORT +QUEUE.*\nvm2 +0 +- +10000 +7\nvm1 +0 +- +200 +5\n", ctl.out)
    assert ctl("worker show 0 --interval 0 -f json") == 0
    shown = json.loads(ctl.out)
    assert shown["queues"] == 2
    assert [(row["port"], row["queue"]) for row in shown["served"]] == [("vm2", 0), ("vm1", 0)]
    assert ctl("worker show 1") == 4 and "worker 1: does not exist; there are 1" in ctl.err


def test_load_of_a_worker() -> None:
    row = {"busy_cycles": 1500, "frames": 20, "index": 3}
    before = {"busy_cycles": 500, "frames": 10, "index": 3}
    assert measured(row, before, "busy_cycles", 4000) == {
        **row, "load": 25.0, "cycles_a_frame": 100
    }  # fmt: skip
    assert measured(row, None, "busy_cycles", 0)["cycles_a_frame"] == 75
    assert measured(row, None, "busy_cycles", 4000)["load"] is None
    assert measured(row, before, "busy_cycles", 500)["load"] == 100.0, "clocks differ a little"
    assert measured(before, row, "busy_cycles", 4000)["load"] == 0.0, "counters that began anew"


def test_limits_of_a_port(control: Control, ctl: Ctl) -> None:
    line = "port add vm1 --max-kbps 10000 --max-kpps 5 --max-burst-kpps 2 -f json"
    assert ctl(line) == 0
    port = json.loads(ctl.out)
    assert (port["max_kbps"], port["max_burst_kbps"]) == (10000, 8000)
    assert (port["max_kpps"], port["max_burst_kpps"]) == (5, 2)
    assert control.fabric.ports[0].rate == RateLimit(10000, 8000, 5, 2)
    assert ctl("port show vm1") == 0 and re.search(r"Max kbit/s +10000\n", ctl.out)
    assert ctl("port set vm1 --max-kbps 0") == 0
    assert control.fabric.ports[0].rate == RateLimit(0, 0, 5, 2)
    assert ctl("port set vm1 --max-kpps -1") == 1 and "Thousands of frames" in ctl.err


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("port show nobody", 4, "port nobody: does not exist"),
        ("port add a --segment nowhere", 4, "uswitchctl segment add nowhere"),
        ("port add vm1", 1, "port vm1: exists already"),
        ("port add a --mtu 5", 1, "mtu 5: must be an integer of at least 68"),
        ("port add a --mtu many", 2, "invalid int value: 'many'"),
        ("port add a --trunk 4095:blue", 1, "vid 4095"),
        ("port add a --trunk blue", 2, "'blue' is not VID:SEGMENT"),
        ("port add a --trunk 10:", 2, "is not VID:SEGMENT"),
        ("port add a --mac 01:02:03:04:05:06", 1, "01:02:03:04:05:06: is a group"),
        ("port add a --path /etc/passwd", 1, "not below vhost_socket_dir"),
        ("port add a --type nic", 2, "invalid choice"),
        ("port add a --colour red", 2, "unrecognized arguments: --colour red"),
        ("port add a --seg blue", 2, "unrecognized arguments"),
        ("port add", 2, "required: name"),
        ("port add a/b", 1, "name a/b: is malformed"),
        ("port set vm1", 2, "name at least one thing to change"),
        ("port set vm1 --segment a --no-segment", 2, "exclude each other"),
        ("port set vm1 --up --down", 2, "exclude each other"),
        ("port set nobody --up", 4, "port nobody"),
        ("port list --segment nowhere", 4, "segment nowhere"),
        ("port list -c colour", 1, "column colour"),
        ("segment show nowhere", 4, "segment nowhere"),
        ("segment delete blue", 1, "in use by port vm1"),
        ("stats --watch 0", 2, "no number of seconds"),
        ("frobnicate", 2, "invalid choice"),
        ("", 2, "required: COMMAND"),
        ("--timeout x show", 2, "no number of seconds"),
    ],
)
def test_mistakes(control: Control, ctl: Ctl, line: str, status: int, text: str) -> None:
    assert ctl("port add vm1 --segment blue --create-segment") == 0
    assert ctl(line) == status
    assert text in ctl.err and ctl.out == ""


def test_unknown_things_are_deleted_with_a_note(control: Control, ctl: Ctl) -> None:
    assert ctl("port delete nobody") == 0 and "note: port nobody did not exist" in ctl.err
    assert ctl("segment delete nowhere") == 0 and "note: segment nowhere" in ctl.err


def test_what_is_refused_does_not_stop_the_rest(control: Control, ctl: Ctl) -> None:
    assert ctl("port add vm1 --segment blue --create-segment") == 0
    assert ctl("segment add red") == 0
    assert ctl("segment delete blue red") == 1
    assert "segment blue: is in use by port vm1" in ctl.err and ctl.out == "segment red deleted\n"


def test_daemon_unreachable(ctl: Ctl) -> None:
    assert ctl("--socket /nonexistent/s show") == 3
    assert "uswitchd is not running" in ctl.err and "/nonexistent/s" in ctl.err
    assert ctl("show --socket /nonexistent/s") == 3


def test_options_of_the_connection_stand_before_or_after(
    control: Control, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USWITCH_SOCKET")
    assert ctl(f"--socket {control.path} --timeout 5 version") == 0
    assert ctl(f"version --socket {control.path}") == 0
    assert ctl(f"--socket {control.path} port list") == 0


@pytest.mark.parametrize("line", [
    "--socket /x --user show", "show --user --system", "--socket /x show --system",
])  # fmt: skip
def test_there_is_one_switch_to_speak_to(ctl: Ctl, line: str) -> None:
    assert ctl(line) == 2 and "exclude each other" in ctl.err


def test_your_own_switch(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("USWITCH_SOCKET", "/x")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert ctl("--user show") == 3 and f"{tmp_path}/uswitch/control.sock" in ctl.err
    assert ctl("show --system") == 3 and "/run/uswitch/control.sock" in ctl.err


def test_wait_tells_how_things_are_and_gives_up(control: Control, ctl: Ctl) -> None:
    begun = time.monotonic()
    assert ctl("port add vm1 --wait --wait-timeout 1.5") == 5
    assert time.monotonic() - begun > 1
    assert "waiting for vm1: waiting (1 s)" in ctl.err
    assert "port vm1: is not up after 1.5 s: link waiting. The port stays" in ctl.err
    timer = threading.Timer(0.4, lambda: control.fabric.lives.update({1: UP}))
    timer.start()
    assert ctl("port add vm2 --wait --wait-timeout 10") == 0 and "link up" in ctl.out
    timer.join()


def test_progress_while_the_daemon_is_slow(ctl: Ctl) -> None:
    """A daemon that does not answer ends in exit status 5, in time."""
    import socket

    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{name}/s")
            listener.listen(5)
            assert ctl(f"--socket {name}/s --timeout 0.3 show") == 5
            assert "no answer to show within 0.3 s" in ctl.err


def test_a_closed_pipe_is_no_traceback(control: Control) -> None:
    for i in range(300):
        with control.client() as client:
            client.segment_add(f"segment-with-a-long-name-{i}", "x" * 200)
    done = subprocess.run(
        f"{sys.executable} -m vif_uswitch.cmd.uswitchctl segment list | head -1",
        shell=True, capture_output=True, text=True, check=True, cwd=TOP, timeout=60,
        env={**os.environ, "USWITCH_SOCKET": control.path},
    )  # fmt: skip
    assert done.stdout.startswith("NAME") and done.stderr == ""
