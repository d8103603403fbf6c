# SPDX-License-Identifier: Apache-2.0
"""uswitchd as a process, with a real dataplane: start, refusals, signals, and who survives whom."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from vif_uswitch.client import Client
from vif_uswitch.daemon import main as uswitchd
from vif_uswitch.exceptions import NotFound, USwitchError

TOP = pathlib.Path(__file__).resolve().parents[3]


def dataplane_program() -> str:
    """The installed one, else the one in the build directory."""
    try:
        return uswitchd.find_dataplane("")
    except NotFound:
        return str(TOP / "dataplane" / "build" / "uswitch-dataplane")


class Daemon:
    """uswitchd in a directory of its own; kills every dataplane it came to know."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.config = directory / "u.conf"
        self.configure()
        self.process: subprocess.Popen[bytes] | None = None
        self.dataplanes: set[int] = set()

    def configure(self, extra: str = "") -> None:
        self.config.write_text(
            f"[DEFAULT]\nrun_dir = {self.directory}/run\nstate_dir = {self.directory}/state\n"
            f"allow_root = true\n{extra}\n[dataplane]\nbinary = {dataplane_program()}\n"
            "fdb_buckets = 16\n"
        )

    @property
    def state(self) -> pathlib.Path:
        return self.directory / "state" / "state.json"

    def start(self, *argv: str, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vif_uswitch.daemon.main", "--config-file",
                 str(self.config), *argv],
                stderr=log, stdout=log, cwd=TOP, env={**os.environ, **environment},
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(USwitchError), self.client() as client:
                self.dataplanes.add(client.show()["dataplane"]["pid"])
                return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def client(self) -> Client:
        return Client(f"{self.directory}/run/control.sock", 10)

    def host(self) -> dict[str, Any]:
        with self.client() as client:
            host = client.show()
        self.dataplanes.add(host["dataplane"]["pid"])
        return host

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def once(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Runs it where it must end by itself."""
        return subprocess.run(
            [sys.executable, "-m", "vif_uswitch.daemon.main", "--config-file", str(self.config),
             *argv], capture_output=True, text=True, timeout=30, check=False, cwd=TOP,
        )  # fmt: skip

    def cleanup(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.dataplanes - {0}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def daemon(short_dir: pathlib.Path) -> Iterator[Daemon]:
    if not os.access(dataplane_program(), os.X_OK):
        pytest.skip("uswitch-dataplane is not built: make -C dataplane")
    daemon = Daemon(short_dir)
    yield daemon
    daemon.cleanup()


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_sigterm_leaves_the_dataplane_and_the_next_one_takes_it_over(daemon: Daemon) -> None:
    daemon.start()
    with daemon.client() as client:
        client.port_add({"name": "vm1", "segment": "blue"}, create_segments=True)
    pid = daemon.host()["dataplane"]["pid"]
    assert daemon.end(signal.SIGTERM) == 0
    assert is_alive(pid)
    daemon.start()
    host = daemon.host()
    assert host["dataplane"]["pid"] == pid and host["dataplane"]["adopted"]
    with daemon.client() as client:
        assert [port["name"] for port in client.port_list()] == ["vm1"]
    text = daemon.log.read_text()
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ INFO \S+ \[-\] ready: 1 ports", text, re.M
    )
    assert "Traceback" not in text


def test_kill_9_at_any_time_loses_no_answered_change(daemon: Daemon) -> None:
    daemon.start()
    pid = daemon.host()["dataplane"]["pid"]
    for round_ in range(3):
        with daemon.client() as client:
            client.port_add({"name": f"vm{round_}"})
        daemon.end(signal.SIGKILL)
        daemon.start()
        with daemon.client() as client:
            found = {port["name"]: port["id"] for port in client.port_list()}
        assert found == {f"vm{i}": i for i in range(round_ + 1)}
        assert daemon.host()["dataplane"]["pid"] == pid


def test_kill_9_of_the_dataplane_is_healed(daemon: Daemon) -> None:
    daemon.start()
    with daemon.client() as client:
        client.port_add({"name": "vm1", "segment": "blue", "macs": ["52:54:00:00:00:01"]},
                        create_segments=True)  # fmt: skip
    pid = daemon.host()["dataplane"]["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (now := daemon.host()["dataplane"]["pid"]) in (0, pid):
        assert time.monotonic() < deadline, daemon.log.read_text()
        time.sleep(0.02)
    with daemon.client() as client:  # it is told of its ports after it was started
        while [entry["mac"] for entry in client.fdb_list()] != ["52:54:00:00:00:01"]:
            assert time.monotonic() < deadline, daemon.log.read_text()
            time.sleep(0.02)
    assert daemon.host()["dataplane"]["pid"] == now


@pytest.mark.parametrize("by_option", [True, False])
def test_both_end(daemon: Daemon, by_option: bool) -> None:
    if by_option:
        daemon.configure("stop_dataplane_on_exit = true")
    daemon.start()
    pid = daemon.host()["dataplane"]["pid"]
    assert daemon.end(signal.SIGTERM if by_option else signal.SIGINT) == 0
    assert ends(pid)
    assert os.path.exists(f"{daemon.directory}/run/control.sock")  # by which clients go


def test_a_second_one_is_refused_and_disturbs_nothing(daemon: Daemon) -> None:
    daemon.start()
    done = daemon.once()
    assert done.returncode == 1 and "another uswitchd (pid" in done.stderr
    assert "Traceback" not in done.stderr
    other = Daemon(daemon.directory)
    other.config = daemon.directory / "other.conf"
    other.config.write_text(daemon.config.read_text().replace("/run\n", "/run2\n"))
    done = other.once()
    assert done.returncode == 1 and re.search("state_dir .*another uswitchd", done.stderr)
    assert daemon.host()["dataplane"]["running"]


def test_a_damaged_state_is_refused_and_kept(daemon: Daemon) -> None:
    daemon.state.parent.mkdir()
    for content, text in (
        (b"{ damaged", "is damaged"),
        (b'{"format": 9, "ports": [], "segments": []}', "newer release"),
    ):
        daemon.state.write_bytes(content)
        done = daemon.once()
        assert done.returncode == 1 and text in done.stderr and str(daemon.state) in done.stderr
        assert "Traceback" not in done.stderr
        assert daemon.state.read_bytes() == content


def test_an_uplink_of_the_configuration_is_there_as_long_as_its_section(daemon: Daemon) -> None:
    daemon.configure("[uplink:wire]\npci = ffff:ff:1f.7\nvlans = 100=blue\n")
    daemon.start()
    with daemon.client() as client:
        (uplink,) = client.uplink_list()
        assert (uplink["origin"], uplink["port"]["link"]) == ("config", "waiting")
        assert "PCI device ffff:ff:1f.7: does not exist" in uplink["port"]["reason"]
        assert uplink["port"]["trunk"] == [{"vid": 100, "segment": "blue"}]
    assert daemon.end(signal.SIGTERM) == 0
    daemon.configure()
    daemon.start()
    with daemon.client() as client:
        assert client.uplink_list() == []
    assert daemon.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ("rundir = /x", 2, "option rundir in [DEFAULT]: is unknown"),
        ("control_group = no-such-group", 2, "control_group no-such-group: there is no such group"),
        ("vhost_socket_group = no-such-group", 2, "no such group"),
        ("[uplink:w]\npci = eth1", 2, "option pci in [uplink:w] eth1: is not allowed. PCI address"),
        ("[uplink:w]\nphysnet = p", 2, "section [uplink:w]: cannot be had: uplink w: has no"),
        ("state_dir = /proc/nowhere", 1, "state_dir /proc/nowhere: cannot be used as a directory"),
    ],
)
def test_wrong_configuration(daemon: Daemon, change: str, status: int, text: str) -> None:
    if change.startswith("state_dir"):
        old = daemon.config.read_text()
        daemon.config.write_text(re.sub("state_dir = .*", change, old))
    else:
        daemon.configure(change)
    done = daemon.once()
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert text in done.stderr


def test_no_dataplane_program(daemon: Daemon) -> None:
    text = daemon.config.read_text()
    daemon.config.write_text(re.sub("binary = .*", "binary = /nonexistent", text))
    done = daemon.once()
    assert done.returncode == 1
    assert "dataplane program /nonexistent: is not there or not executable" in done.stderr


def test_a_program_that_is_no_dataplane(daemon: Daemon) -> None:
    text = daemon.config.read_text()
    daemon.config.write_text(re.sub("binary = .*", "binary = /bin/false", text))
    done = daemon.once()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "dataplane" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused for being root")
def test_root_is_refused_by_default(daemon: Daemon) -> None:
    daemon.config.write_text(daemon.config.read_text().replace("allow_root = true", ""))
    done = daemon.once()
    assert done.returncode == 2 and "insist with --allow-root" in done.stderr
    assert not daemon.state.parent.exists()


def test_systemd_hears_ready_and_stopping_and_the_process_is_confined(daemon: Daemon) -> None:
    address = str(daemon.directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        daemon.start("--log-json", NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")
        heard = manager.recv(1000)
        assert heard.startswith(b"READY=1\nSTATUS=0 ports")
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert daemon.process is not None
        status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert daemon.end(signal.SIGINT) == 0
        while (heard := manager.recv(1000)) == b"WATCHDOG=1":
            pass
        assert heard == b"STOPPING=1"
    lines = daemon.log.read_text().splitlines()
    assert any(json.loads(line)["message"].startswith("ready") for line in lines if line[0] == "{")


def test_an_uplink_whose_adapter_is_absent_keeps_nobody_from_starting(daemon: Daemon) -> None:
    daemon.state.parent.mkdir(mode=0o700)
    spec = {"name": "up0", "pci": "ffff:ff:1f.7", "segment": "blue"}
    value = {
        "format": 2, "segments": [{"id": 1, "name": "blue"}], "ports": [],
        "uplinks": [{"id": 0, "uplink": spec}],
    }  # fmt: skip
    daemon.state.write_text(json.dumps(value))
    daemon.start()
    with daemon.client() as client:
        (uplink,) = client.uplink_list()
        assert uplink["port"]["link"] == "waiting" and uplink["adapter"] is None
        assert "PCI device ffff:ff:1f.7: does not exist" in uplink["port"]["reason"]
        with pytest.raises(USwitchError, match=r"PCI device ffff:ff:1f\.6: does not exist"):
            client.uplink_ensure({"name": "up1", "pci": "ffff:ff:1f.6"})
        client.port_add({"name": "vm1", "segment": "blue"})
        assert client.uplink_delete("up0")
    assert "uplinks" not in json.loads(daemon.state.read_text())
