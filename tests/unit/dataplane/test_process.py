# SPDX-License-Identifier: Apache-2.0
"""The real program: started, adopted, killed, stopped, replaced, with a real fabric above it."""

from __future__ import annotations

import asyncio
import functools
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.daemon import vhost_peer as wire
from tests.unit.daemon.fabric_rig import Rig, run, until
from tests.unit.daemon.vhost_peer import Peer
from vif_uswitch.daemon.fabric import Fabric, FabricSettings
from vif_uswitch.daemon.model import Link
from vif_uswitch.daemon.supervisor import Backoff
from vif_uswitch.dataplane import unixpath
from vif_uswitch.dataplane.link import Link as DataplaneLink
from vif_uswitch.dataplane.process import Command, ProcessLauncher
from vif_uswitch.exceptions import Conflict, Unavailable

BINARY = pathlib.Path(__file__).parents[3] / "dataplane" / "build" / "uswitch-dataplane"

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="make -C dataplane was not run")


class RealRig(Rig):
    async def start(self, **changes: Any) -> Fabric:
        values = {
            "run_dir": self.directory, "dataplane_binary": str(BINARY), "poll_us": 0,
            "vhost_socket_dir": self.directory, "dataplane_log": self.directory + "/log",
        }  # fmt: skip
        fabric = Fabric(FabricSettings(**{**values, **changes}))
        fabric.on_event = lambda port_id, sentence: self.news.append((port_id, sentence))
        await fabric.start()
        return fabric


def run_real(test: Any) -> None:
    before = wire.open_fds()

    async def wrapped(rig: Rig) -> None:
        real = RealRig(rig.directory)
        try:
            await test(real)
        except BaseException:
            log = pathlib.Path(rig.directory, "log")
            print(log.read_text() if log.exists() else "no log")
            # A failed test must not leave a process behind.
            await ProcessLauncher(rig.directory, Command(""), lambda event: None)._kill_recorded()
            raise

    run(wrapped)
    assert wire.open_fds() == before, "file descriptors leak"


@pytest.fixture
def ram() -> Iterator[int]:
    fd = wire.ram()
    yield fd
    os.close(fd)


async def ready(rig: Rig, ram: int, port_id: int = 1) -> Peer:
    peer = await rig.connect(port_id)
    for fd in (await wire.set_up(peer, ram)).values():
        os.close(fd)
    return peer


def test_killed_and_replaced_under_a_peer(ram: int) -> None:
    async def test(rig: RealRig) -> None:
        async with rig.fabric(1, 2) as fabric:
            peer = await ready(rig, ram)
            first = fabric.dataplane_live()
            assert first.pid and first.starts == 1 and not first.adopted
            assert first.fdb_capacity > 0
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: fabric.dataplane_live().pid not in (0, first.pid))
            await until(lambda: fabric.port_live(1).link is Link.UP)
            assert fabric.dataplane_live().starts == 2
            assert [r.active for r in fabric.port_live(1).rings] == [True, True]
            assert await peer.ask(11, wire.vring(0, 0)) == 0
            peer.close()
            await until(lambda: fabric.port_live(1).link is Link.WAITING)

    run_real(test)


def test_adopted_with_its_peer(ram: int) -> None:
    async def test(rig: RealRig) -> None:
        first = await rig.start()
        for port_id in (1, 2):
            await first.ensure_port(rig.config(port_id))
        peer = await ready(rig, ram)
        pid = first.dataplane_live().pid
        await first.stop(keep_dataplane=True)
        second = await rig.start()
        live = second.dataplane_live()
        assert (live.pid, live.adopted, live.starts) == (pid, True, 0)
        assert second.adopted_ports() == [1, 2]
        assert second.port_live(1).link is Link.UP
        await second.ensure_port(rig.config(1))
        await second.remove_port(2)
        assert await peer.ask(11, wire.vring(1, 0)) == 0
        peer.close()
        await second.stop(keep_dataplane=False)
        assert not os.path.exists(f"/proc/{pid}") or _is_zombie(pid)

    run_real(test)


def _is_zombie(pid: int) -> bool:
    text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return text.rpartition(")")[2].split()[0] == "Z"


