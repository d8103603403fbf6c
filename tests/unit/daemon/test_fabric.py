# SPDX-License-Identifier: Apache-2.0
"""Ports over dataplanes and uswitchds that die: replay, adoption, half-done requests."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
from collections.abc import Iterator

import pytest

from tests.unit.daemon import vhost_peer as wire
from tests.unit.daemon.fabric_rig import Rig, run, until
from tests.unit.daemon.vhost_peer import Peer
from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.fabric import Fabric
from vif_uswitch.daemon.model import Kind, Link, Mode, TagRow
from vif_uswitch.daemon.supervisor import Backoff
from vif_uswitch.dataplane.base import DataplaneRefused, RateLimit
from vif_uswitch.dataplane.layout import BASE_FROM_USED
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound, Unavailable


@contextlib.contextmanager
def guest() -> Iterator[int]:
    fd = wire.ram()
    yield fd
    os.close(fd)


async def ready(rig: Rig, ram: int, port_id: int = 1) -> Peer:
    """A peer with running rings."""
    peer = await rig.connect(port_id)
    for fd in (await wire.set_up(peer, ram)).values():
        os.close(fd)
    return peer


async def end(rig: Rig, fabric: Fabric) -> None:
    """uswitchd dies: no tidying up, only closed descriptors."""
    await fabric.stop(keep_dataplane=True)


class NoBackoff(Backoff):
    def after(self, lived_s: float) -> float:
        return 0.0


# ---- configuration ----


def test_only_differences_reach_the_dataplane() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            rig.fake.calls.clear()
            await fabric.ensure_port(rig.config(1))
            assert rig.fake.calls == []
            mac = b"\x52\x54\0\0\0\1"
            await fabric.ensure_port(rig.config(1, tags=(TagRow(7, 9),), macs=(mac,)))
            assert [call[0] for call in rig.fake.calls] == ["port_tags", "port_macs", "escrow_put"]
            await fabric.ensure_port(rig.config(1, tags=(), mtu=9000, flood_rate=5))
            port = rig.fake.ports[1]
            assert (port.tags, port.macs, port.limits["max_frame"]) == ([], [], 9014)
            rate = RateLimit(max_kbps=1000, burst_kbit=800)
            rig.fake.calls.clear()
            await fabric.ensure_port(rig.config(1, tags=(), mtu=9000, flood_rate=5, rate=rate))
            assert [call[0] for call in rig.fake.calls] == ["port_limits", "escrow_put"]
            assert port.limits["rate"] == rate
            assert [entry.mac for entry in await fabric.fdb_dump()] == []
            assert await fabric.fdb_flush(1, None) == 0

    run(test)


def test_changes_leave_the_peer_alone_and_another_path_does_not() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            with guest() as ram:
                peer = await ready(rig, ram)
            await fabric.ensure_port(rig.config(1, tags=(), name="renamed"))
            assert await peer.ask(1)
            assert fabric.port_live(1).link is Link.UP
            await fabric.ensure_port(rig.config(1, path=rig.path(77)))
            assert await peer.is_hung_up()
            assert not os.path.exists(rig.path(1))
            assert os.path.exists(rig.path(77))
            peer.close()

    run(test)


def test_what_the_dataplane_refuses_leaves_nothing_behind() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric() as fabric:
            before = wire.open_fds()
            rig.fake.refuse = {"port_add": errno.ENOSPC}
            with pytest.raises(DataplaneRefused):
                await fabric.ensure_port(rig.config(1))
            assert wire.open_fds() == before
            assert not rig.fake.escrow
            assert not os.path.exists(rig.path(1))
            rig.fake.refuse = {}
            await fabric.ensure_port(rig.config(1))
            rig.fake.refuse = {"port_tags": errno.EINVAL}
            with pytest.raises(DataplaneRefused):
                await fabric.ensure_port(rig.config(1, tags=()))
            rig.fake.refuse = {}
            await fabric.ensure_port(rig.config(1, tags=()))
            assert rig.fake.ports[1].tags == []

    run(test)


def test_a_path_that_cannot_be() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric() as fabric:
            before = wire.open_fds()
            for path, error in (
                ("/etc/passwd", InvalidInput),
                (rig.directory + "/" + "x" * 120, InvalidInput),
                (rig.directory + "/../x", InvalidInput),
                (rig.directory + "/no/dir.sock", Unavailable),
            ):
                for mode in Mode:
                    if error is Unavailable and mode is Mode.SERVER:
                        continue  # the directory may come later
                    with pytest.raises(error):
                        await fabric.ensure_port(rig.config(1, path=path, mode=mode))
            with open(rig.path(), "w", encoding="ascii"):
                pass
            with pytest.raises(Conflict):
                await fabric.ensure_port(rig.config(1))
            with pytest.raises(InvalidInput):
                await fabric.ensure_port(rig.config(1024))
            with pytest.raises(NotFound):
                await fabric.ensure_port(rig.config(1, kind=Kind.TAP, ifname="no-such-tap0"))
            assert wire.open_fds() == before
            assert not rig.fake.ports

    run(test)


# ---- the dataplane dies ----


def test_a_new_dataplane_learns_everything_and_the_peer_nothing() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2) as fabric:
            with guest() as ram:
                peer = await ready(rig, ram)
                pid = fabric.port_live(1).peer_pid
                rig.fake.kill()
                await until(lambda: len(rig.launcher.made) == 2)
                await until(lambda: fabric.port_live(1).link is Link.UP)
                port = rig.fake.ports[1]
                assert port.tags == [(4096, 5)]
                assert set(rig.fake.ports) == {1, 2}
                starts = [call for call in rig.fake.calls if call[0] == "ring_start"]
                assert starts == [
                    ("ring_start", 1, 0, BASE_FROM_USED, True),
                    ("ring_start", 1, 1, BASE_FROM_USED, True),
                ]
                assert all(ring.enabled for ring in port.rings.values())
                slots = {slot for port_id, slot in rig.fake.escrow if port_id == 1}
                assert slots == {0, 1, 2, 3, 16, 17}
                assert fabric.port_live(1).peer_pid == pid
                assert fabric.dataplane_live().starts == 2
                assert await peer.ask(1)
                peer.close()

    run(test)


def test_what_happens_while_there_is_no_dataplane_is_recorded() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            with guest() as ram:
                peer = await rig.connect()
                rig.launcher.fail_starts = 3  # 0.1 + 0.2 + 0.4 s without one
                rig.fake.kill()
                await asyncio.sleep(0.02)
                for fd in (await wire.set_up(peer, ram)).values():
                    os.close(fd)
                await fabric.ensure_port(rig.config(1, tags=(TagRow(1, 2),)))
                await fabric.ensure_port(rig.config(2))
                with pytest.raises(Unavailable):
                    await fabric.fdb_dump()
                assert fabric.port_live(1).link is Link.NEGOTIATING
                assert len(rig.launcher.made) == 1
                await until(lambda: fabric.port_live(1).link is Link.UP)
                assert rig.fake.ports[1].tags == [(1, 2)]
                assert set(rig.fake.ports[1].rings) == {0, 1}
                assert 2 in rig.fake.ports
                peer.close()

    run(test)


def test_ring_base_of_a_dead_dataplane_is_what_the_guest_saw() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1):
            with guest() as ram:
                peer = await ready(rig, ram)
                rig.fake.move(1, 0, 100)  # the state page is ahead of the guest
                wire.set_used_idx(ram, 0, 68)
                rig.launcher.fail_starts = 3
                rig.fake.kill()
                await asyncio.sleep(0.02)
                assert await peer.ask(11, wire.vring(0, 0)) == 68
                # Of a ring outside of memory only the state page knows.
                peer.close()

    run(test)


def _calls_of_a_session() -> int:
    """How many calls a dataplane gets until a peer is up."""
    count = 0

    async def test(rig: Rig) -> None:
        nonlocal count
        async with rig.fabric(1):
            with guest() as ram:
                peer = await ready(rig, ram)
                count = len(rig.fake.calls)
                peer.close()

    run(test)
    return count


@pytest.mark.parametrize("after_effect", [False, True])
def test_death_of_the_dataplane_at_every_call(after_effect: bool) -> None:
    """Whatever call it dies at, before or after it did it, the peer comes up unhurt."""
    calls = _calls_of_a_session()
    assert calls > 15

    async def test(rig: Rig, die_at: int) -> None:
        async with rig.fabric() as fabric:
            rig.fake.die_at, rig.fake.die_after_effect = die_at, after_effect
            await fabric.ensure_port(rig.config(1))
            with guest() as ram:
                peer = await ready(rig, ram)
                await until(lambda: fabric.port_live(1).link is Link.UP)
                await until(lambda: len(rig.launcher.made) == 2)
                await until(lambda: set(rig.fake.ports[1].rings) == {0, 1})
                assert all(ring.enabled for ring in rig.fake.ports[1].rings.values())
                assert {s for p, s in rig.fake.escrow if p == 1} == {0, 1, 2, 3, 16, 17}
                peer.close()
                await until(lambda: not rig.fake.ports[1].memory)

    for die_at in range(1, calls + 1):
        before = wire.open_fds()
        run(functools.partial(test, die_at=die_at))
        assert wire.open_fds() == before


def test_the_new_one_dies_while_it_learns() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2) as fabric:
            with guest() as ram:
                peer = await ready(rig, ram)
                deaths = list(range(1, 22))

                def configure(fake: object) -> None:
                    at = deaths.pop(0) if deaths else None
                    fake.die_at = at  # type: ignore[attr-defined]

                rig.launcher._configure = configure
                fabric._supervisor._backoff = NoBackoff()
                rig.fake.kill()
                await until(lambda: len(rig.launcher.made) > 10 and not rig.fake.dead, 10)
                await until(lambda: fabric.port_live(1).link is Link.UP)
                assert await peer.ask(1)
                peer.close()

    run(test)


def test_port_that_a_new_dataplane_refuses_says_so() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2) as fabric:
            with guest() as ram:
                peer = await ready(rig, ram)
                refused = {"ring_start": errno.EFAULT}
                rig.launcher._configure = lambda fake: fake.refuse.update(refused)
                rig.fake.kill()
                await until(lambda: fabric.port_live(1).last_error)
                assert "ring_start" in fabric.port_live(1).last_error
                assert 2 in rig.fake.ports
                peer.close()

    run(test)


def test_news_of_a_broken_port() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            rig.fake.break_port(1, 2)
            live = fabric.port_live(1)
            assert live.link is Link.BROKEN
            assert live.broken_reason
            assert "ring 0" in live.broken_text
            assert any("fenced" in text for _, text in rig.news)

    run(test)


# ---- uswitchd dies ----


def test_the_next_uswitchd_takes_over_as_it_was() -> None:
    async def test(rig: Rig) -> None:
        with guest() as ram:
            first = await rig.start()
            await first.ensure_port(rig.config(1))
            await first.ensure_port(rig.config(2))
            peer = await ready(rig, ram)
            before = first.port_live(1)
            await end(rig, first)
            rig.fake.calls.clear()
            second = await rig.start()
            assert second.adopted_ports() == [1, 2]
            after = second.port_live(1)
            assert (after.link, after.peer_pid) == (Link.UP, os.getpid())
            assert after.virtio_features == before.virtio_features
            assert (after.memory_bytes, after.rings) == (before.memory_bytes, before.rings)
            for port_id in (1, 2):
                await second.ensure_port(rig.config(port_id))
            touched = {call[0] for call in rig.fake.calls}
            assert touched == {"escrow_get"}, "a running port was disturbed"
            # It listens on, and it serves the peer it found.
            other = await rig.connect(2)
            assert await peer.ack(13, wire.number(0x100)) == 0
            assert rig.fake.ports[1].rings[0].call_fd is None
            assert await peer.ask(11, wire.vring(1, 0)) == 0
            peer.close()
            other.close()
            await until(lambda: not rig.fake.ports[1].memory)
            await second.remove_port(2)
            assert second.adopted_ports() == [1]
            await second.stop(keep_dataplane=False)

    for _ in range(2):
        before = wire.open_fds()
        run(test)
        assert wire.open_fds() == before


def test_a_half_message_waits_for_the_next_uswitchd() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.start()
        await first.ensure_port(rig.config(1))
        peer = await rig.connect()
        whole = wire.message(2, wire.number(1 << 32), 9)
        with guest() as ram:
            peer.send_raw(whole[:14])
            await asyncio.sleep(0.02)
            await end(rig, first)
            peer.send_raw(whole[14:])
            peer.send(5, wire.table(wire.region()), [ram], need_reply=True)
            second = await rig.start()
            assert (await peer.receive() or (0,))[0] == 2
            assert (await peer.receive() or (0,))[0] == 5
            assert second.port_live(1).memory_regions == 1
        peer.close()
        await second.stop(keep_dataplane=False)

    run(test)


def test_l10_a_request_that_died_half_way_ends_only_its_session() -> None:
    async def test(rig: Rig) -> None:
        with guest() as ram, guest() as ram2:
            first = await rig.start()
            await first.ensure_port(rig.config(1))
            await first.ensure_port(rig.config(2))
            peer, other = await ready(rig, ram, 1), await ready(rig, ram2, 2)
            first._ports[1].page.busy = True
            await end(rig, first)
            second = await rig.start()
            assert await peer.is_hung_up()
            await until(lambda: not rig.fake.ports[1].rings)
            assert not second._ports[1].page.busy
            assert second.port_live(1).link is Link.WAITING
            assert second.port_live(2).link is Link.UP
            assert await other.ask(1)
            assert any("connect again" in text for port_id, text in rig.news if port_id == 1)
            again = await ready(rig, ram, 1)
            assert second.port_live(1).link is Link.UP
            for one in (peer, other, again):
                one.close()
            await second.stop(keep_dataplane=False)

    run(test)


@pytest.mark.parametrize(
    ("slot", "blob"),
    [
        (escrow.SLOT_SESSION, b""),
        (escrow.SLOT_SESSION, b"\x02{}"),
        (escrow.SLOT_MEMORY, b'\x01{"regions":[]}'),
        (escrow.SLOT_MEMORY, b'\x01{"regions":[{"gpa":-1,"size":1,"uva":0,"mmap_offset":0}]}'),
        (escrow.SLOT_RING, b'\x01{"size":"x"}'),
        (escrow.SLOT_RING, b"\x01{}"),
        (escrow.SLOT_RING + 16, b"\x01{}"),
    ],
)
def test_damaged_escrow_costs_a_session_not_more(slot: int, blob: bytes) -> None:
    async def test(rig: Rig) -> None:
        with guest() as ram:
            first = await rig.start()
            await first.ensure_port(rig.config(1))
            peer = await ready(rig, ram)
            await end(rig, first)
            _, fds = rig.fake.escrow.get((1, slot), (b"", ()))
            rig.fake.escrow[1, slot] = (blob, fds)
            second = await rig.start()
            assert await peer.is_hung_up()
            peer.close()
            again = await ready(rig, ram)
            assert second.port_live(1).link is Link.UP
            again.close()
            await second.stop(keep_dataplane=False)

    before = wire.open_fds()
    run(test)
    assert wire.open_fds() == before


@pytest.mark.parametrize("blob", [b"", b"\x01{}", b"\x01null", b'\x01{"config":{}}'])
def test_port_whose_configuration_is_damaged_is_made_anew(blob: bytes) -> None:
    async def test(rig: Rig) -> None:
        with guest() as ram:
            first = await rig.start()
            await first.ensure_port(rig.config(1))
            peer = await ready(rig, ram)
            await end(rig, first)
            rig.fake.escrow[1, escrow.SLOT_PORT] = (blob, rig.fake.escrow[1, 0][1])
            second = await rig.start()
            assert second.adopted_ports() == []
            assert not rig.fake.ports, "the orphan was swept"
            await second.ensure_port(rig.config(1))
            again = await ready(rig, ram)
            assert second.port_live(1).link is Link.UP
            peer.close()
            again.close()
            await second.stop(keep_dataplane=False)

    before = wire.open_fds()
    run(test)
    assert wire.open_fds() == before


def test_socket_file_that_was_removed_meanwhile_is_made_again() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.start()
        await first.ensure_port(rig.config(1))
        await end(rig, first)
        os.unlink(rig.path())
        second = await rig.start()
        peer = await rig.connect()
        peer.close()
        await second.stop(keep_dataplane=False)

    run(test)


def test_dataplane_of_another_build_gives_its_escrow_and_goes() -> None:
    async def test(rig: Rig) -> None:
        with guest() as ram:
            first = await rig.start()
            await first.ensure_port(rig.config(1))
            peer = await ready(rig, ram)
            await end(rig, first)
            old = rig.fake
            rig.launcher.usable = False
            second = await rig.start()
            assert old.dead
            assert not rig.fake.dead
            await until(lambda: second.port_live(1).link is Link.UP)
            assert await peer.ask(1), "the peer noticed"
            assert rig.fake.ports[1].rings[0].resume
            peer.close()
            await second.stop(keep_dataplane=False)

    before = wire.open_fds()
    run(test)
    assert wire.open_fds() == before


def test_both_die() -> None:
    async def test(rig: Rig) -> None:
        with guest() as ram:
            first = await rig.start()
            await first.ensure_port(rig.config(1))
            peer = await ready(rig, ram)
            await end(rig, first)
            rig.fake.kill()
            assert await peer.is_hung_up()
            second = await rig.start()
            assert second.adopted_ports() == []
            await second.ensure_port(rig.config(1))  # over the stale socket
            again = await ready(rig, ram)
            peer.close()
            again.close()
            await second.stop(keep_dataplane=False)

    run(test)


# ---- QEMU listens ----


class Qemu:
    """The listening side of mode server."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.bind(path)
        self.sock.listen(1)

    async def accept(self) -> Peer:
        loop = asyncio.get_running_loop()
        sock, _ = await asyncio.wait_for(loop.sock_accept(self.sock), 3)
        return Peer(sock)

    def die(self, peer: Peer) -> None:
        peer.close()
        self.sock.close()  # the file stays, as after SIGKILL


def test_we_connect_and_connect_again() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, mode=Mode.SERVER) as fabric:
            await asyncio.sleep(0.3)
            qemu = Qemu(rig.path())
            peer = await qemu.accept()
            assert await peer.ask(1)
            peer.close()
            peer = await qemu.accept()  # the device was unplugged and plugged
            assert await peer.ask(1)
            qemu.die(peer)
            await until(lambda: fabric.port_live(1).link is Link.WAITING)
            await asyncio.sleep(0.1)
            os.unlink(rig.path())
            qemu = Qemu(rig.path())
            peer = await qemu.accept()
            assert await peer.ask(1)
            qemu.die(peer)
        assert os.path.exists(rig.path()), "QEMU's socket is not ours to remove"

    run(test)


def test_adoption_of_a_port_that_waits_for_qemu() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.start()
        await first.ensure_port(rig.config(1, mode=Mode.SERVER))
        qemu = Qemu(rig.path())
        peer = await qemu.accept()
        assert await peer.ask(1)
        await end(rig, first)
        second = await rig.start()
        assert await peer.ask(1)
        peer.close()
        peer = await qemu.accept()
        assert await peer.ask(1)
        qemu.die(peer)
        await second.stop(keep_dataplane=False)

    run(test)
