# SPDX-License-Identifier: Apache-2.0
"""vhost-user over a real socket against a fake dataplane: rows M1..M13, F1..F5, R1."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import pty
import resource
import select
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from tests.unit.daemon import vhost_peer as wire
from tests.unit.daemon.fabric_rig import Rig, run, until
from tests.unit.daemon.vhost_peer import Peer
from vif_uswitch.daemon.fabric import Fabric
from vif_uswitch.daemon.model import Link
from vif_uswitch.daemon.vhost import codec, msg
from vif_uswitch.daemon.vhost.msg import Request


@contextlib.contextmanager
def fds(*makers: Callable[[], int]) -> Iterator[list[int]]:
    made = [make() for make in makers]
    try:
        yield made
    finally:
        for fd in made:
            os.close(fd)


@contextlib.contextmanager
def only_free(n: int) -> Iterator[None]:
    """So many descriptors can still be opened."""

    def is_free(number: int) -> bool:
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            return True
        return False

    free = filter(is_free, itertools.count())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, n, None)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_session_from_start_to_end() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            before = wire.open_fds()
            peer = await rig.connect()
            ram = wire.ram()
            made = await wire.set_up(peer, ram)
            live = fabric.port_live(1)
            assert (live.link, live.peer_pid) == (Link.UP, os.getpid())
            assert (live.memory_regions, live.memory_bytes) == (1, wire.RAM)
            assert [(r.active, r.enabled, r.size) for r in live.rings] == [(True, True, 256)] * 2
            port = rig.fake.ports[1]
            assert set(port.rings) == {0, 1}
            assert port.limits["max_frame"] == 1514
            rig.fake.move(1, 0, 12)
            assert fabric.port_live(1).outgoing.frames == 12
            assert await peer.ask(11, wire.vring(0, 0)) == 12
            peer.close()
            await until(lambda: fabric.port_live(1).link is Link.WAITING)
            await until(lambda: not rig.fake.ports[1].memory)
            assert {slot for _, slot in rig.fake.escrow} == {0, 1}, "nothing of the peer is left"
            os.close(ram)
            for fd in made.values():
                os.close(fd)
            assert wire.open_fds() == before

    run(test)


def test_m1_any_number_of_fds_on_any_message_leaks_nothing() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            before = wire.open_fds()
            with fds(*[wire.eventfd] * 32) as many:
                for request in [*Request, 200]:
                    for n in (0, 1, 2, 7, 8, 9, 31, 32):
                        peer = await rig.connect()
                        body = b"\0" * 8 if codec.rule_of(request).body is not msg.Nothing else b""
                        peer.send(request, body, many[:n])
                        peer.send(Request.GET_FEATURES)
                        await peer.receive()  # an answer or the end, both at once
                        peer.close()
                        await until(lambda: fabric.port_live(1).link is Link.WAITING)
            await until(lambda: wire.open_fds() == before)

    run(test)


def test_m6_fds_that_do_not_fit_end_only_this_session() -> None:
    """Out of descriptors while a message arrives: the kernel cuts it, nothing of it stays."""

    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2) as fabric:
            other, peer = await rig.connect(2), await rig.connect(1)
            assert await other.ask(1)
            assert await peer.ask(1)
            before = wire.open_fds()
            with fds(*[wire.ram] * 8) as many:
                rows = [wire.region(i << 30, 4096, i << 30) for i in range(8)]
                peer.send(5, wire.table(*rows), many)
                with only_free(4):
                    assert await peer.is_hung_up()
                    assert await other.ask(1), "the other port noticed"
            await until(lambda: fabric.port_live(1).link is Link.WAITING)
            assert "descriptors" in fabric.port_live(1).last_error
            peer.close()
            other.close()
            await until(lambda: wire.open_fds() <= before - 3)

    run(test)


def test_r1_out_of_descriptors_at_accept_and_recovery() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2):
            other = await rig.connect(2)
            assert await other.ask(1)
            sock = socket.socket(socket.AF_UNIX)
            with only_free(0):
                sock.connect(rig.path(1))
                await asyncio.sleep(0.05)
                began = time.process_time()
                assert await other.ask(1)
                await asyncio.sleep(0.2)
                assert time.process_time() - began < 0.1, "it spins on accept()"
            peer = Peer(sock)
            assert await peer.ask(1)  # within the second that accept() pauses
            peer.close()
            other.close()

    run(test)


def test_r1_with_4000_descriptors_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip(f"the hard limit of open files is {hard}, 5000 are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))

    async def test(rig: Rig) -> None:
        with fds(*[wire.eventfd] * 4000):
            async with rig.fabric(1) as fabric:
                peer = await rig.connect()
                with fds(wire.ram) as [ram]:
                    for fd in (await wire.set_up(peer, ram)).values():
                        assert fd > 4000
                        os.close(fd)
                assert fabric.port_live(1).link is Link.UP
                peer.close()

    try:
        run(test)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_m10_one_byte_at_a_time() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            peer = await rig.connect()
            with fds(wire.ram) as [ram]:
                for data, rights in (
                    (wire.message(Request.SET_FEATURES, wire.number(1 << 32), 9), []),
                    (wire.message(Request.SET_MEM_TABLE, wire.table(wire.region()), 9), [ram]),
                ):
                    for i in range(len(data)):
                        # The fds ride on the first byte: a message split over many packets.
                        peer.send_raw(data[i : i + 1], rights if i == 0 else [])
                        await asyncio.sleep(0)
                    reply = await peer.receive()
                    assert reply is not None
                    assert reply[1] == wire.number(0)
            assert fabric.port_live(1).memory_regions == 1
            peer.close()

    run(test)


def test_fds_on_a_later_part_of_a_message() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1):
            peer = await rig.connect()
            data = wire.message(Request.SET_VRING_CALL, wire.number(0), 9)
            with fds(wire.eventfd) as [event]:
                peer.send_raw(data[:12])
                peer.send_raw(data[12:], [event])
                reply = await peer.receive()
            assert reply == (Request.SET_VRING_CALL, wire.number(0))
            peer.close()

    run(test)


def test_two_messages_in_one_packet() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1):
            peer = await rig.connect()
            peer.send_raw(wire.message(Request.GET_FEATURES) + wire.message(Request.GET_QUEUE_NUM))
            assert (await peer.receive() or (0,))[0] == Request.GET_FEATURES
            assert (await peer.receive() or (0,))[0] == Request.GET_QUEUE_NUM
            peer.close()

    run(test)


def test_m11_second_connection_is_refused() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1):
            first = await rig.connect()
            assert await first.ask(1)
            before = wire.open_fds()
            for _ in range(20):
                second = await rig.connect(greet=False)
                assert await second.is_hung_up()
                second.close()
            assert await first.ask(1)
            assert wire.open_fds() == before
            assert any("second connection" in text for _, text in rig.news)
            assert len(rig.news) < 15, "a flood of connections floods the log"
            first.close()

    run(test)


def test_a_dead_peer_does_not_keep_its_successor_out() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            for _ in range(20):
                first = await rig.connect()
                assert await first.ask(1)
                first.send(Request.GET_FEATURES)  # still to be read when the peer is gone
                first.close()
                second = await rig.connect()
                assert await second.ask(1)
                second.close()
                await until(lambda: fabric.port_live(1).link is Link.WAITING)

    run(test)


def test_m12_half_a_message_and_silence() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2) as fabric:
            other = await rig.connect(2)
            for part in (b"\1", wire.message(2, wire.number(0))[:12], wire.message(1)[:11]):
                peer = await rig.connect(1)
                peer.send_raw(part)
                began, processor = time.monotonic(), time.process_time()
                hung_up = asyncio.ensure_future(peer.is_hung_up())
                answers = 0
                while not hung_up.done():
                    assert await other.ask(1)
                    answers += 1
                    await asyncio.sleep(0.05)
                assert await hung_up
                elapsed = time.monotonic() - began
                assert elapsed > 0.9, "it was given no time"
                assert time.process_time() - processor < elapsed / 2, "it spins"
                assert answers > 1, "the others had to wait"
                peer.close()
                await until(lambda: fabric.port_live(1).link is Link.WAITING)
            assert "half a message" in fabric.port_live(1).last_error
            other.close()

    run(test)


def test_hang_up_in_the_middle_of_a_message() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            peer = await rig.connect()
            with fds(wire.eventfd) as [event]:
                peer.send_raw(wire.message(12, wire.number(0))[:13], [event])
            before = wire.open_fds()
            peer.close()
            await until(lambda: "in the middle" in fabric.port_live(1).last_error)
            await until(lambda: wire.open_fds() == before - 3)  # both ends, and the one in escrow

    run(test)


def test_m13_replies_that_nobody_reads() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2) as fabric:
            other, peer = await rig.connect(2), await rig.connect(1)
            with contextlib.suppress(OSError):
                for _ in range(100_000):
                    try:
                        peer.send(Request.GET_FEATURES)
                    except BlockingIOError:
                        await asyncio.sleep(0.001)
                    if "replies" in fabric.port_live(1).last_error:
                        break
                    if _ % 50 == 0:
                        assert await other.ask(1)
            assert "does not read its replies" in fabric.port_live(1).last_error
            peer.close()
            other.close()

    run(test)


def test_who_never_stops_talking_is_not_alone() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, 2):
            other, peer = await rig.connect(2), await rig.connect(1)
            peer.send_raw(wire.message(Request.SET_OWNER) * 2000)
            peer.send(Request.GET_FEATURES)
            for _ in range(20):
                assert await other.ask(1)
            with pytest.raises(BlockingIOError):  # it is not done with the 2000 yet
                peer.sock.recv(1)
            assert await peer.receive() is not None
            peer.close()
            other.close()

    run(test)


# ---- file descriptors of the wrong kind ----


def _pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def _socket() -> int:
    return socket.socket(socket.AF_UNIX).detach()


def _tty() -> int:
    main, side = pty.openpty()
    os.close(main)
    return side


def _file() -> int:
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        os.ftruncate(file.fileno(), wire.RAM)
        return os.dup(file.fileno())


def _epoll() -> int:
    with select.epoll() as epoll:
        return os.dup(epoll.fileno())


NO_EVENTFD = [_pipe, _socket, _tty, _file, _epoll, wire.ram]


@pytest.mark.parametrize("request_", [12, 13, 14])
@pytest.mark.parametrize("make", NO_EVENTFD, ids=lambda make: make.__name__)
def test_f1_only_eventfds_are_kick_call_and_err(request_: int, make: Callable[[], int]) -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            peer = await rig.connect()
            before = wire.open_fds()
            with fds(make) as [fd]:
                assert await peer.ack(request_, wire.number(0), [fd]) == 1
                assert "not an eventfd" in fabric.port_live(1).last_error
            assert wire.open_fds() == before
            with fds(make) as [fd]:
                peer.send(request_, wire.number(0), [fd])
                assert await peer.is_hung_up()
            peer.close()

    run(test)


def _read_only() -> int:
    fd = wire.ram()
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    finally:
        os.close(fd)


def _sealed(seals: int) -> Callable[[], int]:
    def make() -> int:
        fd = wire.ram()
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    return make


def _directory() -> int:
    return os.open("/dev/shm", os.O_RDONLY | os.O_DIRECTORY)


NO_MEMORY = {
    "pipe": (_pipe, "tmpfs"),
    "socket": (_socket, "tmpfs"),
    "tty": (_tty, "tmpfs"),
    "disk": (_file, "tmpfs"),
    "eventfd": (wire.eventfd, "tmpfs"),
    "directory": (_directory, ""),
    "read-only": (_read_only, "reading and writing"),
    "sealed": (_sealed(fcntl.F_SEAL_WRITE), "sealed"),
    "sealed for later": (_sealed(0x10), "sealed"),
    "short": (lambda: wire.ram(wire.RAM - 1), "bytes"),
    "empty": (lambda: wire.ram(0), "bytes"),
}


@pytest.mark.parametrize("name", sorted(NO_MEMORY))
def test_f4_f5_only_writable_files_in_memory_are_guest_memory(name: str) -> None:
    make, why = NO_MEMORY[name]

    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            peer = await rig.connect()
            before = wire.open_fds()
            with fds(make) as [fd]:
                assert await peer.ack(5, wire.table(wire.region()), [fd]) == 1
                assert why in fabric.port_live(1).last_error
                assert await peer.ack(37, wire.one_region(wire.region()), [fd]) == 1
            assert wire.open_fds() == before
            assert not rig.fake.ports[1].memory
            assert await peer.ask(1)
            peer.close()

    run(test)


def test_f5_one_bad_region_of_two_changes_nothing() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1):
            peer = await rig.connect()
            with fds(wire.ram, lambda: wire.ram(4096)) as [good, short]:
                before = wire.open_fds()
                rows = wire.table(wire.region(), wire.region(1 << 40, 8192, 1 << 40))
                assert await peer.ack(5, rows, [good, short]) == 1
                assert wire.open_fds() == before
            peer.close()

    run(test)


def test_protocol_violations_are_named_and_the_port_goes_on() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            for data, why in (
                (struct.pack("=III", 1, 2, 0), "version"),
                (struct.pack("=III", 1, 1, 5000), "5000 bytes"),
                (wire.message(Request.SET_VRING_NUM, b"x"), "SET_VRING_NUM"),
                (wire.message(Request.GET_CONFIG, b"x" * 12), "GET_CONFIG"),
                (wire.message(Request.SET_VRING_NUM, wire.vring(16, 2)), "ring 16 of 16"),
            ):
                peer = await rig.connect()
                peer.send_raw(data)
                assert await peer.is_hung_up()
                peer.close()
                await until(lambda: fabric.port_live(1).link is Link.WAITING)
                assert why in fabric.port_live(1).last_error
            peer = await rig.connect()
            assert await peer.ask(1)
            peer.close()

    run(test)


def test_busy_flag_is_up_only_while_a_request_is_worked_on() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            page = fabric._ports[1].page
            peer = await rig.connect()
            assert await peer.ask(1)
            rig.fake.delay_s = 0.1
            peer.send_raw(wire.message(Request.SET_STATUS, wire.number(1), 9)[:15])
            await asyncio.sleep(0.05)
            assert not page.busy, "half a message is not a request"
            peer.send_raw(wire.message(Request.SET_STATUS, wire.number(1), 9)[15:])
            await until(lambda: page.busy)
            assert await peer.receive() is not None
            await until(lambda: not page.busy)
            peer.close()

    run(test)


async def _traffic(peer: Peer, fabric: Fabric) -> None:
    assert await peer.ask(1)
    assert fabric.port_live(1).link is not Link.WAITING


def test_removing_a_port_with_a_peer() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            peer = await rig.connect()
            await _traffic(peer, fabric)
            await fabric.remove_port(1)
            assert await peer.is_hung_up()
            assert not os.path.exists(rig.path())
            assert not rig.fake.ports
            assert not rig.fake.escrow
            await fabric.remove_port(1)
            peer.close()

    run(test)
