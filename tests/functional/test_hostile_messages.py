# SPDX-License-Identifier: Apache-2.0
"""Front-ends that lie in their messages (test ids M1..M13), over real sockets.

The session layer's own tests go through every message and number; here the
worst of each kind meets both real processes, with witnesses beside.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Lab, Witnesses
from .frontend import Frontend, PeerClosed, Req, pack, pack_ring_addr, pack_state
from .frontend import messages as m
from .frontend.peer import RX, TX
from .frontend.virtq import make_eventfd

FdCount = Callable[[], tuple[int, int]]


def closed_or_refused() -> contextlib.suppress:
    """The switch may close a liar's connection at any point of a conversation."""
    return contextlib.suppress(PeerClosed, OSError)


@pytest.fixture
def liar(lab: Lab) -> Frontend:
    return lab.guest("messages", start=False).front.connect()


def greet(front: Frontend) -> None:
    front.negotiate()
    front.sync()


def rss(lab: Lab) -> list[int]:
    """Resident memory of both processes, KiB."""
    sizes = []
    for pid in (lab.switch.daemon_pid, lab.switch.dataplane_pid):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGE_SIZE") // 1024)
    return sizes


def reconnects(front: Frontend) -> None:
    """Whatever happened, the port takes the next connection and works."""
    front.disconnect()
    front.reset()
    front.start(rx_buffers=8)


@pytest.mark.parametrize("request_", [r for r in Req if r not in (Req.VRING_KICK,)])
def test_m1_too_many_fds_on_every_message(
    lab: Lab, liar: Frontend, fd_count: FdCount, witnesses: Witnesses, request_: Req
) -> None:
    before = fd_count()
    fds = [make_eventfd() for _ in range(32)]
    try:
        for count in (1, 2, 9, 32):
            with closed_or_refused():
                if liar.sock is None:
                    liar.connect(2)
                liar.send_raw(pack(request_, bytes(40)), fds[:count])
                liar.sync()
            liar.disconnect()
    finally:
        for fd in fds:
            os.close(fd)
    reconnects(liar)
    liar.disconnect()
    lab.wait(lambda: fd_count()[1] <= before[1], "no fd leaked into the dataplane")
    lab.wait(lambda: fd_count()[0] <= before[0], "no fd leaked into uswitchd")
    witnesses.check()


def test_m2_every_message_many_times(
    lab: Lab, liar: Frontend, fd_count: FdCount, witnesses: Witnesses
) -> None:
    greet(liar)
    liar.set_mem_table()
    for index in (RX, TX):
        liar.setup_ring(index)
    liar.enable()
    liar.sync()
    before = fd_count()
    memory = rss(lab)
    ring = liar.rings[TX]
    for _ in range(300):
        liar.set_mem_table()
        liar.send(Req.SET_FEATURES, struct.pack("<Q", liar.features))
        liar.send(Req.SET_VRING_NUM, pack_state(TX, ring.size))
        liar.send(Req.SET_VRING_CALL, struct.pack("<Q", TX), [ring.call_fd])
        liar.send(Req.SET_VRING_ERR, struct.pack("<Q", TX), [ring.err_fd])
        liar.send(Req.SET_VRING_KICK, struct.pack("<Q", TX), [ring.kick_fd])
        liar.enable()
        liar.sync()
    assert fd_count() == before
    after = rss(lab)
    assert all(b - a < 2048 for a, b in zip(memory, after, strict=True)), (memory, after)
    witnesses.check()


OVERFLOWS = [
    # gpa, size, uva, mmap offset
    (0, 2**64 - 1, 0x1000, 0),
    (2**64 - 4096, 8192, 0x1000, 0),
    (0, 8192, 2**64 - 4096, 0),
    (0, 8192, 0x1000, 2**64 - 4096),
    (0, 8192, 0x1000, 2**63),
    (0, 2**63, 0x1000, 2**63),
    (0, 0, 0x1000, 0),
    (0, 8 << 20, 0x1000, 4096),  # one page past the end of the file
    (0, 1 << 50, 0x1000, 0),
]


@pytest.mark.parametrize("region", OVERFLOWS)
@pytest.mark.parametrize("add", [False, True], ids=["set_mem_table", "add_mem_reg"])
def test_m3_regions_that_overflow(
    lab: Lab, liar: Frontend, witnesses: Witnesses, region: tuple[int, int, int, int], add: bool
) -> None:
    greet(liar)
    fd = liar.ram.regions[0].fd
    with closed_or_refused():
        if add:
            status = liar.acked(Req.ADD_MEM_REG, bytes(8) + m.pack_region(*region), [fd])
        else:
            payload = struct.pack("<II", 1, 0) + m.pack_region(*region)
            status = liar.acked(Req.SET_MEM_TABLE, payload, [fd])
        assert status != 0
    reconnects(liar)
    witnesses.check()


