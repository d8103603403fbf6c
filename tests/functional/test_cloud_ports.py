# SPDX-License-Identifier: Apache-2.0
"""Ports as a cloud makes and leaves them: what a plugin and an agent rely on across restarts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.daemons import Switch

from .conftest import Lab

KILLS = True
UUID = "0b9d3a52-9c5b-4a35-9a4e-6f9c0f9d1a11"
TOP = Path(__file__).resolve().parents[2]
QEMU = """
import sys, time
from tests.functional.frontend import Frontend
front = Frontend(sys.argv[1], listen=True)
front.start()
print("up", flush=True)
sys.stdin.read()
"""


class DoomedGuest:
    """A process that listens on its socket, as QEMU does in mode server, and cannot tidy up."""

    def __init__(self, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", QEMU, path], cwd=TOP, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_socket_goes_with_its_port_once_its_guest_is_dead(switch: Switch) -> None:
    lab = Lab(switch)
    name, path = lab.port(UUID, mode="server")
    guest = DoomedGuest(path)
    try:
        lab.wait(lambda: lab.show(name)["port"]["link"] == "up", "the guest is there")
        assert lab.client.port_delete(name)
        assert os.path.exists(path), "its guest lives"
        assert not lab.client.port_delete(name)
        assert os.path.exists(path), "its guest lives"
        lab.port(name, mode="server")
    finally:
        guest.kill()
    lab.wait(lambda: lab.show(name)["port"]["link"] == "waiting", "its guest is gone")
    assert os.path.exists(path)
    assert lab.client.port_delete(name)
    assert not os.path.exists(path)
    lab.wait(lambda: f"removed {path}" in switch.log.read_text(), "and the log tells")


def test_a_socket_that_was_left_while_nobody_knew_its_port(switch: Switch) -> None:
    lab = Lab(switch)
    path = switch.vhost / f"{UUID}.sock"
    name, _ = lab.port(UUID, mode="server")
    guest = DoomedGuest(str(path))
    lab.client.port_delete(name)
    guest.kill()
    assert path.exists()
    assert not lab.client.port_delete("somebody")
    assert path.exists()
    assert not lab.client.port_delete(UUID)
    assert not path.exists()


def watched(switch: Switch) -> set[int]:
    """Inodes of the directories that uswitchd watches, by the kernel's own account."""
    found = set()
    for entry in Path(f"/proc/{switch.daemon_pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            for line in entry.read_text().splitlines():
                if line.startswith("inotify "):
                    words = dict(word.split(":") for word in line.split()[1:])
                    found.add(int(words["ino"], 16))
    return found


def test_the_directory_is_watched_when_the_answer_comes(switch: Switch) -> None:
    """So QEMU may be started: it waits for us in its main loop, and must not do so for long."""
    lab = Lab(switch)
    below = switch.vhost / "nova"
    below.mkdir()
    unprivileged.own(below, switch.who)
    for directory, path in ((switch.vhost, ""), (below, str(below / "x.sock"))):
        inode = directory.stat().st_ino
        name = f"watched-{directory.name}"
        assert inode not in watched(switch)
        for _ in range(2):
            lab.client.port_ensure({"name": name, "mode": "server", "path": path})
            assert inode in watched(switch)
        switch.restart_daemon()
        assert inode in watched(switch)
        lab.client.port_delete(name)
        assert inode not in watched(switch)


def test_what_it_is_and_when_it_was_made_survive_everything(switch: Switch) -> None:
    lab = Lab(switch)
    ids = {"owner": "nova", "instance": UUID, "instance-name": "instance-0000000\u0e51"}
    spec = {"name": UUID, "mtu": 1450, "external_ids": ids}
    first = lab.client.port_ensure(spec)["port"]
    assert first["external_ids"] == ids
    for how in ("daemon", "dataplane", "both"):
        dataplane = switch.dataplane_pid
        if how != "dataplane":
            switch.kill_daemon()
        if how != "daemon":
            os.kill(dataplane, signal.SIGKILL)
        if how != "dataplane":
            switch.start()
        switch.wait_replaced(0 if how == "daemon" else dataplane)
        again = lab.client.port_ensure(spec)
        assert not again["changed"] and again["port"]["created_us"] == first["created_us"]
    (found,) = lab.client.port_list(external_id=("instance", UUID))
    assert found["name"] == UUID
    assert lab.client.port_delete(UUID)
    assert lab.client.port_ensure(spec)["port"]["created_us"] > first["created_us"]
    lab.client.port_delete(UUID)


FORMER = {
    "format": 1,
    "segments": [{"id": 3, "name": "blue", "description": ""}],
    "ports": [
        {"id": 5, "port": {
            "name": "vm1", "type": "vhost-user", "path": "@/vm1.sock", "mode": "client",
            "ifname": "", "segment": "blue", "trunk": [], "macs": [], "mtu": None,
            "flood_rate": None, "flood_burst": None, "fdb_quota": None, "queues": None,
            "max_kbps": None, "max_burst_kbps": None, "max_kpps": None, "max_burst_kpps": None,
            "admin_up": True, "description": "",
        }},
    ],
}  # fmt: skip


@pytest.fixture
def former() -> Iterator[Switch]:
    """A switch that finds the state of an earlier release."""
    directory = Path(tempfile.mkdtemp(prefix="uswitch-test-"))
    unprivileged.own(directory, unprivileged.identity())
    switch = Switch(directory)
    state = directory / "state" / "state.json"
    state.write_text(json.dumps(FORMER).replace("@", str(directory / "vhost")))
    unprivileged.own(state, switch.who)
    with switch:
        yield switch
    shutil.rmtree(directory)


def test_the_state_of_an_earlier_release(former: Switch) -> None:
    state = former.directory / "state" / "state.json"
    for _ in range(2):
        port = former.client.port_show("vm1")["port"]
        assert (port["id"], port["segment"], port["created_us"]) == (5, "blue", 0)
        assert (port["external_ids"], port["guard"]) == ({}, None)
        former.restart_daemon()
    assert json.loads(state.read_text())["format"] == 1
    assert former.client.port_set("vm1", {"external_ids": {"owner": "me"}})["changed"]
    assert json.loads(state.read_text())["format"] == 4
    former.restart_daemon()
    assert former.client.port_show("vm1")["port"]["external_ids"] == {"owner": "me"}
