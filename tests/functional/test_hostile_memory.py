# SPDX-License-Identifier: Apache-2.0
"""Guests that lie with file descriptors and memory (test ids F1..F5, L3, R1)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.daemons import Switch
from vif_uswitch.exceptions import USwitchError

from .conftest import Lab, Witnesses, frame
from .frontend import Frontend, PeerClosed, Req
from .frontend import messages as m
from .frontend.peer import RX, TX
from .frontend.virtq import make_eventfd

BROADCAST = b"\xff" * 6
LAYOUTS = ["split"]  # most of this has nothing to do with rings
BOTH = pytest.mark.layouts("split", "packed")
RAM = 8 << 20


def disk_file() -> int:
    """An unlinked file that is not on tmpfs, as /tmp and even /var/tmp may be."""
    for directory in ("/var/tmp", str(Path(__file__).parent)):
        shown = subprocess.run(["stat", "-f", "-c", "%T", directory], check=True,
                               capture_output=True, text=True, timeout=10)  # fmt: skip
        if shown.stdout.strip() != "tmpfs" and os.access(directory, os.W_OK):
            fd, path = tempfile.mkstemp(dir=directory)
            os.unlink(path)
            return fd
    pytest.skip("no directory here that is not on tmpfs")


@contextlib.contextmanager
def descriptors(kind: str) -> Iterator[int]:
    """An fd of a kind that has no business being a notifier or memory."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            r, w = os.pipe()
            stack.callback(os.close, r)
        elif kind == "full pipe":
            r, w = os.pipe2(os.O_NONBLOCK)
            stack.callback(os.close, r)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(w, bytes(65536))
            fcntl.fcntl(w, fcntl.F_SETFL, 0)
        elif kind == "socket":
            a, b = socket.socketpair()
            stack.callback(a.close)
            w = b.detach()
        elif kind == "file":
            w = disk_file()
        elif kind == "tty":
            master, w = os.openpty()
            stack.callback(os.close, master)
        elif kind == "directory":
            w = os.open("/", os.O_RDONLY)
        elif kind == "device":
            w = os.open("/dev/zero", os.O_RDWR)
        elif kind == "memfd":
            w = os.memfd_create("x")
        elif kind == "eventfd":
            w = make_eventfd()
        else:
            raise ValueError(kind)
        stack.callback(os.close, w)
        yield w


@pytest.mark.parametrize("request_", [Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR])
@pytest.mark.parametrize(
    "kind", ["pipe", "full pipe", "socket", "file", "tty", "directory", "device", "memfd"]
)
def test_f1_notifiers_must_be_eventfds(
    lab: Lab, witnesses: Witnesses, request_: Req, kind: str
) -> None:
    front = lab.guest("f1", start=False).front.connect()
    front.negotiate()
    with descriptors(kind) as fd, contextlib.suppress(PeerClosed):
        assert front.acked(request_, struct.pack("<Q", TX), [fd]) != 0
    witnesses.check()


@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "file", "tty", "directory", "device", "eventfd"]
)
def test_f4_memory_must_be_a_memory_file(lab: Lab, witnesses: Witnesses, kind: str) -> None:
    front = lab.guest("f4", start=False).front.connect()
    front.negotiate()
    payload = struct.pack("<II", 1, 0) + m.pack_region(0, 4096, 0x1000, 0)
    with descriptors(kind) as fd, contextlib.suppress(PeerClosed):
        if kind == "file":
            os.ftruncate(fd, 4096)
        assert front.acked(Req.SET_MEM_TABLE, payload, [fd]) != 0
    witnesses.check()


def test_f5_read_only_memory_is_refused(lab: Lab, witnesses: Witnesses) -> None:
    front = lab.guest("f5", start=False).front.connect()
    front.negotiate()
    path = f"/proc/self/fd/{front.ram.regions[0].fd}"
    fd = os.open(path, os.O_RDONLY)
    payload = struct.pack("<II", 1, 0) + m.pack_region(0, RAM, 0x1000, 0)
    with contextlib.suppress(PeerClosed):
        assert front.acked(Req.SET_MEM_TABLE, payload, [fd]) != 0
    os.close(fd)
    witnesses.check()


