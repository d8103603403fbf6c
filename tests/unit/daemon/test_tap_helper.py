# SPDX-License-Identifier: Apache-2.0
"""Asking for devices: helpers that answer, refuse, end, talk nonsense, or are not there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vif_uswitch.daemon import tap_helper
from vif_uswitch.daemon.tap import TapOpener
from vif_uswitch.daemon.tap_helper import TapHelper
from vif_uswitch.exceptions import Forbidden, NotFound, Unavailable, USwitchError

Talk = Callable[[socket.socket, bytes], None]


@contextlib.contextmanager
def helper(path: str, talk: Talk, *, requests: int = 1 << 30) -> Iterator[list[bytes]]:
    """Answers as ``talk`` does, and hangs up after so many ``requests`` of a connection."""
    seen: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()

    def serve(peer: socket.socket) -> None:
        for _ in range(requests):
            data = peer.recv(1024)
            if not data:
                return
            seen.append(data)
            talk(peer, data)

    def run() -> None:
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                serve(peer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        os.unlink(path)


def give(peer: socket.socket, _data: bytes) -> None:
    with open("/dev/null", "rb") as file:
        socket.send_fds(peer, [b"{}"], [file.fileno()])


def refuse(error: USwitchError) -> Talk:
    said = {"error": {"code": error.code, "message": str(error), "data": error.data()}}
    return lambda peer, _data: peer.sendall(json.dumps(said).encode())


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def asked(path: str) -> Iterator[TapHelper]:
    made = TapHelper(path)
    yield made
    made._hang_up()


def test_one_connection_for_many_devices(path: str, asked: TapHelper) -> None:
    with helper(path, give) as seen:
        for name in ("tap0", "tap1"):
            fd = asked.open("ns", name)
            assert not os.get_inheritable(fd)
            os.close(fd)
        asked._hang_up()
    assert [json.loads(one) for one in seen] == [
        {"netns": "ns", "ifname": name} for name in ("tap0", "tap1")
    ]


def test_a_helper_that_ended_meanwhile_is_started_anew(path: str, asked: TapHelper) -> None:
    with helper(path, give, requests=1):
        for _ in range(3):
            os.close(asked.open("ns", "tap0"))


def test_refusals_travel(path: str, asked: TapHelper) -> None:
    with helper(path, refuse(Forbidden("the TAP device", "tap0", "belongs to nobody", "Own it."))):
        with pytest.raises(Forbidden, match=r"tap0: belongs to nobody\. Own it\."):
            asked.open("ns", "tap0")
        asked._hang_up()


@pytest.mark.parametrize("said", [
    b"x", b"[]", b"null", b'{"error": 1}', b'{"error": {"code": "x"}}', b"{}",
])  # fmt: skip
def test_nonsense(path: str, asked: TapHelper, said: bytes) -> None:
    with helper(path, lambda peer, _data: peer.sendall(said)):
        with pytest.raises(USwitchError, match="TAP helper"):
            asked.open("ns", "tap0")
        asked._hang_up()


def test_devices_beside_a_refusal_are_closed(path: str, asked: TapHelper) -> None:
    def both(peer: socket.socket, _data: bytes) -> None:
        socket.send_fds(peer, [b'{"error": 1}'], [peer.fileno()])

    with helper(path, both):
        with pytest.raises(USwitchError):
            asked.open("ns", "tap0")
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(USwitchError):
            asked.open("ns", "tap0")
        assert len(os.listdir("/proc/self/fd")) == before
        asked._hang_up()


def test_nobody_there(path: str, asked: TapHelper, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"does not answer.*systemctl enable --now uswitch-tap"):
        asked.open("ns", "tap0")
    monkeypatch.setattr(tap_helper, "TIMEOUT_S", 0.05)
    with helper(path, lambda peer, _data: None):
        with pytest.raises(Unavailable, match="timed out"):
            asked.open("ns", "tap0")
        assert asked._peer is None


# ---- which way a device is opened ----


def test_a_device_elsewhere_is_asked_for(path: str, asked: TapHelper) -> None:
    opener = TapOpener(asked)
    with helper(path, give) as seen:
        os.close(opener("nosuch0", "ns", "web"))
        with pytest.raises(NotFound, match="ip tuntap add dev nosuch0"):
            opener("nosuch0", "", "web")
        asked._hang_up()
    assert len(seen) == 1


def test_what_an_operator_reads(path: str, asked: TapHelper) -> None:
    opener = TapOpener(asked)
    with pytest.raises(Unavailable) as missing:
        opener("nosuch0", "qdhcp-1", "web")
    for word in ("nosuch0", "qdhcp-1", path, "does not answer", "systemctl enable --now"):
        assert word in str(missing.value)
    with helper(path, refuse(NotFound("network namespace", "qdhcp-1", "does not exist"))):
        with pytest.raises(NotFound, match="neither in our network namespace nor in qdhcp-1"):
            opener("nosuch0", "qdhcp-1", "web")
        asked._hang_up()
