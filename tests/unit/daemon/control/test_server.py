# SPDX-License-Identifier: Apache-2.0
"""Hostile and unlucky clients of the control socket lose their connection; nobody else notices."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import select
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch.api import wire
from vif_uswitch.client import Client
from vif_uswitch.daemon.control import server
from vif_uswitch.daemon.control.server import Limits
from vif_uswitch.exceptions import Busy, Conflict, DaemonUnreachable, Unavailable

QUICK = Limits(half_line_s=0.3, slow_reader_s=0.3, idle_s=0.3)
REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"v1.version"}\n'


@pytest.fixture
def quick(short_dir: pathlib.Path) -> Iterator[Control]:
    with Control(short_dir, QUICK).serving() as running:
        yield running


def read_line(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(65536)
        assert piece, f"closed after {data!r}"
        data += piece
    value: dict[str, Any] = json.loads(data)
    return value


def ask(control: Control, line: bytes) -> dict[str, Any]:
    with control.raw() as connection:
        connection.sendall(line)
        return read_line(connection)


def is_well(control: Control) -> None:
    with control.client(60) as client:
        assert client.version()["api"] == "1"


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (b"\n", -32700, "not JSON"),
        (b"garbage\n", -32700, "not JSON"),
        (b"\x00\x01\xff\xfe\n", -32700, "not UTF-8"),
        (b"\x00\n", -32700, "not JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.ver\x00sion"}\n', -32700, "not JSON"),
        (b"[" * 60000 + b"\n", -32700, "nested"),
        (b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"\n", -32700, "nested"),
        (b"[]\n", -32600, "batch"),
        (b"[" + REQUEST.strip() + b"]\n", -32600, "batch"),
        (b"5\n", -32600, "no JSON object"),
        (b"{}\n", -32600, "jsonrpc"),
        (b'{"jsonrpc":"1.0","id":1,"method":"v1.version"}\n', -32600, "jsonrpc"),
        (b'{"jsonrpc":"2.0","method":"v1.version"}\n', -32600, "notifications"),
        (b'{"jsonrpc":"2.0","id":null,"method":"v1.version"}\n', -32600, "id"),
        (b'{"jsonrpc":"2.0","id":[1],"method":"v1.version"}\n', -32600, "id"),
        (b'{"jsonrpc":"2.0","id":true,"method":"v1.version"}\n', -32600, "id"),
        (b'{"jsonrpc":"2.0","id":"' + b"x" * 65 + b'","method":"v1.version"}\n', -32600, "id"),
        (b'{"jsonrpc":"2.0","id":1}\n', -32600, "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":7}\n', -32600, "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.version","params":[1]}\n', -32600, "by name"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.version","x":1}\n', -32600, "does not belong"),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"v1.version"}\n', -32700, "twice"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.port.add","params":{"port":'
         b'{"name":"a","name":"b"}}}\n', -32700, "twice"),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"v1.version"}\n', -32700, "64 bits"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.version","params":{"a":NaN}}\n', -32700, "NaN"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.version","params":{"a":1e999}}\n', -32602, "a"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v9.version"}\n', -32601, "unknown"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.__init__"}\n', -32601, "unknown"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.call"}\n', -32601, "unknown"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.version","params":{"a":1}}\n', -32602, "unknown"),
        (b'{"jsonrpc":"2.0","id":1,"method":"v1.port.add","params":{"port":5}}\n', -32602, "port"),
    ],
)  # fmt: skip
def test_what_is_no_request_gets_a_clear_error(
    quick: Control, line: bytes, code: int, text: str
) -> None:
    answer = ask(quick, line)
    assert answer["error"]["code"] == code
    assert text in answer["error"]["message"]
    assert "Traceback" not in json.dumps(answer)
    is_well(quick)


def test_a_connection_survives_a_bad_request(quick: Control) -> None:
    with quick.raw() as connection:
        connection.sendall(b"garbage\n")
        assert read_line(connection)["error"]["code"] == -32700
        connection.sendall(REQUEST)
        assert read_line(connection)["result"]["api"] == "1"


def test_64_kib_are_a_line_and_one_byte_more_is_not(quick: Control) -> None:
    start = b'{"jsonrpc":"2.0","id":1,"method":"v1.version","params":{"a":"'
    end = b'"}}\n'
    fits = start + b"x" * (wire.MAX_LINE - len(start) - len(end)) + end
    assert len(fits) == wire.MAX_LINE
    assert ask(quick, fits)["error"]["code"] == -32602
    with quick.raw() as connection:
        connection.sendall(start + b"x" + fits[len(start) :])
        assert "more than 65536 bytes" in read_line(connection)["error"]["message"]
        assert connection.recv(1) == b""
    is_well(quick)


def test_half_a_line_then_silence(quick: Control) -> None:
    with quick.raw() as connection:
        begun = time.monotonic()
        connection.sendall(REQUEST[:20])
        is_well(quick)
        assert "incomplete after 0.3 s" in read_line(connection)["error"]["message"]
        assert connection.recv(1) == b""
        assert time.monotonic() - begun > 0.2


def test_a_byte_now_and_then_does_not_move_the_deadline(quick: Control) -> None:
    with quick.raw() as connection:
        with pytest.raises(OSError):
            for byte in REQUEST[:-1] * 10:  # a line that does not end
                connection.send(bytes([byte]))
                time.sleep(0.05)


def test_an_idle_client_may_stay(quick: Control) -> None:
    with quick.client() as client:
        client.version()
        time.sleep(0.8)
        client.version()


def test_requests_sent_ahead_are_answered_in_order(quick: Control) -> None:
    with quick.raw() as connection:
        connection.sendall(b"".join(REQUEST.replace(b'"id":1', b'"id":%d' % i) for i in range(50)))
        data = b""
        while data.count(b"\n") < 50:
            data += connection.recv(65536)
    assert [json.loads(line)["id"] for line in data.splitlines()] == list(range(50))


def test_a_client_that_does_not_read_is_dropped(quick: Control) -> None:
    schema = REQUEST.replace(b"v1.version", b"v1.schema")
    with quick.raw() as connection:
        connection.setblocking(False)
        deadline = time.monotonic() + 8
        dropped = False
        while not dropped and time.monotonic() < deadline:
            try:
                connection.send(schema * 100)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                dropped = True
        assert dropped
    is_well(quick)


def test_sixty_four_clients_and_no_more(control: Control) -> None:
    connections = [control.raw() for _ in range(64)]
    try:
        for connection in connections:  # all of them are served
            connection.sendall(REQUEST)
            assert read_line(connection)["result"]["api"] == "1"
        with control.client() as client, pytest.raises(Busy, match="64 clients"):
            client.version()
        connections.pop().close()
        deadline = time.monotonic() + 5
        while True:
            try:
                with control.client() as client:
                    client.version()
                break
            except Busy:
                assert time.monotonic() < deadline
    finally:
        for connection in connections:
            connection.close()


def test_idle_clients_make_room(quick: Control) -> None:
    connections = [quick.raw() for _ in range(64)]
    try:
        time.sleep(0.5)
        is_well(quick)  # the client that was silent longest had to go
        gone = select.select(connections, [], [], 1)[0]
        assert gone == connections[:1]
    finally:
        for connection in connections:
            connection.close()


def test_flood_of_connections_leaves_an_honest_client_alone(quick: Control) -> None:
    with quick.client() as honest:
        honest.version()
        for round_ in range(300):
            connection = quick.raw()
            connection.sendall(os.urandom(50) if round_ % 2 else REQUEST)
            connection.close()
        assert honest.version()["api"] == "1"


def test_fds_and_tasks_do_not_leak(quick: Control) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    is_well(quick)
    before = open_files()
    for i in range(200):
        with quick.raw() as connection:
            connection.sendall((b"x" * 10, REQUEST, b"\n", b"")[i % 4])
    deadline = time.monotonic() + 5
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files() <= before


def test_a_request_in_progress_survives_its_client(short_dir: pathlib.Path) -> None:
    import asyncio

    control = Control(short_dir)
    seen: list[str] = []

    async def slow(method: str, params: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.3)
        seen.append(method)
        return {}

    control.call = slow
    with control.serving():
        with control.raw() as connection:
            connection.sendall(REQUEST)
            time.sleep(0.1)
        time.sleep(0.5)
        assert seen == ["v1.version"]
        with control.raw() as connection:  # stop() lets it finish, too
            connection.sendall(REQUEST)
            time.sleep(0.1)
            control.loop.call_soon_threadsafe(control.stopped.set)
            assert read_line(connection)["result"] == {}
    assert seen == ["v1.version"] * 2


def test_a_reply_that_does_not_fit_is_an_error(short_dir: pathlib.Path) -> None:
    control = Control(short_dir)

    async def much(method: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"a": "x" * wire.MAX_LINE}

    control.call = much
    with control.serving(), control.client() as client, pytest.raises(Exception, match="65536"):
        client.version()


# ---- who may ----


def test_the_socket_is_for_owner_and_group_only(control: Control) -> None:
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o660


def as_user(uid: int, gid: int, groups: list[int], path: str) -> dict[str, Any]:
    """What the daemon answers another user, who has got hold of the socket."""
    code = (
        "import os, socket, sys\n"
        f"os.setgroups({groups}); os.setgid({gid}); os.setuid({uid})\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
        f"s.connect({path!r})\n"
        f"try: s.sendall({REQUEST!r})\n"
        "except BrokenPipeError: pass\n"
        "sys.stdout.write(s.makefile().readline())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become several users")
def test_other_users_need_the_group(short_dir: pathlib.Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    control = Control(short_dir)
    control.gid = 4321
    with control.serving():
        assert os.stat(control.path).st_gid == 4321
        os.chmod(short_dir, 0o755)
        os.chmod(control.path, 0o666)  # so that it is the daemon that decides
        refused = as_user(nobody, 65534, [], control.path)
        assert refused["error"]["code"] == -32006 and refused["id"] is None
        assert f"uid {nobody} may not use it" in refused["error"]["message"]
        assert "result" in as_user(nobody, 4321, [], control.path)
        assert "result" in as_user(nobody, 65534, [1234, 4321], control.path)
        assert "error" in as_user(nobody, 65534, [1234], control.path)
        is_well(control)


# ---- the socket itself ----


def test_a_stale_socket_is_replaced_and_a_file_is_not(short_dir: pathlib.Path) -> None:
    path = str(short_dir / "s")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    server.listen(path, None).close()
    os.unlink(path)
    pathlib.Path(path).write_text("precious")
    with pytest.raises(Conflict, match="no socket"):
        server.listen(path, None)
    assert pathlib.Path(path).read_text() == "precious"


def test_a_path_that_is_too_long_or_nowhere(short_dir: pathlib.Path) -> None:
    with pytest.raises(Unavailable, match="too long"):
        server.listen(str(short_dir / ("x" * 120)), None)
    with pytest.raises(Unavailable, match="No such file"):
        server.listen(str(short_dir / "no" / "s"), None)


def test_nobody_is_served_after_stop(short_dir: pathlib.Path) -> None:
    control = Control(short_dir)
    with control.serving():
        is_well(control)
    assert os.path.exists(control.path), "who may use which switch must not depend on this moment"
    with Client(control.path) as client, pytest.raises(DaemonUnreachable, match="not running any"):
        client.version()
    server.listen(control.path, None).close()  # the next one's
