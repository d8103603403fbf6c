# SPDX-License-Identifier: Apache-2.0
"""``uswitchd`` under what its unit forbids, without systemd: it works, and the unit means it.

The restrictions are read from the shipped file and applied by
``unit_sandbox.py``, whose head says which are not.  KillMode=process is played
by hand: a signal to ``uswitchd`` and to nobody else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.daemons import Switch
from testbed.namespaces import hidden

from . import unit_sandbox
from .conftest import Guest, Lab, Stream

TOP = Path(__file__).resolve().parents[2]
UNIT = TOP / "etc/systemd/uswitchd.service"
BROADCAST = b"\xff" * 6
KILLS = True
_hidden = hidden("/tmp", "/var/tmp")  # PrivateTmp=

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, capabilities"),
    pytest.mark.skipif(shutil.which("systemd-analyze") is None,
                       reason="needs systemd-analyze (bindep.txt): groups of system calls"),
    pytest.mark.skipif(bool(_hidden), reason=_hidden),
]


def within(writable: Path) -> Sequence[str]:
    return ("unshare", "--mount", "--propagation", "private", sys.executable,
            str(Path(unit_sandbox.__file__)), str(UNIT), str(writable))


class Notified:
    """systemd's end of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o777)
        self._socket.settimeout(0.1)
        self.lines: list[str] = []

    def wait(self, line: str, timeout: float = 30) -> None:
        """Until that line came."""
        deadline = time.monotonic() + timeout
        while line not in self.lines:
            assert time.monotonic() < deadline, f"{line} did not come, but {self.lines}"
            with contextlib.suppress(TimeoutError):
                self.lines += self._socket.recv(4096).decode().split("\n")


@pytest.fixture
def directory() -> Iterator[Path]:
    """What RuntimeDirectory= and StateDirectory= would make; not below /tmp, which is another one
    inside."""
    path = Path(tempfile.mkdtemp(prefix="ust-", dir="/run"))
    unprivileged.own(path, unprivileged.identity())
    yield path
    shutil.rmtree(path)


@pytest.fixture
def notified(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Notified:
    listening = Notified(directory / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(listening.path))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    return listening


@pytest.fixture
def switch(directory: Path, notified: Notified) -> Iterator[Switch]:
    with Switch(directory, within=within(directory)) as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log and "ERROR" not in log, log[-4000:]


@pytest.fixture
def pair(switch: Switch) -> Iterator[tuple[Lab, Guest, Guest]]:
    """One guest of each mode: the directory is written, and a socket of somebody else's is used."""
    lab = Lab(switch)
    a, b = lab.guest("pair"), lab.guest("pair", mode="server")
    b.send(BROADCAST, [b"hello"])
    assert len(a.front.recv_frames(1)) == 1
    yield lab, a, b
    lab.close()


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_guests_talk_and_nobody_has_a_right(
    pair: tuple[Lab, Guest, Guest], notified: Notified
) -> None:
    lab, a, b = pair
    assert a.send(b, [b"there"]) == 1 and b.send(a, [b"back"]) == 1
    assert len(b.front.recv_frames(1)) == 1 and len(a.front.recv_frames(1)) == 1
    for pid in (lab.switch.daemon_pid, lab.switch.dataplane_pid):
        found = status(pid)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(found[name], 16) == 0, (pid, name)
        assert found["NoNewPrivs"] == "1" and found["Seccomp"] == "2"
        assert found["Uid"].split()[0] != "0"
    notified.wait("READY=1")
    notified.wait("WATCHDOG=1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGABRT, signal.SIGKILL],
                         ids=["stop", "watchdog", "kill"])
def test_a_restart_leaves_the_dataplane_alone(
    pair: tuple[Lab, Guest, Guest], notified: Notified, number: signal.Signals
) -> None:
    """KillMode=process: systemd signals uswitchd alone, and what it does not know goes on."""
    lab, a, b = pair
    before = lab.switch.dataplane_pid
    assert os.getsid(before) != os.getsid(lab.switch.daemon_pid)
    with Stream(a, b) as stream:
        lab.switch.restart_daemon(number)
        notified.wait("READY=1")
        lab.wait(lambda: lab.show(b.name)["port"]["link"] == "up", "the port is up again")
    assert stream.sent > 0 and stream.arrived == list(range(stream.sent))
    assert lab.switch.dataplane_pid == before


PROBE = """
import ctypes, errno, mmap, os, socket, sys
def tried(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
libc = ctypes.CDLL(None, use_errno=True)
def unshare():
    if libc.unshare(0x10000000) < 0:
        raise OSError(ctypes.get_errno(), "")
for name, what in {
    "inet": lambda: socket.socket(socket.AF_INET),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "usr": lambda: open("/usr/probe", "w"),
    "run": lambda: open("/run/probe", "w"),
    "own": lambda: open(sys.argv[1] + "/probe", "w"),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "namespace": unshare,
    "mount": lambda: os.umask(0) and None or os.chroot("/"),
    "tmp": lambda: os.stat(sys.argv[2]),
}.items():
    print(name, tried(what))
"""
FORBIDDEN = {"inet": "EAFNOSUPPORT", "packet": "EAFNOSUPPORT", "usr": "EROFS", "run": "EROFS",
             "code": "EPERM", "namespace": "EPERM", "mount": "EPERM", "tmp": "ENOENT"}
ALLOWED = {"unix": "done", "netlink": "done", "own": "done"}


def test_the_sandbox_of_this_test_is_one(directory: Path, tmp_path: Path) -> None:
    """As root within it: whatever an unprivileged user could not do anyway would prove nothing."""
    seen = tmp_path / "seen"
    seen.touch()
    done = subprocess.run(
        [*within(directory), sys.executable, "-c", PROBE, str(directory), str(seen)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found == FORBIDDEN | ALLOWED