def test_a_stopped_process_is_killed_and_replaced(
    ram: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: the heartbeat's deadline ends it; nothing is started before it is dead."""
    original = DataplaneLink.__init__
    monkeypatch.setattr(
        DataplaneLink, "__init__",
        lambda self, sock, on_event, deadline_s=0.3: original(self, sock, on_event, deadline_s),
    )  # fmt: skip
    monkeypatch.setattr("vif_uswitch.daemon.supervisor.HEARTBEAT_S", 0.1)

    async def test(rig: RealRig) -> None:
        async with rig.fabric(1) as fabric:
            peer = await ready(rig, ram)
            pid = fabric.dataplane_live().pid
            os.kill(pid, signal.SIGSTOP)
            wire.set_used_idx(ram, 0, 41)
            # Asked now, the answer waits until the old one cannot touch the ring any more.
            assert await peer.ask(11, wire.vring(0, 0)) == 41
            assert not os.path.exists(f"/proc/{pid}") or _is_zombie(pid)
            await until(lambda: fabric.dataplane_live().pid not in (0, pid))
            await until(lambda: fabric.port_live(1).rings[1].active)
            peer.close()

    run_real(test)


def test_a_stopped_process_is_not_adopted_but_killed(
    ram: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DataplaneLink.__init__

    async def test(rig: RealRig) -> None:
        first = await rig.start()
        pid = first.dataplane_live().pid
        await first.stop(keep_dataplane=True)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(
            DataplaneLink, "__init__",
            lambda self, sock, on_event, deadline_s=0.3: original(self, sock, on_event, deadline_s),
        )  # fmt: skip
        second = await rig.start()
        assert second.dataplane_live().pid != pid
        assert not os.path.exists(f"/proc/{pid}") or _is_zombie(pid)
        await second.stop(keep_dataplane=False)

    run_real(test)


def test_a_second_uswitchd_is_told_so() -> None:
    async def test(rig: RealRig) -> None:
        async with rig.fabric() as fabric:
            pid = fabric.dataplane_live().pid
            with pytest.raises(Conflict, match="another uswitchd"):
                await rig.start()
            await asyncio.sleep(0.05)
            assert fabric.dataplane_live().pid == pid

    run_real(test)


@pytest.mark.parametrize(
    ("binary", "why"), [("/no/such/program", "No such file"), ("/bin/false", "status 1")]
)
def test_programs_that_do_not_start(binary: str, why: str) -> None:
    async def test(rig: RealRig) -> None:
        with pytest.raises(Unavailable, match=why):
            await rig.start(dataplane_binary=binary)

    run_real(test)


def test_it_inherits_nothing_but_its_socket() -> None:
    async def test(rig: RealRig) -> None:
        secret = os.open("/etc/hostname", os.O_RDONLY)
        os.set_inheritable(secret, True)
        launcher = ProcessLauncher(
            rig.directory, Command(str(BINARY), extra=("--no-sandbox",)), lambda event: None,
            rig.directory + "/log",
        )  # fmt: skip
        running = await launcher.start()
        assert os.getsid(running.pid) == running.pid
        held = f"/proc/{running.pid}/fd"
        names = [os.readlink(f"{held}/{name}") for name in os.listdir(held)]
        assert "/etc/hostname" not in names
        assert os.readlink(f"{held}/0") == "/dev/null"
        # Nobody but us may speak to it, and its socket is private.
        path = rig.directory + "/dataplane.sock"
        assert os.stat(path).st_mode & 0o777 == 0o600
        await running.shutdown()
        with pytest.raises(ConnectionRefusedError):
            unixpath.connect(path, socket.SOCK_SEQPACKET)
        os.close(secret)

    run_real(test)


class NoBackoff(Backoff):
    def after(self, lived_s: float) -> float:
        return 0.0


def replaced(fabric: Fabric, pid: int) -> bool:
    return fabric.dataplane_live().pid not in (0, pid)


def test_hundred_replacements_leak_nothing(ram: int) -> None:
    async def test(rig: RealRig) -> None:
        async with rig.fabric(1) as fabric:
            fabric._supervisor._backoff = NoBackoff()
            peer = await ready(rig, ram)
            fds = 0
            slowest = 0.0
            for turn in range(100):
                pid = fabric.dataplane_live().pid
                began = time.monotonic()
                os.kill(pid, signal.SIGKILL)
                await until(functools.partial(replaced, fabric, pid))
                await until(lambda: fabric.port_live(1).link is Link.UP)
                slowest = max(slowest, time.monotonic() - began)
                fds = fds or wire.open_fds()
                assert turn == 0 or wire.open_fds() == fds
            print(f"slowest replacement {slowest * 1000:.0f} ms")
            assert await peer.ask(1)
            peer.close()

    run_real(test)
