# SPDX-License-Identifier: Apache-2.0
"""Sockets by path: long ones, links, full backlogs."""

from __future__ import annotations

import os
import pathlib
import socket
import stat

import pytest

from vif_uswitch.dataplane import unixpath


def test_long_paths_and_modes(tmp_path: pathlib.Path) -> None:
    deep = tmp_path.joinpath("d" * 100, "e" * 100)
    deep.mkdir(parents=True)
    path = str(deep / "a.sock")
    assert len(path) > 200
    sock, identity = unixpath.bind(path, socket.SOCK_SEQPACKET, mode=0o640)
    with sock:
        found = os.lstat(path)
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert identity == (found.st_dev, found.st_ino)
        with pytest.raises(ConnectionRefusedError):
            unixpath.connect(path, socket.SOCK_SEQPACKET)  # nobody, before listen()
        assert not unixpath.is_alive(path, socket.SOCK_SEQPACKET)
        sock.listen(0)
        assert unixpath.is_alive(path, socket.SOCK_SEQPACKET)
        waiting = []
        with pytest.raises(BlockingIOError):
            for _ in range(5):
                waiting.append(unixpath.connect(path, socket.SOCK_SEQPACKET))
        assert unixpath.is_alive(path, socket.SOCK_SEQPACKET), "a full backlog is alive"
        for one in waiting:
            one.close()
    unixpath.remove_if(path, (0, 0))
    assert os.path.exists(path)
    unixpath.remove_if(path, identity)
    assert not os.path.exists(path)
    unixpath.remove_if(path, identity)


def test_nothing_leaks_and_nothing_is_followed(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "file")
    below = str(tmp_path / "in")
    for path, error in (
        (tmp_path / "in" / "none", FileNotFoundError),
        (tmp_path / "in" / "link", unixpath.NotASocket),
        (tmp_path / "file", unixpath.Escapes),
        (tmp_path / "file" / "x", NotADirectoryError),
    ):
        with pytest.raises(error):
            unixpath.connect(str(path), socket.SOCK_STREAM, below)
    with pytest.raises(unixpath.Escapes):
        unixpath.bind(str(tmp_path / "x.sock"), socket.SOCK_STREAM, below=below)
    with pytest.raises(OSError):
        unixpath.bind(str(tmp_path / "file"), socket.SOCK_STREAM)
    assert len(os.listdir("/proc/self/fd")) == before
