# SPDX-License-Identifier: Apache-2.0
"""Negotiation as policy: which message leads to which action.  No sockets, no dataplane."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.daemon import vhost_peer as wire
from vif_uswitch.daemon.vhost import codec, ring_messages, ring_start
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import (
    Action,
    EnableRing,
    Note,
    Save,
    SetCall,
    SetMemory,
    StartRing,
    Steps,
    StopRing,
)
from vif_uswitch.daemon.vhost.dispatch import handle
from vif_uswitch.daemon.vhost.fds import Fds
from vif_uswitch.daemon.vhost.msg import Request, Violation
from vif_uswitch.daemon.vhost.session import MEM_SLOTS, RINGS_MAX, Session
from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import DataplaneRefused
from vif_uswitch.dataplane.native import constant

MODERN = 1 << 32 | 1 << 30


class Driver:
    """Feeds messages to a session and plays the shell around it."""

    def __init__(self, features_off: int = 0, mtu: int = 1500, queues: int = 8) -> None:
        self.session = Session(virtio.offered(features_off, queues), mtu, queues)
        self.actions: list[Action] = []
        self.refuse: dict[type[Action], int] = {}
        self.running: set[int] = set()
        self.memory = 0
        self.base = 7

    def send(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), need_reply: bool = True
    ) -> int | None:
        """Sends duplicates of ``fds``; returns the number in the reply."""
        header = codec.Header(request, need_reply, len(payload))
        given_fds = Fds(os.dup(fd) for fd in fds)
        try:
            message = codec.decode(header, payload, len(given_fds))
            reply = self._run(handle(self.session, message, given_fds))
        finally:
            given_fds.close()
        if reply is None:
            return None
        assert struct.unpack("=III", reply[:12]) == (request, 5, len(reply) - 12)
        return int(struct.unpack("=II" if request == 11 else "=Q", reply[12:])[-1])

    def _run(self, steps: Steps) -> bytes | None:
        try:
            action = next(steps)
            while True:
                self.actions.append(action)
                if type(action) in self.refuse:
                    action = steps.throw(DataplaneRefused("x", self.refuse[type(action)]))
                else:
                    action = steps.send(self._perform(action))
        except StopIteration as end:
            reply: bytes | None = end.value
            return reply

    def _perform(self, action: Action) -> int:
        """Like the dataplane: complains about what is out of order."""
        if isinstance(action, StartRing):
            assert action.setup.ring not in self.running
            assert self.memory
            self.running.add(action.setup.ring)
        elif isinstance(action, StopRing):
            self.running.remove(action.ring)
            return self.base
        elif isinstance(action, EnableRing | SetCall):
            assert action.ring in self.running
        elif isinstance(action, SetMemory):
            assert action.regions or not self.running
            self.memory = len(action.regions)
        return 0

    def take(self, kind: type[Action]) -> list[Action]:
        found = [action for action in self.actions if isinstance(action, kind)]
        self.actions.clear()
        return found


@pytest.fixture
def driver() -> Iterator[Driver]:
    before = wire.open_fds()
    one = Driver()
    yield one
    one.session.close()
    assert wire.open_fds() == before, "the session leaks file descriptors"


def set_up(
    driver: Driver, ram: int, event: int, features: int = MODERN, rings: Sequence[int] = (0, 1),
    base: int = 0,
) -> None:  # fmt: skip
    assert driver.send(2, wire.number(features)) == 0
    assert driver.send(5, wire.table(wire.region()), [ram]) == 0
    for ring in rings:
        assert driver.send(8, wire.vring(ring, 256)) == 0
        assert driver.send(9, wire.addr(ring)) == 0
        assert driver.send(10, wire.vring(ring, base)) == 0
        assert driver.send(12, wire.number(ring), [event]) == 0
        assert driver.send(13, wire.number(ring), [event]) == 0
        assert driver.send(18, wire.vring(ring, 1)) == 0


def test_constants_are_the_headers() -> None:
    assert ring_start.BASE_FROM_USED == layout.BASE_FROM_USED
    assert constant("US_REGIONS_MAX") == MEM_SLOTS
    assert constant("US_RING_SIZE_MAX") == ring_messages.RING_SIZE_MAX
    assert RINGS_MAX == layout.RINGS_MAX


def test_golden_trace_of_qemu_10(driver: Driver, ram: int, event: int) -> None:
    """The order QEMU 10 sends: rings enabled before any memory, call before kick."""
    offered = driver.send(1)
    assert offered is not None
    features = offered & ~virtio.LOG_ALL  # QEMU asks for it when a migration begins
    assert driver.send(15) == virtio.PROTOCOL_OFFERED
    assert driver.send(16, wire.number(virtio.PROTOCOL_OFFERED), need_reply=False) is None
    assert driver.send(17) == 8
    assert driver.send(36) == 64
    assert driver.send(21, fds=[event], need_reply=True) == 1  # SET_BACKEND_REQ_FD: not offered
    driver.take(Note)
    assert driver.send(3, need_reply=False) is None
    assert driver.send(1) == offered
    for ring in (0, 1):
        driver.send(13, wire.number(ring), [event], need_reply=False)
        driver.send(14, wire.number(ring), [event], need_reply=False)
    for ring in (0, 1):
        driver.send(18, wire.vring(ring, 1), need_reply=False)
    assert not driver.take(StartRing)
    features &= ~virtio.RING_PACKED  # QEMU's default
    driver.send(2, wire.number(features), need_reply=False)
    half = wire.RAM // 2
    low = wire.one_region(wire.region(0, half, wire.UVA, 0))
    high = wire.one_region(wire.region(1 << 32, half, wire.UVA + half, half))
    assert driver.send(37, low, [ram]) == 0
    assert driver.send(37, high, [ram]) == 0
    driver.actions.clear()
    for ring in (0, 1):
        driver.send(8, wire.vring(ring, 256), need_reply=False)
        driver.send(10, wire.vring(ring, 0), need_reply=False)
        driver.send(9, wire.addr(ring), need_reply=False)
        driver.send(12, wire.number(ring), [event], need_reply=False)
        started = driver.take(StartRing)
        assert len(started) == 1
        setup = started[0].setup  # type: ignore[union-attr]
        assert (setup.ring, setup.size, setup.base, setup.enabled) == (ring, 256, 0, True)
        assert (setup.features, setup.resume) == (features, True)
        assert setup.call_fd is not None
        driver.send(13, wire.number(ring), [event], need_reply=False)
        assert len(driver.take(SetCall)) == 1
    assert driver.session.running
    # The guest resets its device: QEMU disables, stops, and starts again later.
    for ring in (0, 1):
        assert driver.send(11, wire.vring(ring, 0)) == driver.base
    assert not driver.running
    assert not driver.session.running


def test_packed_rings(driver: Driver, ram: int, event: int) -> None:
    """Any size; the position has two halves, of which equal ones are sent and the lower is used."""
    assert driver.send(2, wire.number(MODERN | virtio.RING_PACKED)) == 0
    assert driver.send(5, wire.table(wire.region()), [ram]) == 0
    assert driver.send(8, wire.vring(0, 200)) == 0
    assert driver.send(10, wire.vring(0, 0x8005_8005)) == 0
    assert driver.send(9, wire.addr(0)) == 0
    assert driver.send(12, wire.number(0), [event]) == 0
    (started,) = driver.take(StartRing)
    assert (started.setup.size, started.setup.base) == (200, 0x8005)  # type: ignore[union-attr]
    assert driver.send(11, wire.vring(0, 0)) == driver.base << 16 | driver.base
    # Split rings have neither: the size is looked at when it is told, and the base.
    assert driver.send(2, wire.number(MODERN)) == 0
    assert driver.send(8, wire.vring(1, 200)) == 1
    assert driver.send(10, wire.vring(1, 0x8005_8005)) == 1


def test_rings_told_of_before_their_layout(driver: Driver, ram: int, event: int) -> None:
    """A size and a base that only packed rings have are believed until SET_FEATURES."""
    driver.send(8, wire.vring(0, 200), need_reply=False)
    driver.send(10, wire.vring(0, 0x8005_8005), need_reply=False)
    assert driver.send(2, wire.number(MODERN | virtio.RING_PACKED)) == 0
    assert driver.send(5, wire.table(wire.region()), [ram]) == 0
    assert driver.send(9, wire.addr(0)) == 0
    assert driver.send(12, wire.number(0), [event]) == 0
    (started,) = driver.take(StartRing)
    assert (started.setup.size, started.setup.base) == (200, 0x8005)  # type: ignore[union-attr]


def test_areas_of_packed_rings_are_words(driver: Driver) -> None:
    def addr(avail: int) -> bytes:
        return struct.pack("=IIQQQQ", 0, 0, wire.UVA, 0x2000 + wire.UVA, avail + wire.UVA, 0)

    assert driver.send(9, addr(0x1002)) == 0  # may be a split ring's
    assert driver.send(2, wire.number(MODERN | virtio.RING_PACKED)) == 0
    assert driver.send(9, addr(0x1006)) == 1
    assert driver.send(9, addr(0x1004)) == 0


def test_enabled_from_the_start_without_protocol_features(
    driver: Driver, ram: int, event: int
) -> None:
    driver.send(2, wire.number(1 << 32))
    driver.send(5, wire.table(wire.region()), [ram])
    driver.send(8, wire.vring(0, 256))
    driver.send(9, wire.addr(0))
    driver.send(12, wire.number(0), [event])
    assert [a.setup.enabled for a in driver.take(StartRing)] == [True]  # type: ignore[union-attr]


def test_kick_without_fd_means_polling(driver: Driver, ram: int) -> None:
    driver.send(5, wire.table(wire.region()), [ram])
    driver.send(8, wire.vring(0, 256))
    driver.send(9, wire.addr(0))
    assert driver.send(12, wire.number(0x100)) == 0
    assert [a.setup.kick_fd for a in driver.take(StartRing)] == [None]  # type: ignore[union-attr]


@pytest.mark.parametrize("order", list(itertools.permutations(["mem", "num", "addr", "kick"])))
def test_a_ring_starts_with_whatever_comes_last(
    driver: Driver, ram: int, event: int, order: tuple[str, ...]
) -> None:
    send = {
        "mem": lambda: driver.send(5, wire.table(wire.region()), [ram]),
        "num": lambda: driver.send(8, wire.vring(1, 64)),
        "addr": lambda: driver.send(9, wire.addr(1)),
        "kick": lambda: driver.send(12, wire.number(1), [event]),
    }
    for step in order[:-1]:
        assert send[step]() == 0
    assert not driver.running
    assert send[order[-1]]() == 0
    assert driver.running == {1}


@pytest.mark.parametrize("size", [0, 1, 3, 6, 255, 32769, 65535, 65536, 65538, 0xFFFFFFFF])
def test_m7_ring_sizes_that_are_refused(driver: Driver, size: int) -> None:
    assert driver.send(2, wire.number(MODERN)) == 0
    assert driver.send(8, wire.vring(0, size)) == 1
    assert driver.session.rings[0].record.size == 0
    with pytest.raises(Violation, match="ring size"):
        driver.send(8, wire.vring(0, size), need_reply=False)


@pytest.mark.parametrize("size", [2, 4, 256, 32768])
def test_m7_ring_sizes_that_are_legal(driver: Driver, size: int) -> None:
    assert driver.send(8, wire.vring(0, size)) == 0


@pytest.mark.parametrize("pairs", [1, 3, 8])
@pytest.mark.parametrize("index", [None, 16, 255, 0x10000, 0x10001, 0xFFFFFFFF])
def test_m4_indexes(event: int, index: int | None, pairs: int) -> None:
    driver = Driver(queues=pairs)
    index = 2 * pairs if index is None else index
    for request in (8, 10, 18):
        assert driver.send(request, wire.vring(index, 2)) == 1
    assert driver.send(9, wire.addr(index, base=wire.UVA)) == 1
    for request in (12, 13, 14):
        assert driver.send(request, wire.number(index & ~0x100), [event]) == 1
        assert driver.send(request, wire.number(index | 0x100)) == 1
    assert driver.session.rings_used == []
    with pytest.raises(Violation, match=f"of {2 * pairs}"):
        driver.send(11, wire.vring(index, 0))


@pytest.mark.parametrize("pairs", range(1, 9))
def test_queue_pairs(pairs: int) -> None:
    driver = Driver(queues=pairs)
    assert driver.send(17) == pairs
    assert driver.session.record.queue_pairs == pairs
    features = driver.send(1)
    assert features is not None
    assert bool(features & virtio.MQ) == (pairs > 1), "one pair alone is no multiqueue"


def test_link_is_up_with_what_the_guest_uses(driver: Driver, ram: int, event: int) -> None:
    """QEMU sets up all pairs and enables one; the guest asks for more or fewer at any time."""

    def is_up() -> bool:
        return driver.session.running

    set_up(driver, ram, event, MODERN | virtio.MQ, rings=range(16))
    assert is_up()
    for ring in range(2, 16):
        driver.send(18, wire.vring(ring, 0))
    assert is_up()
    driver.send(18, wire.vring(1, 0))
    assert not is_up(), "it cannot send"
    driver.send(18, wire.vring(5, 1))
    assert is_up(), "it can, by another pair"
    assert len(driver.running) == 16


def test_one_ring_of_a_pair_alone(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event, rings=[6])
    assert driver.running == {6}
    assert not driver.session.running
    assert [ring.index for ring in driver.session.rings_used] == [6]
    assert driver.session.slots == (2, 3, 22)


def test_ring_reset_leaves_the_others_alone(driver: Driver, ram: int, event: int) -> None:
    """A reset of one ring is its stop and a new set-up, with another size if the guest likes."""
    set_up(driver, ram, event, MODERN | virtio.MQ | 1 << 40, rings=range(4))
    driver.actions.clear()
    assert driver.send(11, wire.vring(2, 0)) == driver.base
    assert driver.running == {0, 1, 3}
    for request, payload, fds in (
        (8, wire.vring(2, 128), []), (10, wire.vring(2, 0), []), (9, wire.addr(2), []),
        (12, wire.number(2), [event]),
    ):  # fmt: skip
        assert driver.send(request, payload, fds) == 0
    touched = {a.ring for a in driver.actions if isinstance(a, StopRing)}
    started = [a.setup for a in driver.take(StartRing)]  # type: ignore[union-attr]
    assert touched == {2}
    assert [(s.ring, s.size, s.base, s.enabled) for s in started] == [(2, 128, 0, True)]


UNSERVED = [request for request in Request if request not in codec.RULES]


@pytest.mark.parametrize("request_", [*UNSERVED, 0, 77, 1 << 31])
def test_m5_what_is_not_served(driver: Driver, event: int, request_: int) -> None:
    before = wire.open_fds()
    if request_ in codec.UNSERVED_WITH_REPLY:
        with pytest.raises(Violation, match="not offered"):
            driver.send(request_, b"x" * 16, [event] * 3)
    else:
        assert driver.send(request_, b"x" * 16, [event] * 3) == 1
        assert driver.send(request_, b"x" * 16, [event], need_reply=False) is None
    assert wire.open_fds() == before


def test_m8_features_while_running(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event)
    driver.actions.clear()
    assert driver.send(2, wire.number(MODERN)) == 0
    assert not driver.actions, "the same again changes nothing"
    assert driver.send(2, wire.number(MODERN | 1 << 15)) == 0
    kinds = [type(action) for action in driver.actions]
    assert kinds == [StopRing, StopRing, StartRing, StartRing, Save]
    starts = driver.take(StartRing)
    assert all(a.setup.features == MODERN | 1 << 15 for a in starts)  # type: ignore[union-attr]
    assert all(a.setup.base == driver.base for a in starts)  # type: ignore[union-attr]
    assert driver.running == {0, 1}


@pytest.mark.parametrize("bit", [b for b in range(64) if not virtio.OFFERED >> b & 1])
def test_features_that_were_not_offered(driver: Driver, bit: int) -> None:
    assert driver.send(2, wire.number(1 << bit)) == 1


@pytest.mark.parametrize("bit", [b for b in range(64) if not virtio.PROTOCOL_OFFERED >> b & 1])
def test_protocol_features_that_were_not_offered(driver: Driver, bit: int) -> None:
    assert driver.send(16, wire.number(1 << bit)) == 1


def test_features_switched_off() -> None:
    off = Driver(features_off=1 << 15 | 1 << 30)
    assert off.send(1) == virtio.OFFERED & ~(1 << 15), "PROTOCOL_FEATURES stays"
    assert off.send(2, wire.number(1 << 15)) == 1


def test_live_call_and_enable(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event)
    driver.actions.clear()
    driver.send(13, wire.number(0x101))
    assert driver.actions == [SetCall(1, None), Save((17,))]
    driver.actions.clear()
    driver.send(18, wire.vring(1, 0))
    assert driver.actions == [EnableRing(1, False), Save((17,))]
    driver.actions.clear()
    driver.send(18, wire.vring(1, 0))
    assert driver.actions == []
    assert driver.send(18, wire.vring(1, 2)) == 1


def test_memory_grows_and_shrinks_under_running_rings(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event)
    driver.actions.clear()
    extra = wire.one_region(wire.region(1 << 40, 4096, 1 << 40))
    assert driver.send(37, extra, [ram]) == 0
    assert [type(action) for action in driver.actions] == [SetMemory, Save]
    assert driver.send(37, extra, [ram]) == 1, "twice the same"
    assert driver.send(38, extra) == 0
    assert driver.send(38, extra) == 1, "it is gone"
    assert driver.running == {0, 1}
    # The region the rings lie in goes: they stop first, and come back with it.
    driver.actions.clear()
    main = wire.one_region(wire.region())
    assert driver.send(38, main, [ram]) == 0
    kinds = [type(action) for action in driver.actions]
    assert kinds == [StopRing, StopRing, SetMemory, Save]
    assert driver.send(37, main, [ram]) == 0
    assert driver.running == {0, 1}


def test_all_memory_slots(driver: Driver, ram: int) -> None:
    for i in range(64):
        one = wire.one_region(wire.region(i << 20, 4096, i << 30))
        assert driver.send(37, one, [ram]) == 0
    assert driver.send(37, wire.one_region(wire.region(64 << 20, 4096, 64 << 30)), [ram]) == 1


def test_ring_outside_of_memory_waits_and_says_so(driver: Driver, ram: int, event: int) -> None:
    driver.send(5, wire.table(wire.region()), [ram])
    driver.send(8, wire.vring(0, 256))
    driver.send(9, wire.addr(0, base=wire.UVA + wire.RAM - 0x6000 - 64))
    assert driver.send(12, wire.number(0), [event]) == 1
    assert "outside of guest memory" in str(driver.take(Note))
    assert driver.send(12, wire.number(0), [event], need_reply=False) is None
    assert not driver.running


@pytest.mark.parametrize("at", [1, 8, 15])
def test_misaligned_rings(driver: Driver, at: int) -> None:
    assert driver.send(9, wire.addr(0, base=wire.UVA + at)) == 1


def test_reset_owner_stops_rings(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event)
    assert driver.send(4) == 0
    assert not driver.running
    assert driver.send(5, wire.table(wire.region()), [ram]) == 0
    assert not driver.running, "they wait for the next kick"


def test_reset_device_keeps_memory(driver: Driver, ram: int, event: int) -> None:
    set_up(driver, ram, event)
    assert driver.send(34) == 0
    assert not driver.running
    assert driver.session.memory
    assert driver.session.record.features == 0
    assert all(ring.fds() == () for ring in driver.session.rings)


def test_status(driver: Driver, ram: int, event: int) -> None:
    assert driver.send(39, wire.number(11)) == 0
    assert driver.send(40) == 3, "FEATURES_OK does not stick before SET_FEATURES"
    set_up(driver, ram, event)
    assert driver.send(39, wire.number(15)) == 0
    assert driver.send(40) == 15
    assert driver.send(39, wire.number(256)) == 1
    assert driver.send(39, wire.number(0)) == 0
    assert not driver.running


@pytest.mark.parametrize(("mtu", "answer"), [(67, 1), (68, 0), (1500, 0), (1501, 1), (1 << 40, 1)])
def test_mtu(driver: Driver, mtu: int, answer: int) -> None:
    assert driver.send(20, wire.number(mtu)) == answer


def test_get_vring_base_of_a_ring_that_never_was(driver: Driver) -> None:
    assert driver.send(11, wire.vring(1, 0)) == 0
    assert driver.send(10, wire.vring(1, 77)) == 0
    assert driver.send(11, wire.vring(1, 0)) == 77
    assert driver.send(2, wire.number(MODERN)) == 0
    assert driver.send(10, wire.vring(1, 0x10000)) == 1


@pytest.mark.parametrize("kind", [SetMemory, StartRing, SetCall, EnableRing])
def test_what_the_dataplane_refuses(
    driver: Driver, ram: int, event: int, kind: type[Action]
) -> None:
    driver.refuse = {kind: 22}
    answers = []
    for request, payload, fds in (
        (2, wire.number(MODERN), []),
        (5, wire.table(wire.region()), [ram]),
        (8, wire.vring(0, 256), []),
        (9, wire.addr(0), []),
        (12, wire.number(0), [event]),
        (13, wire.number(0), [event]),
        (18, wire.vring(0, 1), []),
    ):
        answers.append(driver.send(request, payload, fds))
    assert sum(answer or 0 for answer in answers) == 1
    driver.refuse = {}
    assert driver.send(11, wire.vring(0, 0)) in (0, driver.base)


ALPHABET: list[tuple[int, bytes, str]] = [
    (2, wire.number(MODERN), ""),
    (2, wire.number(1 << 32), ""),
    (4, b"", ""),
    (5, wire.table(wire.region()), "m"),
    (5, wire.table(), ""),
    (8, wire.vring(0, 256), ""),
    (9, wire.addr(0), ""),
    (10, wire.vring(0, 5), ""),
    (11, wire.vring(0, 0), ""),
    (12, wire.number(0), "e"),
    (12, wire.number(0x100), ""),
    (13, wire.number(0), "e"),
    (14, wire.number(0x100), ""),
    (18, wire.vring(0, 1), ""),
    (18, wire.vring(0, 0), ""),
    (34, b"", ""),
    (37, wire.one_region(wire.region()), "m"),
    (38, wire.one_region(wire.region()), ""),
    (39, wire.number(0), ""),
]


def play(driver: Driver, which: Sequence[int], ram: int, event: int) -> None:
    """Driver complains if an action is out of order for the dataplane."""
    for i in which:
        request, payload, kind = ALPHABET[i]
        driver.send(request, payload, {"m": [ram], "e": [event], "": []}[kind])
    active = {ring.index for ring in driver.session.rings if ring.record.active}
    assert active == driver.running


@pytest.mark.parametrize("first", range(len(ALPHABET)))
def test_m9_every_sequence_of_up_to_four_messages(ram: int, event: int, first: int) -> None:
    before = wire.open_fds()
    for length in (0, 1, 2, 3):
        for rest in itertools.product(range(len(ALPHABET)), repeat=length):
            driver = Driver()
            play(driver, (first, *rest), ram, event)
            driver.session.close()
    assert wire.open_fds() == before


@settings(max_examples=150, deadline=None)
@given(which=st.lists(st.integers(0, len(ALPHABET) - 1), max_size=40))
def test_m9_long_random_sequences(ram: int, event: int, which: list[int]) -> None:
    before = wire.open_fds()
    driver = Driver()
    play(driver, which, ram, event)
    driver.session.close()
    assert wire.open_fds() == before


@pytest.mark.slow
@pytest.mark.parametrize("which", range(len(ALPHABET)))
def test_m2_repeats_cost_nothing(driver: Driver, ram: int, event: int, which: int) -> None:
    """10^5 times the same message to a running session: descriptors and memory stay flat."""
    set_up(driver, ram, event)
    for _ in range(100):
        play(driver, [which], ram, event)
    driver.actions.clear()
    fds, rss = wire.open_fds(), wire.rss_kib()
    for _ in range(100_000):
        play(driver, [which], ram, event)
        driver.actions.clear()
    assert wire.open_fds() == fds
    assert wire.rss_kib() - rss <= 1024