@pytest.mark.parametrize("index", [16, 255, 0x10000, 0x10001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_m4_ring_index_out_of_range(
    lab: Lab, liar: Frontend, witnesses: Witnesses, index: int
) -> None:
    indexed = [
        (Req.SET_VRING_NUM, pack_state(index, 256)),
        (Req.SET_VRING_BASE, pack_state(index, 0)),
        (Req.SET_VRING_ADDR, pack_ring_addr(index, 0, 0, 0)),
        (Req.SET_VRING_ENABLE, pack_state(index, 1)),
        (Req.SET_VRING_CALL, struct.pack("<Q", (index & 0xFF) | 0x100)),
    ]
    for request, payload in indexed:
        if request == Req.SET_VRING_CALL and index & 0xFF < 16:
            continue
        with closed_or_refused():
            if liar.sock is None:
                liar.connect()
            greet(liar)
            assert liar.acked(request, payload) != 0
        liar.disconnect()
    with closed_or_refused():
        liar.connect()
        greet(liar)
        liar.ask(Req.GET_VRING_BASE, pack_state(index, 0))
        pytest.fail("GET_VRING_BASE of a ring that cannot exist was answered")
    reconnects(liar)
    witnesses.check()


@pytest.mark.parametrize(
    "request_",
    [0, 6, 7, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 41, 999, 0x7FFFFFFF, 0xFFFFFFFF],
)
def test_m5_unsupported_requests(
    lab: Lab, liar: Frontend, fd_count: FdCount, witnesses: Witnesses, request_: int
) -> None:
    greet(liar)
    before = fd_count()
    fd = make_eventfd()
    with closed_or_refused():
        assert liar.acked(request_, bytes(16), [fd]) != 0
    os.close(fd)
    lab.wait(lambda: fd_count()[0] <= before[0], "no fd leaked into uswitchd")
    reconnects(liar)
    witnesses.check()


@pytest.mark.parametrize(
    "raw",
    [
        m.HEADER.pack(1, 0, 0),  # no version
        m.HEADER.pack(1, 2, 0),  # version 2
        m.HEADER.pack(1, 1 | m.REPLY, 0),  # a reply nobody asked for
        m.HEADER.pack(1, 1, 0xFFFFFFFF),
        m.HEADER.pack(5, 1, 4097) + bytes(4097),
        pack(Req.SET_FEATURES, b"1234"),  # half a payload
        pack(Req.SET_MEM_TABLE, struct.pack("<II", 0xFFFFFFFF, 0)),
        pack(Req.SET_MEM_TABLE, struct.pack("<II", 3, 0) + bytes(32)),
        b"GET / HTTP/1.1\r\nHost: switch\r\n\r\n",
        os.urandom(4096),
        bytes(4096),
    ],
    ids=[
        "no-version",
        "version-2",
        "reply",
        "size-4g",
        "too-long",
        "short",
        "nregions-4g",
        "nregions-3-of-1",
        "http",
        "random",
        "zeros",
    ],
)
def test_m6_garbage_on_the_socket(
    lab: Lab, liar: Frontend, fd_count: FdCount, witnesses: Witnesses, raw: bytes
) -> None:
    with closed_or_refused():
        liar.send_raw(raw)
        assert liar.sock is not None
        liar.sock.settimeout(1.5)
        while True:
            liar.recv()
    liar.disconnect()
    reconnects(liar)
    witnesses.check()


@pytest.mark.parametrize("size", [0, 1, 3, 32769, 65536, 0xFFFFFFFF])
def test_m7_ring_size_that_cannot_be(
    lab: Lab, liar: Frontend, witnesses: Witnesses, size: int
) -> None:
    greet(liar)
    liar.set_mem_table()
    refused = False
    with closed_or_refused():
        refused = liar.acked(Req.SET_VRING_NUM, pack_state(TX, size)) != 0
        assert refused
    reconnects(liar)
    witnesses.check()


def test_m8_features_change_under_traffic(lab: Lab, witnesses: Witnesses) -> None:
    a, b = lab.guest("m8"), lab.guest("m8")
    for i in range(20):
        assert a.send(b"\xff" * 6, [bytes([i])]) == 1
        a.front.send(Req.SET_FEATURES, struct.pack("<Q", a.front.features))
        a.front.sync()
    assert len(b.front.recv_frames(20)) == 20
    # A feature that was never offered is refused or ends the session; nothing else happens.
    with closed_or_refused():
        assert a.front.acked(Req.SET_FEATURES, struct.pack("<Q", 2**63)) != 0
    witnesses.check()


def test_m9_all_orders_of_the_first_messages(lab: Lab, witnesses: Witnesses) -> None:
    """Every permutation of up to three set-up steps from an empty session."""
    guest = lab.guest("m9", start=False)
    front = guest.front
    steps: list[Callable[[], None]] = [
        front.set_mem_table,
        lambda: front.setup_ring(TX),
        lambda: front.enable(rings=(TX,)),
        lambda: front.send(Req.SET_FEATURES, struct.pack("<Q", front.wanted & ~(m.F_CSUM))),
        lambda: front.send(Req.GET_VRING_BASE, pack_state(TX, 0)),
        lambda: front.send(Req.RESET_OWNER),
    ]
    for order in itertools.permutations(range(len(steps)), 3):
        front.connect()
        with closed_or_refused():
            for step in order:
                steps[step]()
            front.sync() if 4 not in order else front.recv()
        front.disconnect()
    reconnects(front)
    witnesses.check()


def test_m10_one_byte_at_a_time(lab: Lab, liar: Frontend, witnesses: Witnesses) -> None:
    for byte in pack(Req.GET_FEATURES):
        liar.send_raw(bytes([byte]))
        time.sleep(0.01)
    request, _, payload = liar.recv()
    assert request == Req.GET_FEATURES and len(payload) == 8
    payload, fds = liar.mem_table()
    data = pack(Req.SET_MEM_TABLE, payload)
    liar.send_raw(data[:1], fds)
    for byte in data[1:]:
        liar.send_raw(bytes([byte]))
    liar.sync()
    witnesses.check()


def test_m11_second_connection_is_refused_and_the_first_lives(
    lab: Lab, witnesses: Witnesses
) -> None:
    a, b = lab.guest("m11"), lab.guest("m11")
    second = socket.socket(socket.AF_UNIX)
    second.settimeout(5)
    second.connect(a.front.path)
    assert second.recv(1) == b""
    second.close()
    a.send(b"\xff" * 6, [b"first"])
    assert b.front.recv_frames(1)[0][1][14:19] == b"first"
    witnesses.check()


def test_m12_half_a_message_and_silence(lab: Lab, liar: Frontend, witnesses: Witnesses) -> None:
    liar.send_raw(pack(Req.SET_FEATURES, bytes(8))[:14])
    assert liar.sock is not None
    liar.sock.settimeout(60)
    with contextlib.suppress(ConnectionResetError):  # what it has sent was not read to its end
        assert liar.sock.recv(1) == b"", "a half message must end the session"
    reconnects(liar)
    witnesses.check()


def test_m13_replies_that_nobody_reads(lab: Lab, liar: Frontend, witnesses: Witnesses) -> None:
    assert liar.sock is not None
    liar.sock.setblocking(False)
    ask = pack(Req.GET_FEATURES) * 64
    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
        for _ in range(5000):
            liar.sock.send(ask)
    witnesses.check()
    liar.disconnect()
    reconnects(liar)


def test_golden_order_of_qemu(lab: Lab, witnesses: Witnesses) -> None:
    """The order QEMU 10 sends: rings enabled before there is memory, regions one by one."""
    a, b = lab.guest("golden", start=False), lab.guest("golden")
    front = a.front.connect()
    front.negotiate()
    front.ask_u64(Req.GET_QUEUE_NUM)
    assert front.ask_u64(Req.GET_MAX_MEM_SLOTS) >= 32
    for index in (RX, TX):
        front.send(Req.SET_VRING_CALL, struct.pack("<Q", index), [front.rings[index].call_fd])
        front.send(Req.SET_VRING_ERR, struct.pack("<Q", index), [front.rings[index].err_fd])
    front.enable()
    front.send(Req.SET_FEATURES, struct.pack("<Q", front.features))
    for r in front.ram.regions:
        region = bytes(8) + m.pack_region(r.gpa, r.size, r.uva, r.offset)
        assert front.acked(Req.ADD_MEM_REG, region, [r.fd]) == 0
    for index in (RX, TX):
        front.setup_ring(index)
    front.send(Req.SET_STATUS, struct.pack("<Q", m.STATUS_DRIVER_OK))
    front.sync()
    front.post_rx(8)
    assert a.send(b"\xff" * 6, [b"golden"]) == 1
    assert b.front.recv_frames(1)[0][1][14:20] == b"golden"
    # A second slot comes and goes while frames flow.
    more = front.ram.add_region(1 << 20, 1 << 30, 0x7D00_0000_0000)
    region = bytes(8) + m.pack_region(more.gpa, more.size, more.uva, 0)
    assert front.acked(Req.ADD_MEM_REG, region, [more.fd]) == 0
    assert a.send(b"\xff" * 6, [b"bigger"]) == 1
    assert front.acked(Req.REM_MEM_REG, region, []) == 0
    assert a.send(b"\xff" * 6, [b"smaller"]) == 1
    assert len(b.front.recv_frames(2)) == 2
    witnesses.check()