@pytest.mark.parametrize(
    "second",
    [
        (0, RAM, 0x9000_0000, 0),
        (RAM - 4096, 8192, 0x9000_0000, 0),
        (1 << 32, 4096, 0x7F00_0000_0000, 0),
    ],
    ids=["duplicate", "gpa overlap", "uva overlap"],
)
def test_f5_overlapping_regions_are_refused(
    lab: Lab, witnesses: Witnesses, second: tuple[int, int, int, int]
) -> None:
    front = lab.guest("f5", start=False).front.connect()
    front.negotiate()
    fd = front.ram.regions[0].fd
    first = m.pack_region(0, RAM, 0x7F00_0000_0000, 0)
    payload = struct.pack("<II", 2, 0) + first + m.pack_region(*second)
    with contextlib.suppress(PeerClosed):
        assert front.acked(Req.SET_MEM_TABLE, payload, [fd, fd]) != 0
    witnesses.check()


@BOTH
@pytest.mark.parametrize("how", ["to nothing", "half", "punched rings"])
def test_f2_memory_that_shrinks_under_traffic(lab: Lab, witnesses: Witnesses, how: str) -> None:
    liar, other = lab.guest("f2"), lab.guest("f2")
    liar.send(BROADCAST, [b"hello"])
    other.front.recv_frames(1)
    region = liar.front.ram.regions[0]
    ring = liar.front.rings[TX]
    if how == "punched rings":
        # Zeros instead of rings are legal memory: a split ring's index that went back fences.
        liar.front.ram.write(ring.desc, bytes(16 * ring.size))
        liar.front.ram.write(ring.avail, bytes(4 if lab.packed else 6 + 2 * ring.size))
        ring.kick()
        lab.wait(lambda: lab.show(liar.name)["port"]["link"] in ("broken", "up"), "a verdict")
        witnesses.check()
        return
    far = RAM - 8192
    ring.write_desc(200, far, 1000)
    ring.put_avail(200)
    ring.publish()
    os.ftruncate(region.fd, 0 if how == "to nothing" else RAM // 2)
    ring.kick()
    lab.fenced(liar.name, "memory")
    for _ in range(3):
        other.front.send_frames([frame(liar.mac, other.mac)])
    witnesses.check()
    os.ftruncate(region.fd, RAM)


@BOTH
def test_f2_source_shrinks_while_its_frame_is_delivered(lab: Lab, witnesses: Witnesses) -> None:
    """The copy runs on behalf of both guests; the fault is charged to the one that caused it."""
    liar, other = lab.guest("f2"), lab.guest("f2")
    liar.send(BROADCAST, [b"hello"])
    other.front.recv_frames(1)
    ram = liar.front.ram
    head = ram.alloc(64)
    ram.write(head, bytes(12) + frame(other.mac, liar.mac))
    ring = liar.front.rings[TX]
    ring.write_desc(200, head, 26, 1, 201)
    ring.write_desc(201, RAM - 8192, 1400)
    ring.put_avail(200)
    ring.publish()
    os.ftruncate(ram.regions[0].fd, RAM - 16384)
    ring.kick()
    lab.fenced(liar.name, "memory")
    assert lab.show(other.name)["port"]["link"] == "up"
    witnesses.check()
    os.ftruncate(ram.regions[0].fd, RAM)


def saturate(call_fd: int) -> None:
    """To its maximum, whatever it was signalled before: a ring's start does so once."""
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(call_fd)
    os.eventfd_write(call_fd, 2**64 - 2)


@BOTH
def test_f3_saturated_call_fd(lab: Lab, witnesses: Witnesses) -> None:
    """A call eventfd at its maximum, first non-blocking, then made blocking by its owner."""
    a, victim = lab.guest("f3"), lab.guest("f3")
    victim.send(BROADCAST, [b"hello"])
    a.front.recv_frames(1)
    call = victim.front.rings[RX].call_fd
    saturate(call)
    a.send(victim, [b"one"])
    assert len(victim.front.rings[RX].wait_used(1)) == 1
    saturate(call)
    fcntl.fcntl(call, fcntl.F_SETFL, fcntl.fcntl(call, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    a.send(victim, [b"two"])
    lab.fenced(victim.name, "call")
    witnesses.check()
    fcntl.fcntl(call, fcntl.F_SETFL, os.O_NONBLOCK)


def thread_count(lab: Lab) -> int:
    """Of uswitchd."""
    return len(os.listdir(f"/proc/{lab.switch.daemon_pid}/task"))


def test_f3_err_fd_that_blocks(lab: Lab, witnesses: Witnesses) -> None:
    """A full, blocking err eventfd: uswitchd goes on answering, again and again."""
    liar = lab.guest("f3")
    before = thread_count(lab)
    for _ in range(8):
        ring = liar.front.rings[TX]
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(ring.err_fd, 2**64 - 2)
        fcntl.fcntl(ring.err_fd, fcntl.F_SETFL, 0)
        ring.publish(ring.avail_idx + ring.size + 1)
        ring.kick()
        lab.fenced(liar.name, "avail")
        liar.front.sync()
        witnesses.check()
        for index in (RX, TX):
            liar.front.stop_ring(index)
        liar.front.reset()
        for index in (RX, TX):
            liar.front.setup_ring(index)
        liar.front.enable()
        liar.front.sync()
    # Those that write its state to disk may be more by now, but not by one for each of these.
    more = thread_count(lab) - before
    assert more <= 4, f"{more} more threads in uswitchd"


def test_f3_kick_fd_that_is_always_ready_costs_no_core(lab: Lab, witnesses: Witnesses) -> None:
    liar = lab.guest("f3")
    os.eventfd_write(liar.front.rings[TX].kick_fd, 2**60)
    witnesses.check()
    assert lab.switch.cpu(1.0).dataplane < 50


def test_l3_everything_of_a_dead_guest_is_gone(
    lab: Lab, witnesses: Witnesses, fd_count: Callable[[], tuple[int, int]]
) -> None:
    guest = lab.guest("l3", start=False)
    before = fd_count()
    maps = Path(f"/proc/{lab.switch.dataplane_pid}/maps")
    guest.front.start()
    assert "guest-ram" in maps.read_text()
    mapped = maps.read_text().count("guest-ram")
    guest.front.disconnect()
    gone = mapped - 1
    lab.wait(lambda: maps.read_text().count("guest-ram") == gone, "its memory is unmapped")
    lab.wait(lambda: fd_count() == before, "its fds are closed")
    witnesses.check()


def limit_fds(switch: Switch, soft: int) -> None:
    """Set uswitchd's soft limit of open files, as the user it runs as."""
    command = ["prlimit", f"--pid={switch.daemon_pid}", f"--nofile={soft}:"]
    subprocess.run(unprivileged.argv(command, switch.who), check=True, timeout=10)


def test_r1_out_of_file_descriptors_then_well_again(lab: Lab, witnesses: Witnesses) -> None:
    """uswitchd at its fd limit: existing ports go on, new ones work again afterwards."""
    switch = lab.switch
    ready = lab.guest("r1", start=False)
    held = len(os.listdir(f"/proc/{switch.daemon_pid}/fd"))
    limit_fds(switch, held + 2)
    try:
        with pytest.raises(USwitchError, match="Too many open files"):
            lab.port(segment="r1")
        with contextlib.suppress(PeerClosed, OSError, TimeoutError, AssertionError):
            ready.front.connect(2)
            assert ready.front.sock is not None
            ready.front.sock.settimeout(2)
            ready.front.negotiate()
            ready.front.set_mem_table()
            for index in (RX, TX):
                ready.front.setup_ring(index)
            ready.front.sync()
        witnesses.check()
    finally:
        limit_fds(switch, 1024)
    lab.wait(lambda: _starts(ready.front), "the port works again")
    lab.guest("r1")
    witnesses.check()


def _starts(front: Frontend) -> bool:
    try:
        front.disconnect()
        front.reset()
        front.start(rx_buffers=4)
    except (PeerClosed, OSError, TimeoutError):
        return False
    return True
