# SPDX-License-Identifier: Apache-2.0
"""uswitch-xdp on a host in a directory: requests, refusals, answers; who asks for sockets."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vif_uswitch.daemon.uplink.xdp_sockets import open_xdp_sockets
from vif_uswitch.exceptions import Conflict, Forbidden, InvalidInput, NotFound, USwitchError
from vif_uswitch.uplink import xdp, xdp_program

from .fake_host import FakeHost

NAME = "lo"  # exists everywhere; nothing is done to it


class FakeProgram:
    """``late``: so many refusals before a socket is taken, as older kernels do."""

    mode, ifindex = "native", 7

    def __init__(self, late: int = 0) -> None:
        self.late = late
        self.placed: dict[int, int] = {}
        self.detached = self.closed = False

    def place(self, queue: int, socket_fd: int) -> bool:
        if self.late:
            self.late -= 1
            return False
        self.placed[queue] = os.fstat(socket_fd).st_ino
        return True

    def detach(self) -> None:
        self.detached = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    made.put(f"/sys/class/net/{NAME}/queues/rx-0/x")
    made.put(f"/sys/class/net/{NAME}/queues/rx-1/x")
    return made


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> FakeProgram:
    made = FakeProgram()
    monkeypatch.setattr(xdp, "program_of", lambda name: made)
    monkeypatch.setattr(xdp, "AF_XDP", socket.AF_UNIX)
    monkeypatch.setattr(xdp, "PLACE_PAUSE_S", 0.0)
    return made


@pytest.fixture
def path(tmp_path: Path, host: FakeHost) -> Iterator[str]:
    """The helper behind a socket, as systemd starts it."""
    where = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(where)
        listener.listen()

        def run() -> None:
            while True:
                try:
                    peer = listener.accept()[0]
                except OSError:
                    return
                with peer:
                    xdp.serve(host, peer)

        server = threading.Thread(target=run)
        server.start()
        yield where
        listener.shutdown(socket.SHUT_RDWR)
        server.join(10)


@pytest.fixture
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs this is allowed to ask."""
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.getpwuid(os.geteuid()))


@pytest.mark.usefixtures("_root")
def test_sockets(host: FakeHost, program: FakeProgram, path: str) -> None:
    host.put(f"{xdp.ALLOWED}/{NAME}")
    program.late = 3
    fds = open_xdp_sockets(NAME, 2, path)
    inodes = [os.fstat(fd).st_ino for fd in fds]
    for fd in fds:
        os.close(fd)
    for _ in range(1000):
        if program.closed:
            break
        threading.Event().wait(0.01)
    assert program.placed == dict(enumerate(inodes))


@pytest.mark.usefixtures("_root", "program")
def test_refusals_travel(host: FakeHost, path: str) -> None:
    with pytest.raises(Forbidden, match=f"uswitch-xdp attach {NAME}"):
        open_xdp_sockets(NAME, 1, path)
    host.put(f"{xdp.ALLOWED}/{NAME}")
    with pytest.raises(InvalidInput, match="more than lo has"):
        open_xdp_sockets(NAME, 3, path)
    host.ip["address"] = [{"ifname": NAME, "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}]}]
    with pytest.raises(Conflict, match=r"192\.0\.2\.1/24"):
        open_xdp_sockets(NAME, 1, path)
    host.put(f"{xdp.ALLOWED}/{NAME}", "force\n")
    for fd in open_xdp_sockets(NAME, 1, path):
        os.close(fd)
    for name in ("../lo", "", "a" * 16, "lo\n", "l o", "."):
        with pytest.raises(InvalidInput):
            open_xdp_sockets(name, 1, path)


@pytest.mark.parametrize("data", [
    b"{", b"[]", b"1", b"{}", b'{"ifname": 1, "queues": 1}', b'{"ifname": "lo", "queues": true}',
    b'{"ifname": "lo", "queues": 0}', b'{"ifname": "lo", "queues": 9}', b"\xff", b" " * 300,
    b"[" * 250,
])  # fmt: skip
def test_requests_that_are_none(data: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(data)
        with pytest.raises(InvalidInput):
            xdp.read_request(theirs)


def test_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        def getsockopt(self, *_: object) -> bytes:
            return b"\x01\0\0\0" + (65000).to_bytes(4, "little") * 2

    with pytest.raises(Forbidden, match="65000"):
        xdp.check_peer(Peer())  # type: ignore[arg-type]


def test_no_helper(tmp_path: Path) -> None:
    with pytest.raises(USwitchError, match=r"systemctl enable --now uswitch-xdp\.socket"):
        open_xdp_sockets(NAME, 1, str(tmp_path / "none"))


@pytest.mark.parametrize("answer", [b"", b"x", b"[]", b"{}", b'{"error": 1}', b'{"error": {}}'])
def test_a_helper_that_talks_nonsense(tmp_path: Path, answer: bytes) -> None:
    where = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(where)
        listener.listen()

        def run() -> None:
            with listener.accept()[0] as peer:
                peer.recv(1000)
                peer.send(answer)

        server = threading.Thread(target=run)
        server.start()
        with pytest.raises(USwitchError, match="AF_XDP helper"):
            open_xdp_sockets(NAME, 1, where)
        server.join(10)


def test_attach_and_detach(host: FakeHost, program: FakeProgram,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdp_program.Program, "find", lambda index, name: program)
    assert "native XDP. Undo: uswitch-xdp detach lo" in xdp.attach(host, NAME, False)
    assert host.text(f"{xdp.ALLOWED}/{NAME}") == ""
    assert NAME in host.names(xdp.ALLOWED)
    assert "kernel's again" in xdp.detach(host, NAME)
    assert program.detached and NAME not in host.names(xdp.ALLOWED)
    host.ip["-4"] = [{"dst": "default", "dev": NAME}]
    with pytest.raises(Conflict, match="default route"):
        xdp.attach(host, NAME, False)
    assert NAME not in host.names(xdp.ALLOWED)
    xdp.attach(host, NAME, True)
    assert host.text(f"{xdp.ALLOWED}/{NAME}") == "force"
    with pytest.raises(NotFound):
        xdp.attach(host, "no-such-device", True)


def test_not_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert xdp.main(["attach", NAME]) == 1
    assert "only root may" in capsys.readouterr().err


def test_instructions() -> None:
    code = xdp_program.instructions(5)
    assert len(code) == 48
    assert code[0] == 0x61 and code[8:10] == b"\x18\x11" and code[-8] == 0x95
    assert code[32] == 0x85 and code[36] == 51
