# SPDX-License-Identifier: Apache-2.0
"""uswitch-tap: requests that are none, and places that are no network namespace.

What it opens and what it refuses to open takes root: tests/functional/test_tap_netns.py.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from vif_uswitch.exceptions import Forbidden, InvalidInput, NotFound
from vif_uswitch.uplink import tap, tap_device


def test_request() -> None:
    asked = {"netns": "qdhcp-940d342f-10aa-4bbb-8ccc-0123456789ab", "ifname": "tap940d342f-10"}
    assert tap.read_request(json.dumps(asked).encode()) == tuple(asked.values())


def names(netns: object, ifname: object) -> bytes:
    return json.dumps({"netns": netns, "ifname": ifname}).encode()


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"1", b"null", b"{}", b"\xff", b"[" * 250, b'"netns"',
    names("n", "t") + b" " * 256, b'{"netns": "n"}', b'{"ifname": "t"}',
    b'{"netns": "n", "ifname": "t", "mode": "tun"}',
    *(names(bad, "t") for bad in
      ("", ".", "..", "../n", "a/b", "/run/netns/n", "-n", "n\n", "n\0", "n o", "x" * 65, 1, None,
       ["n"], "\u00e4")),
    *(names("n", bad) for bad in
      ("", ".", "..", "a/b", "tap%d", "t\n", "t\0", "x" * 16, 1, None, ["t"], {"t": 1})),
])  # fmt: skip
def test_requests_that_are_none(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="request"):
        tap.read_request(data)


def test_places_that_are_no_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of them makes it wait, or is followed to somewhere else."""
    monkeypatch.setattr(tap, "NAMESPACES", str(tmp_path))
    with pytest.raises(NotFound, match="does not exist"):
        tap.enter("nothing")
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/proc/self/ns/net")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    before = len(os.listdir("/proc/self/fd"))
    for name in ("file", "directory", "fifo", "link", "socket"):
        with pytest.raises(InvalidInput, match=name):
            tap.enter(name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_namespace_of_another_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = os.open
    monkeypatch.setattr(os, "open", lambda _path, flags: opened("/proc/self/ns/uts", os.O_RDONLY))
    with pytest.raises(InvalidInput, match="no network namespace"):
        tap.enter("uts")


def test_root_gets_nothing() -> None:
    class Peer:
        def getsockopt(self, *_: object) -> bytes:
            return struct.pack("3i", 1, 0, 0)

    with pytest.raises(Forbidden, match="root"):
        tap.become_asker(Peer())  # type: ignore[arg-type]


def test_devices_that_are_none() -> None:
    """In our own namespace, as whoever runs this."""
    with pytest.raises(Forbidden, match="belongs to nobody"):
        tap_device.open_owned("lo")
    with pytest.raises(NotFound, match="nosuch0"):
        tap_device.open_owned("nosuch0")


def test_attributes_that_lie() -> None:
    good = struct.pack("=HHI", 8, 1, 7)
    assert tap_device.attributes(good + struct.pack("=HH", 5, 2) + b"x\0\0\0" + good[:3]) == {
        1: good[4:], 2: b"x"}  # fmt: skip
    for bad in (struct.pack("=HH", 0, 1), struct.pack("=HH", 3, 1), struct.pack("=HH", 9, 1)):
        assert tap_device.attributes(bad + bytes(4)) == {}


def test_as_a_command() -> None:
    """It says what it is for, and does nothing, unless systemd starts it."""
    command = [sys.executable, "-m", "vif_uswitch.uplink.tap"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "uswitch-tap.socket" in shown.stdout
    for words in ([], ["serve"]):
        done = subprocess.run([*command, *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 2 and "usage" in done.stderr
