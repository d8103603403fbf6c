# SPDX-License-Identifier: Apache-2.0
"""Echo requests: what counts as answered, late, lost, damaged, twice."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import cast

import pytest

from testbed import TestbedError, echo
from testbed.netns import Namespace

Answer = Callable[[int, bytes], list[bytes]]
IP_HEADER = b"\x45" + bytes(19)


class Far:
    """What answers, in place of a namespace, its socket and its network.

    How is a function of a request and its number.  Whoever got the socket closes it.
    """

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.answer: Answer = lambda number, request: [reply(request)]
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._far.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._near.close()
        self._far.close()

    def socket(self, family: int, kind: int, proto: int) -> Far:
        assert (kind, proto) == (socket.SOCK_RAW, socket.IPPROTO_ICMP)
        return self

    def setsockopt(self, *_: int) -> None:
        pass

    def fileno(self) -> int:
        return self._near.fileno()

    def sendto(self, packet: bytes, address: tuple[str, int]) -> None:
        self._near.send(packet)

    def recv(self, size: int) -> bytes:
        return self._near.recv(size)

    def _run(self) -> None:
        while request := self._far.recv(1 << 16):
            self.requests.append(request)
            for packet in self.answer(len(self.requests) - 1, request):
                with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                    self._far.send(packet)


def reply(request: bytes) -> bytes:
    return IP_HEADER + b"\0" + request[1:]


@pytest.fixture
def far() -> Far:
    return Far()


def ping(far: Far, count: int = 10, patience: float = 30.0, interval: float = 0.0) -> echo.Answers:
    """By default with an interval of nothing."""
    return echo.ping(cast(Namespace, far), "192.0.2.1", count, interval=interval, patience=patience)


def test_all_answered(far: Far) -> None:
    found = ping(far)
    assert (found.sent, found.missing, found.duplicates, found.damaged) == (10, (), 0, 0)
    for number, request in enumerate(far.requests):
        assert struct.unpack_from("!H", request, 6) == (number,)
        assert sum(struct.unpack(f"!{len(request) // 2}H", request)) % 0xFFFF == 0, "checksum"


def test_late_is_not_lost(far: Far) -> None:
    """The last three answers come long after the interval and many round trips have passed."""
    held: list[bytes] = []

    def answer(number: int, request: bytes) -> list[bytes]:
        if number < 7:
            return [reply(request)]
        held.append(reply(request))
        if number < 9:
            return []
        threading.Event().wait(0.2)
        return held

    far.answer = answer
    assert ping(far).missing == ()


def test_lost_is_named(far: Far) -> None:
    far.answer = lambda number, request: [] if number in (3, 9) else [reply(request)]
    found = ping(far, patience=0.1)
    assert (found.sent, found.missing, found.lost) == (10, (3, 9), 2)


def test_silence_is_from_answer_to_answer(far: Far) -> None:
    """By when requests were sent; how long an answer took is no silence."""
    far.answer = lambda number, request: [] if number in (3, 4, 5, 8) else [reply(request)]
    found = ping(far, patience=0.1, interval=0.002)
    assert (found.missing, found.gaps) == ((3, 4, 5, 8), 2)
    assert found.silence > 3 * 0.002  # four intervals; a sender that was late makes up for it


def test_damaged_and_foreign(far: Far) -> None:
    """Another's answer, a request, a short message and changed bytes are no answers."""
    def answer(number: int, request: bytes) -> list[bytes]:
        good = reply(request)
        foreign = good[:24] + bytes([good[24] ^ 1]) + good[25:]
        return [foreign, IP_HEADER + request, good[:24], good[:-1] + bytes([good[-1] ^ 1])]

    far.answer = answer
    found = ping(far, 2, patience=0.1)
    assert (found.missing, found.damaged, found.duplicates) == ((0, 1), 2, 0)


def test_twice(far: Far) -> None:
    far.answer = lambda number, request: [reply(request)] * (2 if number == 0 else 1)
    found = ping(far)
    assert (found.missing, found.duplicates) == ((), 1)


def test_while_something_happens(far: Far) -> None:
    with echo.Pinger(cast(Namespace, far), "192.0.2.1", interval=0.001) as pinger:
        pinger.wait_answer()
        pinger.wait_answer()
    assert pinger.answers.sent >= 2
    assert pinger.answers.lost == 0


def test_nobody_answers(far: Far) -> None:
    far.answer = lambda number, request: []
    with (
        pytest.raises(TestbedError, match=r"192\.0\.2\.1"),
        echo.Pinger(cast(Namespace, far), "192.0.2.1", patience=0.0) as pinger,
    ):
        pinger.wait_answer(timeout=0.2)
