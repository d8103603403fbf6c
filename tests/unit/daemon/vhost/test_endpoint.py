# SPDX-License-Identifier: Apache-2.0
"""Where connections come from: modes of the socket file, stale ones, links, directories."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import stat
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest

from vif_uswitch.daemon.vhost import endpoint
from vif_uswitch.daemon.vhost.endpoint import Connector, Listener, check_path, peer_pid
from vif_uswitch.daemon.vhost.inotify import DirWatcher
from vif_uswitch.dataplane import unixpath
from vif_uswitch.exceptions import Conflict, InvalidInput, Unavailable


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def _listener(path: pathlib.Path, taken: list[socket.socket], mode: int = 0o660) -> Listener:
    return Listener.make(str(path), str(path.parent), mode, -1, taken.append)


def test_mode_group_and_end_of_the_socket_file(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        path, taken = short_dir / "a.sock", []  # type: ignore[var-annotated]
        listener = Listener.make(str(path), str(short_dir), 0o620, os.getgid(), taken.append)
        found = os.stat(path)
        assert stat.S_IMODE(found.st_mode) == 0o620
        assert found.st_gid == os.getgid()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            await asyncio.sleep(0.01)
            assert peer_pid(taken[0]) == os.getpid()
            taken[0].close()
        copy = listener.sock.dup()  # as the dataplane holds it
        other_name = short_dir / "b.sock"
        os.link(path, other_name)
        listener.close()
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(str(other_name))
        copy.close()

    run(test())


def _bind_again(path: pathlib.Path) -> str:
    """A socket file nobody listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return str(path)


def test_stale_file_is_replaced_and_a_live_one_is_not(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        path = short_dir / "a.sock"
        _bind_again(path)
        listener = _listener(path, [])
        with pytest.raises(Conflict, match="listens"):
            _listener(path, [])
        listener.close()
        path.write_text("precious")
        with pytest.raises(Conflict, match="no socket"):
            _listener(path, [])
        assert path.read_text() == "precious"

    run(test())


def test_somebody_elses_file_is_left_alone_at_the_end(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        path = short_dir / "a.sock"
        listener = _listener(path, [])
        path.unlink()
        _bind_again(path)
        listener.close()
        assert path.exists()

    run(test())


@pytest.mark.parametrize(
    "path", ["a", "/run/../etc/x", "/etc/x", "/run/vhost", "/run/vhost/" + "x" * 100]
)
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(InvalidInput):
        check_path(path, "/run/vhost")


def test_a_directory_that_leads_elsewhere(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        (short_dir / "in").mkdir()
        (short_dir / "out").mkdir()
        (short_dir / "in" / "link").symlink_to(short_dir / "out")
        path = short_dir / "in" / "link" / "a.sock"
        with pytest.raises(Unavailable, match="outside"):
            Listener.make(str(path), str(short_dir / "in"), 0o600, -1, lambda sock: None)
        assert not list((short_dir / "out").iterdir())

        outside = socket.socket(socket.AF_UNIX)
        outside.bind(str(short_dir / "out" / "a.sock"))
        outside.listen()
        outside.setblocking(False)
        (short_dir / "in" / "b.sock").symlink_to(short_dir / "out" / "a.sock")
        (short_dir / "in" / "c.sock").write_text("")
        for name, why in (
            ("link/a.sock", "outside"),
            ("b.sock", "not a socket"),
            ("c.sock", "not a socket"),
        ):
            said: list[str] = []
            connector = Connector(
                str(short_dir / "in" / name), str(short_dir / "in"), DirWatcher(),
                lambda sock: pytest.fail("connected"), said.append,
            )  # fmt: skip
            connector.resume()
            await asyncio.sleep(0.15)
            connector.close()
            assert len(said) == 1
            assert why in said[0]
        with pytest.raises(BlockingIOError):
            outside.accept()
        outside.close()

    run(test())


def test_connects_soon_after_the_socket_appears(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        path = short_dir / "later" / "a.sock"
        watcher = DirWatcher()
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[socket.socket] = loop.create_future()
        connector = Connector(
            str(path), str(short_dir), watcher, connected.set_result, lambda text: None
        )
        connector.resume()
        await asyncio.sleep(0.4)  # by now it looks twice a second
        path.parent.mkdir()
        await asyncio.sleep(1.1)
        connector._arm(3600)  # from here on only the news of the file can help
        qemu = socket.socket(socket.AF_UNIX)
        qemu.bind(str(path))
        await asyncio.sleep(0.02)  # QEMU takes its time between bind and listen
        qemu.listen()
        sock = await connected
        sock.close()
        connector.close()
        watcher.close()
        qemu.close()

    run(test())


def test_who_is_told_does_not_look(
    short_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand ports that wait for their guests must not cost a processor."""

    async def test() -> None:
        looks: list[str] = []

        def connect(path: str, kind: int, below: str) -> socket.socket:
            looks.append(path)
            raise FileNotFoundError

        monkeypatch.setattr(unixpath, "connect", connect)
        watcher = DirWatcher()
        for name in ("there", "missing"):
            connector = Connector(str(short_dir / name / "a.sock"), str(short_dir), watcher,
                                  lambda sock: None, lambda text: None)  # fmt: skip
            (short_dir / "there").mkdir(exist_ok=True)
            looks.clear()
            connector.resume()
            await asyncio.sleep(0.2)
            connector.close()
            assert (len(looks) == 1) == (name == "there"), looks
        watcher.close()

    run(test())


@pytest.mark.parametrize("loss", ["removed", "renamed"])
def test_a_directory_that_is_made_anew(short_dir: pathlib.Path, loss: str) -> None:
    async def test() -> None:
        path = short_dir / "in" / "a.sock"
        path.parent.mkdir()
        watcher = DirWatcher()
        connected: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        connector = Connector(
            str(path), str(short_dir), watcher, connected.set_result, lambda text: None
        )
        connector.resume()
        await asyncio.sleep(0.05)
        if loss == "removed":
            path.parent.rmdir()
        else:
            path.parent.rename(short_dir / "away")
        path.parent.mkdir()
        qemu = socket.socket(socket.AF_UNIX)
        qemu.bind(str(path))
        qemu.listen()
        (await asyncio.wait_for(connected, endpoint.LOOK_S / 3)).close()
        connector.close()
        watcher.close()
        qemu.close()

    run(test())


def test_news_that_the_kernel_dropped(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        watcher = DirWatcher()
        woken: list[int] = []
        for i in range(3):
            assert watcher.watch(str(short_dir / f"{i}.sock"), partial(woken.append, i))
        watcher._tell(-1, 0x4000, "")  # IN_Q_OVERFLOW
        assert woken == [0, 1, 2]
        watcher.close()

    run(test())


def test_one_inotify_descriptor_for_all(short_dir: pathlib.Path) -> None:
    async def test() -> None:
        watcher = DirWatcher()
        before = len(os.listdir("/proc/self/fd"))
        woken: list[int] = []
        wakes = [lambda i=i: woken.append(i) for i in range(50)]
        for i, wake in enumerate(wakes):
            watcher.watch(str(short_dir / f"{i}.sock"), wake)
        assert len(os.listdir("/proc/self/fd")) == before + 1
        (short_dir / "7.sock").touch()
        (short_dir / "other").touch()
        await asyncio.sleep(0.02)
        assert woken == [7]
        for i, wake in enumerate(wakes):
            watcher.unwatch(str(short_dir / f"{i}.sock"), wake)
        (short_dir / "8.sock").touch()
        await asyncio.sleep(0.02)
        assert woken == [7]
        watcher.close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(test())
