# SPDX-License-Identifier: Apache-2.0
"""Socket files that a dead QEMU left: removed with their port, and nothing else with them."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket

import pytest

from tests.unit.daemon.control_rig import Control
from vif_uswitch.daemon.vhost import stale
from vif_uswitch.daemon.vhost.stale import remove_stale


def left(path: pathlib.Path) -> pathlib.Path:
    """The file of a process that was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return path


def removed(path: pathlib.Path, below: pathlib.Path) -> bool:
    return asyncio.run(remove_stale(str(path), str(below)))


@pytest.fixture
def base(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "vhost").mkdir()
    return tmp_path / "vhost"


def test_a_stale_socket_goes(base: pathlib.Path) -> None:
    path = left(base / "a.sock")
    assert removed(path, base) and not path.exists()
    assert not removed(path, base)
    (base / "sub").mkdir()
    assert removed(left(base / "sub/b.sock"), base)
    assert not removed(base / "absent/c.sock", base)


def test_other_things_stay(base: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = left(base.parent / "outside.sock")
    (base / "file").write_text("x")
    (base / "dir").mkdir()
    (base / "link").symlink_to(outside)
    (base / "linked").symlink_to(base.parent)
    for name in ("file", "dir", "link", "linked/outside.sock", "../outside.sock"):
        assert not removed(base / name, base)
        assert os.path.lexists(base / name)
    assert "linked/outside.sock stays: its directory is" in caplog.text


def test_somebody_listens(base: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(base / "a.sock"))
        sock.listen(0)
        assert not removed(base / "a.sock", base)
        assert not removed(base / "a.sock", base)  # the queue of connections is full now
    assert (base / "a.sock").exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_between_bind_and_listen(
    base: pathlib.Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """A QEMU that is just starting: it listens, or has another file there, a moment later."""
    path = left(base / "a.sock")
    socks: list[socket.socket] = []

    async def meanwhile(_: float) -> None:
        path.unlink()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        if not replaced:
            sock.listen(1)
        socks.append(sock)

    monkeypatch.setattr(stale.asyncio, "sleep", meanwhile)  # type: ignore[attr-defined]
    assert not removed(path, base) and path.exists()
    socks.pop().close()


def test_a_directory_that_may_not_be_written_is_only_a_warning(
    base: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = left(base / "a.sock")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(stale.os, "unlink", refuse)  # type: ignore[attr-defined]
    assert not removed(path, base)
    assert f"{path} stays: Permission denied" in caplog.text


def test_the_end_of_the_port_is_the_end_of_the_file(control: Control) -> None:
    vhost = control.vhost
    with control.client() as client:
        client.port_add({"name": "server"})
        client.port_add({"name": "client", "mode": "client"})
        client.port_add({"name": "b", "path": str(vhost / "other.sock")})
        for name in ("server", "client", "nobody", "other", "b"):
            left(vhost / f"{name}.sock")
        assert client.port_delete("server") and client.port_delete("client")
        assert not client.port_delete("nobody")
        assert not client.port_delete("other")  # where port b waits for its QEMU
        assert not client.uplink_delete("b2")
        assert {path.name for path in vhost.iterdir()} == {"client.sock", "other.sock", "b.sock"}
        assert client.port_delete("b")
        assert {path.name for path in vhost.iterdir()} == {"client.sock", "b.sock"}
        assert not client.port_delete("b")
    assert {path.name for path in vhost.iterdir()} == {"client.sock"}
