# SPDX-License-Identifier: Apache-2.0
"""Live migration as policy: when the dataplane records dirty pages, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.unit.daemon import vhost_peer as wire
from tests.unit.daemon.vhost.test_session import MODERN, Driver, set_up
from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import (
    Announce,
    Note,
    Save,
    SetLog,
    SetMemory,
    StartRing,
    StopRing,
)
from vif_uswitch.daemon.vhost.fds import Fds
from vif_uswitch.daemon.vhost.msg import Violation
from vif_uswitch.daemon.vhost.ring_start import replay
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.base import DirtyLog

LOGGED = MODERN | virtio.LOG_ALL
SET_FEATURES, SET_LOG_BASE, SET_LOG_FD, SET_VRING_ADDR, SEND_RARP = 2, 6, 7, 9, 19
SIZE = wire.RAM // 4096 // 8  # just enough
USED = 0x5000  # a guest physical address, as QEMU gives it
MAC = bytes.fromhex("525400123456")


@pytest.fixture
def driver() -> Iterator[Driver]:
    before = wire.open_fds()
    one = Driver()
    assert one.send(16, wire.number(virtio.PROTOCOL_OFFERED)) == 0
    yield one
    one.session.close()
    assert wire.open_fds() == before, "the session leaks file descriptors"


@pytest.fixture(scope="module")
def log_file() -> Iterator[int]:
    fd = wire.ram(4096)
    yield fd
    os.close(fd)


@pytest.fixture
def running(driver: Driver, ram: int, event: int) -> Driver:
    set_up(driver, ram, event)
    driver.actions.clear()
    return driver


def logs(driver: Driver) -> list[DirtyLog | None]:
    """What the dataplane was told since the last look; nothing may stop for it."""
    kinds = {type(action) for action in driver.actions}
    assert not kinds & {StopRing, StartRing, SetMemory}, kinds
    return [action.log for action in driver.take(SetLog)]  # type: ignore[union-attr]


def turn_on(driver: Driver, log_file: int) -> None:
    """As QEMU does it: the log, the feature, the rings."""
    assert driver.send(SET_LOG_BASE, wire.log(SIZE), [log_file], need_reply=False) == 0
    assert logs(driver) == []
    assert driver.send(SET_FEATURES, wire.number(LOGGED)) == 0
    (log,) = logs(driver)
    assert log is not None
    assert (log.size, log.offset, log.used) == (SIZE, 0, ())
    for ring in (0, 1):
        assert driver.send(SET_VRING_ADDR, wire.addr(ring, flags=1, log=USED + ring)) == 0
        (log,) = logs(driver)
        assert log is not None
        assert log.used[ring] == (ring, USED + ring)


def test_on_and_off_without_stopping_a_ring(running: Driver, log_file: int) -> None:
    turn_on(running, log_file)
    assert running.send(SET_FEATURES, wire.number(LOGGED)) == 0
    assert not running.actions, "the same again changes nothing"
    assert running.send(SET_FEATURES, wire.number(MODERN)) == 0
    assert logs(running) == [None]
    for ring in (0, 1):
        assert running.send(SET_VRING_ADDR, wire.addr(ring)) == 0
        assert logs(running) == []
    assert running.running == {0, 1}


def test_the_feature_never_reaches_a_ring(driver: Driver, ram: int, event: int,
                                          log_file: int) -> None:  # fmt: skip
    assert driver.send(SET_LOG_BASE, wire.log(SIZE), [log_file]) == 0
    set_up(driver, ram, event, LOGGED)
    assert driver.running == {0, 1}
    for start in driver.take(StartRing):
        assert start.setup.features == MODERN  # type: ignore[union-attr]


def test_a_second_log_replaces_the_first(running: Driver, log_file: int) -> None:
    turn_on(running, log_file)
    assert running.send(SET_LOG_BASE, wire.log(2 * SIZE, 128), [log_file]) == 0
    (log,) = logs(running)
    assert log is not None
    assert (log.size, log.offset, len(log.used)) == (2 * SIZE, 128, 2)
    assert running.running == {0, 1}


def test_rings_wait_for_a_log_that_is_announced(
    driver: Driver, ram: int, event: int, log_file: int
) -> None:
    """What a front-end does that connects again during a migration: the log comes last."""
    set_up(driver, ram, event, LOGGED)
    assert not driver.running
    assert "waits for the dirty log" in str(driver.take(Note))
    assert driver.send(SET_LOG_BASE, wire.log(SIZE), [log_file]) == 0
    assert driver.running == {0, 1}
    order = [type(a) for a in driver.actions if isinstance(a, SetLog | StartRing)]
    assert order == [SetLog, StartRing, StartRing], "no frame before the log is in force"


def test_rings_that_wait_start_when_logging_is_given_up(
    driver: Driver, ram: int, event: int
) -> None:
    set_up(driver, ram, event, LOGGED)
    assert driver.send(SET_FEATURES, wire.number(MODERN)) == 0
    assert driver.running == {0, 1}


def test_reset_device_ends_it(running: Driver, log_file: int) -> None:
    turn_on(running, log_file)
    assert running.send(34) == 0
    assert [a.log for a in running.take(SetLog)] == [None]  # type: ignore[union-attr]


def test_a_log_that_does_not_cover_memory(running: Driver, log_file: int) -> None:
    assert running.send(SET_LOG_BASE, wire.log(SIZE - 1), [log_file]) == 0, "not in force yet"
    assert running.send(SET_FEATURES, wire.number(LOGGED)) == 1
    assert logs(running) == []
    assert running.session.record.features == MODERN
    assert running.running == {0, 1}


def test_memory_that_outgrows_the_log(running: Driver, ram: int, log_file: int) -> None:
    turn_on(running, log_file)
    extra = wire.one_region(wire.region(wire.RAM, 4096, 1 << 40))
    assert running.send(37, extra, [ram]) == 1
    assert running.running == {0, 1}


def test_a_used_ring_beyond_the_log(running: Driver, log_file: int) -> None:
    turn_on(running, log_file)
    top = wire.RAM - (6 + 8 * wire.QSIZE)
    assert running.send(SET_VRING_ADDR, wire.addr(0, flags=1, log=top)) == 0
    assert running.send(SET_VRING_ADDR, wire.addr(0, flags=1, log=top + 1)) == 1
    assert running.send(SET_VRING_ADDR, wire.addr(0, flags=1, log=2**64 - 1)) == 1
    assert running.session.rings[0].record.log_gpa == top
    assert running.send(SET_VRING_ADDR, wire.addr(0, flags=2)) == 1, "no other flag is known"


CORNERS = [0, 1, 4095, 4096, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@pytest.mark.parametrize("size", CORNERS)
@pytest.mark.parametrize("offset", CORNERS)
def test_m3_corners(running: Driver, log_file: int, size: int, offset: int) -> None:
    """Sizes and offsets at the edges: taken if they lie in the file, else the session ends."""
    fits = size > 0 and size + offset <= 4096
    if fits:
        assert running.send(SET_LOG_BASE, wire.log(size, offset), [log_file]) == 0
    else:
        with pytest.raises(Violation):
            running.send(SET_LOG_BASE, wire.log(size, offset), [log_file])
    assert logs(running) == []


@pytest.mark.parametrize("payload", [b"", b"x" * 8, b"x" * 15, b"x" * 17])
def test_m1_shapes(running: Driver, log_file: int, payload: bytes) -> None:
    with pytest.raises(Violation):
        running.send(SET_LOG_BASE, payload, [log_file])


@pytest.mark.parametrize("count", [0, 2, 8])
def test_m1_fd_counts(running: Driver, log_file: int, count: int) -> None:
    with pytest.raises(Violation, match="file descriptors"):
        running.send(SET_LOG_BASE, wire.log(SIZE), [log_file] * count)


def test_f1_files_that_are_no_log(running: Driver, event: int) -> None:
    readonly = os.open(f"/proc/self/fd/{(writable := wire.ram())}", os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (event, readonly, null):
        with pytest.raises(Violation, match="dirty log"):
            running.send(SET_LOG_BASE, wire.log(SIZE), [fd])
    for fd in (readonly, writable, null):
        os.close(fd)


def test_log_without_its_protocol_feature(running: Driver, log_file: int) -> None:
    assert running.send(16, wire.number(virtio.PROTOCOL_OFFERED & ~virtio.LOG_SHMFD)) == 0
    with pytest.raises(Violation, match="LOG_SHMFD"):
        running.send(SET_LOG_BASE, wire.log(SIZE), [log_file])


def test_what_the_dataplane_refuses_is_not_in_force(running: Driver, log_file: int) -> None:
    assert running.send(SET_LOG_BASE, wire.log(SIZE), [log_file]) == 0
    running.refuse = {SetLog: 12}
    assert running.send(SET_FEATURES, wire.number(LOGGED)) == 1
    running.refuse = {}
    running.actions.clear()
    assert running.send(SET_FEATURES, wire.number(LOGGED)) == 0
    assert len(logs(running)) == 1


def test_log_fd(running: Driver, event: int, log_file: int) -> None:
    assert running.send(SET_LOG_FD, b"", [event]) == 0
    assert running.send(SET_LOG_FD, b"", [log_file]) == 1, "no eventfd"


def test_replay_and_escrow(running: Driver, log_file: int) -> None:
    """A new dataplane records before a ring runs; a new uswitchd knows what it was told."""
    turn_on(running, log_file)
    kinds = [type(action) for action in replay(running.session)]
    assert kinds == [SetMemory, SetLog, StartRing, StartRing]

    record, fds = running.session.entry(escrow.SLOT_LOG)
    assert (record, len(fds)) == (escrow.LogRecord(SIZE, 0), 1)
    later = Session(virtio.offered(0, 1), 1500)
    later.record = running.session.record
    later.restore_log(escrow.LogRecord(SIZE, 0), Fds([os.dup(fds[0])]))
    for mine, other in zip(later.rings, running.session.rings, strict=True):
        mine.record = other.record
    later.restored()
    (again,) = [a.log for a in replay(later) if isinstance(a, SetLog)]
    assert again is not None
    assert (again.size, again.used) == (SIZE, ((0, USED), (1, USED + 1)))
    later.close()
    assert Session(0, 1500).entry(escrow.SLOT_LOG) == (escrow.LogRecord(), ())
    for blob, count in ((escrow.LogRecord(), 1), (escrow.LogRecord(SIZE), 0)):
        given = Fds([os.dup(log_file) for _ in range(count)])
        with pytest.raises(ValueError, match="dirty log"):
            Session(0, 1500).restore_log(blob, given)
        given.close()


def test_every_change_is_saved(running: Driver, log_file: int) -> None:
    running.send(SET_LOG_BASE, wire.log(SIZE), [log_file])
    assert running.take(Save) == [Save((escrow.SLOT_LOG,))]
    running.send(SET_FEATURES, wire.number(LOGGED))
    assert running.take(Save) == [Save((escrow.SLOT_SESSION,))]
    running.send(SET_VRING_ADDR, wire.addr(1, flags=1, log=USED))
    assert running.take(Save) == [Save((escrow.SLOT_RING + 1,))]


# ---- announcements ----


def rarp(mac: bytes) -> bytes:
    return mac + b"\xaa\xbb"  # the last two bytes mean nothing


def test_rarp(running: Driver) -> None:
    assert running.send(SEND_RARP, rarp(MAC), need_reply=False) is None
    assert running.take(Announce) == [Announce(MAC)]


@pytest.mark.parametrize("mac", [bytes(6), b"\xff" * 6, b"\x01\0\x5e\0\0\x01"])
def test_rarp_for_no_single_station(running: Driver, mac: bytes) -> None:
    assert running.send(SEND_RARP, rarp(mac)) == 1
    assert running.send(SEND_RARP, rarp(mac), need_reply=False) is None, "and the session goes on"
    assert running.take(Announce) == []


def test_rarp_before_any_ring_runs(driver: Driver, ram: int, event: int) -> None:
    """QEMU's first one comes then; the next one is 50 ms later, and the guest is not heard of."""
    for _ in range(2):
        assert driver.send(SEND_RARP, rarp(MAC)) == 0
    assert driver.take(Announce) == []
    set_up(driver, ram, event)
    assert driver.take(Announce) == [Announce(MAC)]


def test_rarp_not_negotiated(running: Driver) -> None:
    assert running.send(16, wire.number(virtio.PROTOCOL_OFFERED & ~virtio.RARP)) == 0
    assert running.send(SEND_RARP, rarp(MAC), need_reply=False) is None
    assert running.take(Announce) == []


def test_rarp_that_the_dataplane_cannot_send(running: Driver) -> None:
    running.refuse = {Announce: 11}
    assert running.send(SEND_RARP, rarp(MAC), need_reply=False) is None
    assert "not announced" in str(running.take(Note))
