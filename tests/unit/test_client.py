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

from vif_uswitch import client as client_module
from vif_uswitch import places
from vif_uswitch.api import wire
from vif_uswitch.client import Client, default_socket
from vif_uswitch.exceptions import (
    DaemonUnreachable,
    InvalidInput,
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


@pytest.fixture
def two_switches(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Paths of the host's socket and of the user's own; neither is there yet."""
    (tmp_path / "uswitch").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    monkeypatch.delenv("USWITCH_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(client_module, "DEFAULT_SOCKET", str(tmp_path / "system"))
    return str(tmp_path / "system"), str(tmp_path / "uswitch/control.sock")


def test_which_switch_a_user_gets(
    two_switches: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, own = two_switches
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(places, "_unfit", lambda _: "")
    allowed = True
    monkeypatch.setattr(os, "access", lambda path, _: allowed and os.path.exists(path))
    assert default_socket() == system, "of none the host's, so that the complaint is about it"
    pathlib.Path(own).touch()
    assert default_socket() == own
    pathlib.Path(system).touch()
    assert default_socket() == system, "whether somebody answers there or not"
    allowed = False
    assert default_socket() == own
    assert (default_socket("system"), default_socket("user")) == (system, own)
    monkeypatch.setenv("USWITCH_SOCKET", "/x")
    assert (default_socket(), default_socket("user")) == ("/x", own)


def test_root_gets_the_hosts_switch(
    two_switches: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, own = two_switches
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    pathlib.Path(own).touch()
    assert default_socket() == system


def test_no_directory_for_a_switch_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for it is told; who does not, gets the host's."""
    monkeypatch.delenv("USWITCH_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert default_socket() == "/run/uswitch/control.sock"
    with pytest.raises(InvalidInput, match="XDG_RUNTIME_DIR /nonexistent"):
        default_socket("user")


def test_what_to_start_depends_on_whose_it_is(two_switches: tuple[str, str]) -> None:
    _, own = two_switches
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(own)
    with Client(own) as client, pytest.raises(DaemonUnreachable, match="systemctl --user start"):
        client.version()


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


def test_a_deadline_for_all_calls_together(path: str) -> None:
    """Of a list that never ends each page comes in time."""
    def endless(connection: socket.socket) -> None:
        for line in connection.makefile("rb"):
            page = {"ports": [], "next": "more"}
            reply = {"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": page}
            connection.sendall(json.dumps(reply).encode() + b"\n")

    with serving(path, endless), Client(path, 60, time.monotonic() + 0.3) as client:
        with pytest.raises(TimedOut, match=r"no answer to port\.list"):
            client.port_list()


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
