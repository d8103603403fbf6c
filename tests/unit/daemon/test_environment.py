# SPDX-License-Identifier: Apache-2.0
"""What stands around the daemon: locks and directories, systemd, isolation, peers, paths."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from vif_uswitch import places
from vif_uswitch.daemon import instance, isolation, notify, paths
from vif_uswitch.daemon.control import peer
from vif_uswitch.exceptions import Busy, InvalidInput, Unavailable

# ---- instance.py ----


def test_a_second_one_is_refused_and_named(tmp_path: pathlib.Path) -> None:
    fd = instance.lock(str(tmp_path), "run_dir")
    with pytest.raises(Busy, match=rf"another uswitchd \(pid {os.getpid()}\) uses it"):
        instance.lock(str(tmp_path), "run_dir")
    os.close(fd)
    os.close(instance.lock(str(tmp_path), "run_dir"))


def test_a_lock_dies_with_its_process(tmp_path: pathlib.Path) -> None:
    code = (
        "import os, signal\nfrom vif_uswitch.daemon import instance\n"
        f"instance.lock({str(tmp_path)!r}, 'x')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=_top())
    assert done.returncode == -9
    os.close(instance.lock(str(tmp_path), "run_dir"))


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / "uswitchd.lock").symlink_to("precious")
    with pytest.raises(Unavailable, match="lock file"):
        instance.lock(str(tmp_path), "run_dir")
    assert (tmp_path / "precious").read_text() == "x"


def test_directories_are_made_but_not_changed(tmp_path: pathlib.Path) -> None:
    new = tmp_path / "a" / "b"
    instance.prepare_directory(str(new), 0o2770, "vhost_socket_dir", os.getegid())
    assert new.stat().st_mode & 0o7777 == 0o2770
    new.chmod(0o700)
    instance.prepare_directory(str(new), 0o2770, "vhost_socket_dir")
    assert new.stat().st_mode & 0o7777 == 0o700
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(Unavailable, match=r"run_dir .*Make it once, as root: install -d"):
            instance.prepare_directory(str(tmp_path / path), 0o755, "run_dir")


def test_a_users_own_directories_are_nobody_elses(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write there may put another socket in the place of ours."""
    mine = tmp_path / "mine"
    instance.prepare_directory(str(mine), 0o700, "run_dir", own=True)
    (tmp_path / "link").symlink_to(mine)
    instance.prepare_directory(str(tmp_path / "link"), 0o700, "run_dir", own=True)
    for mode in (0o777, 0o770, 0o702, 0o1777):
        mine.chmod(mode)
        with pytest.raises(Unavailable, match=rf"mode {mode:04o}.*has to be yours .* alone"):
            instance.prepare_directory(str(mine), 0o700, "run_dir", own=True)
        instance.prepare_directory(str(mine), 0o700, "run_dir")  # the host's is its own matter
    mine.chmod(0o700)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(Unavailable, match="belongs to somebody else"):
        instance.prepare_directory(str(mine), 0o700, "run_dir", own=True)


# ---- notify.py ----


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_reaches_systemd(
    short_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@uswitch-test-{os.getpid()}" if abstract else str(short_dir / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify.notify("READY=1\nSTATUS=ok")
        assert manager.recv(100) == b"READY=1\nSTATUS=ok"


@pytest.mark.parametrize("value", ["", "/nonexistent/socket", "nonsense", "/" + "x" * 300])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", value)
    notify.notify("READY=1")


def test_watchdog_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert notify.watchdog_interval_s() is None
    for value, expected in (("4000000", 2.0), ("0", None), ("x", None)):
        monkeypatch.setenv("WATCHDOG_USEC", value)
        assert notify.watchdog_interval_s() == expected
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert notify.watchdog_interval_s() is None


# ---- isolation.py ----


def test_root_needs_to_insist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(InvalidInput, match=r"whole host\. .*--allow-root"):
        isolation.refuse_root(False)
    isolation.refuse_root(True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    isolation.refuse_root(False)


def test_isolate_is_effective() -> None:
    code = (
        "import ctypes\nfrom vif_uswitch.daemon import isolation\n"
        "isolation.isolate(); assert isolation.raise_file_limit() > 0\n"
        "c = ctypes.CDLL(None)\nprint(c.prctl(39, 0, 0, 0, 0), c.prctl(3, 0, 0, 0, 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=_top()
    )
    assert done.stdout.split() == ["1", "0"]


# ---- peer.py ----


def test_the_kernel_tells_who_the_peer_is() -> None:
    one, other = socket.socketpair()
    with one, other:
        found = peer.peer_of(one)
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert found.groups == {os.getegid(), *os.getgroups()}


@pytest.mark.parametrize(
    ("uid", "groups", "control_gid", "allowed"),
    [
        (0, {5}, None, True),
        (1000, {5}, None, True),
        (1001, {5}, None, False),
        (1001, {5}, 6, False),
        (1001, {5, 6}, 6, True),
        (1001, {0}, None, False),
    ],
)
def test_who_may(
    monkeypatch: pytest.MonkeyPatch, uid: int, groups: set[int], control_gid: int | None,
    allowed: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    someone = peer.Peer(1, uid, frozenset(groups))
    assert peer.may_control(someone, control_gid) is allowed


def test_group_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peer.group_id("", "control_group") is None
    assert peer.group_id(str(os.getegid()), "control_group") == os.getegid()
    with pytest.raises(InvalidInput, match="control_group no-such-group: there is no such group"):
        peer.group_id("no-such-group", "control_group")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidInput, match=r"is not in this group.*usermod"):
        peer.group_id("4294967", "control_group")


# ---- paths.py ----


def test_two_spellings_of_one_socket_are_one(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    real = str(tmp_path / "real")
    alias = str(tmp_path / "alias")
    for directory in (real, alias):
        for given in (real, alias):
            assert paths.check_socket_path(f"{given}/vm1.sock", directory) == f"{real}/vm1.sock"
    assert paths.check_socket_path(f"{real}/sub/vm1.sock", real) == f"{real}/sub/vm1.sock"


@pytest.mark.parametrize(
    "path",
    ["/", "@", "@x", "@x/y", "/etc/passwd", "@/a/../../x", "@//x", "@/x/", "@/./x", "x", "@/\n"],
)
def test_what_is_not_below_the_directory(tmp_path: pathlib.Path, path: str) -> None:
    with pytest.raises(InvalidInput, match="path"):
        paths.check_socket_path(path.replace("@", str(tmp_path)), str(tmp_path))


def test_bytes_count_not_characters(tmp_path: pathlib.Path) -> None:
    room = places.UNIX_PATH_MAX - len(str(tmp_path)) - 1
    name = "x" * room
    assert paths.check_socket_path(f"{tmp_path}/{name}", str(tmp_path)).endswith(name)
    with pytest.raises(InvalidInput, match="108 bytes; the kernel allows 107"):
        paths.check_socket_path(f"{tmp_path}/{name}x", str(tmp_path))
    with pytest.raises(InvalidInput, match="108 bytes"):
        paths.check_socket_path(f"{tmp_path}/{name[1:]}\u00e9", str(tmp_path))


def _top() -> pathlib.Path:
    return pathlib.Path(__file__).resolve().parents[3]
