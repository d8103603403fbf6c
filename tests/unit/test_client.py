# SPDX-License-Identifier: Apache-2.0
"""The blocking client against servers that are gone, slow, hostile or restarted."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vif_uswitch.api import wire
from vif_uswitch.client import Client, default_socket
from vif_uswitch.exceptions import (
    DaemonUnreachable,
    NotFound,
    ProtocolError,
    TimedOut,
    USwitchError,
)

VERSION = {"version": "1", "api": "1", "pid": 5}


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        yield f"{name}/s"


@contextlib.contextmanager
def serving(path: str, talk: Callable[[socket.socket], None], clients: int = 1) -> Iterator[None]:
    """A server that speaks to each of its clients as ``talk`` says."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)
    listener.settimeout(10)

    def run() -> None:
        for _ in range(clients):
            connection, _ = listener.accept()
            connection.settimeout(10)
            with connection, contextlib.suppress(OSError):
                talk(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join(10)
        os.unlink(path)


def reply_with(data: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return talk


def test_the_user_of_the_daemon_is_the_kernel_s_word(path: str) -> None:
    served = threading.Event()

    def talk(connection: socket.socket) -> None:
        served.set()

    with serving(path, talk), Client(path) as client:
        assert client.peer_uid() == os.geteuid()
        assert served.wait(10)
    with pytest.raises(DaemonUnreachable):
        Client(path).peer_uid()


def test_the_socket_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USWITCH_SOCKET", raising=False)
    assert default_socket() == "/run/uswitch/control.sock"
    monkeypatch.setenv("USWITCH_SOCKET", "/x/y")
    assert Client().path == "/x/y"
    assert Client("/z").path == "/z"


def test_not_running(path: str) -> None:
    with Client(path) as client, pytest.raises(DaemonUnreachable, match="not running") as caught:
        client.version()
    assert path in str(caught.value) and "USWITCH_SOCKET" in str(caught.value)


def test_left_behind_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with Client(path) as client, pytest.raises(DaemonUnreachable, match="nobody behind it"):
        client.version()


def test_path_too_long() -> None:
    with Client("/tmp/" + "x" * 200) as client, pytest.raises(DaemonUnreachable, match="too long"):
        client.version()


@pytest.mark.skipif(os.geteuid() != 0, reason="permissions do not stop root; needs another user")
def test_not_permitted(path: str) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        code = (
            f"import os; os.setgroups([]); os.setgid(65534); os.setuid({uid})\n"
            "from vif_uswitch.client import Client\n"
            f"try: Client({path!r}).version()\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        top = str(pathlib.Path(wire.__file__).parents[2])
        code = "import vif_uswitch.client, vif_uswitch.exceptions, encodings.idna\n" + code
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=top
        )
    assert done.stdout.startswith("DaemonUnreachable") and "may not be used by you" in done.stdout
    assert "control_group" in done.stdout


def test_deadline_covers_everything(path: str) -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.05)

    with serving(path, drip), Client(path, 0.4) as client:
        begun = time.monotonic()
        with pytest.raises(TimedOut, match=r"no answer to version within 0.4 s"):
            client.version()
        assert time.monotonic() - begun > 0.3


def test_deadline_when_nobody_accepts(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        clients = [Client(path, 0.3) for _ in range(3)]
        for client in clients:
            with pytest.raises(TimedOut):
                client.version()


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n",
        b"{}\n",
        b"\xff\n",
        b'{"jsonrpc":"2.0","id":1,"result":5}\n',
        b'{"jsonrpc":"2.0","id":99,"result":{}}\n',
        b"x" * (wire.MAX_LINE + 70000),
        b"[" * 50000 + b"\n",
    ],
)
def test_a_server_that_talks_nonsense(path: str, data: bytes) -> None:
    with serving(path, reply_with(data)), Client(path, 5) as client:
        with pytest.raises(ProtocolError):
            client.version()


def test_closed_without_an_answer(path: str) -> None:
    with serving(path, reply_with(b"")), Client(path) as client:
        with pytest.raises(DaemonUnreachable, match="without an answer"):
            client.version()


def test_errors_of_the_daemon_are_ours_again(path: str) -> None:
    error = wire.error(1, NotFound("port", "x", "does not exist", "Add it."))
    with serving(path, reply_with(error)), Client(path) as client:
        with pytest.raises(NotFound, match=r"port x: does not exist\. Add it\."):
            client.port_show("x")


def test_a_refusal_that_came_before_the_request(path: str) -> None:
    error = wire.error(None, USwitchError("control socket", None, "go away"))

    def talk(connection: socket.socket) -> None:
        connection.sendall(error)

    with serving(path, talk), Client(path) as client:
        with pytest.raises(USwitchError, match="go away"):
            client.version()


def test_an_idle_client_notices_a_restart(path: str) -> None:
    """The second call goes to the second server, without an error in between."""

    def once(connection: socket.socket) -> None:
        request = json.loads(connection.recv(65536))
        connection.sendall(wire.result(request["id"], VERSION))

    client = Client(path, 5)
    with serving(path, once):
        assert client.version() == VERSION
    with serving(path, once):
        assert client.version() == VERSION
    client.close()


def test_pages_are_put_together(path: str) -> None:
    def talk(connection: socket.socket) -> None:
        for following in ("a", "b", ""):
            request = json.loads(connection.recv(65536))
            page = {"ports": [{"name": request["params"]["cursor"]}], "next": following}
            connection.sendall(wire.result(request["id"], page))

    with serving(path, talk), Client(path) as client:
        assert [row["name"] for row in client.port_list()] == ["", "a", "b"]
