# SPDX-License-Identifier: Apache-2.0
"""ICMP echo from a namespace, every request waited for.

ping(8), once it has had an answer, waits for the last ones no longer than an interval or two round
trips, whatever its -W says.  A machine that stands still for a moment, as an emulated one does
beside others, then answers too late for it, and frames that nobody lost count as lost.  Here each
request may be answered until ``patience`` seconds after the last one was sent.

    answers = ping(namespace, "10.9.0.2")
    with Pinger(namespace, "10.9.0.2") as pinger:      # while something happens
        pinger.wait_answer()                           # they are under way
        ...
    assert pinger.answers.lost == 0, pinger.answers

Requests are not fragmented, and an answer counts if it brings the request's bytes back.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from testbed import TestbedError
from testbed.netns import Namespace

SIZE = 56  # bytes of a request behind its ICMP header, as ping(8) has them
INTERVAL = 0.05
PATIENCE = 10.0
ANSWER_SECONDS = 60.0
SEQUENCE_MAX = 65536
ICMP_HEADER = 8
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h
IPV6_MTU_DISCOVER = 23  # linux/in6.h


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of so many requests."""

    sent: int
    missing: tuple[int, ...]  # requests without an answer, from 0
    duplicates: int
    damaged: int  # answers with other bytes than their requests; these are missing too
    slowest: float  # seconds until the answer that took longest
    refused: str  # why the kernel did not take the last request that it did not take, or ""
    silence: float = 0.0  # longest time in seconds from a request that was answered to the next one

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return len(self.missing)

    @property
    def gaps(self) -> int:
        """How often requests in a row have no answer."""
        return sum(number - 1 not in self.missing for number in self.missing)


class Pinger:
    """Requests at an interval for as long as the context lasts, or ``count`` of them."""

    def __init__(self, namespace: Namespace, address: str, *, count: int = SEQUENCE_MAX,
                 interval: float = INTERVAL, size: int = SIZE, patience: float = PATIENCE) -> None:
        self._address, self._count, self._interval = address, count, interval
        self._patience = patience
        self._v6 = ":" in address
        self._identity = random.getrandbits(16)
        self._data = random.randbytes(size)
        self._socket = _open(namespace, self._v6)
        self._sent: list[float] = []  # when
        self._open: set[int] = set()
        self._latest = -1  # request that was answered
        self._news = threading.Condition()
        self._duplicates = self._damaged = 0
        self._slowest = 0.0
        self._refused = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ping {address}", daemon=True)

    def __enter__(self) -> Pinger:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def wait(self) -> None:
        """Until all ``count`` were sent and answered, or patience ends."""
        self._thread.join()

    def wait_answer(self, timeout: float = ANSWER_SECONDS) -> None:
        """Until a request is answered that is sent from now on."""
        first = len(self._sent)
        with self._news:
            if not self._news.wait_for(lambda: self._latest >= first, timeout):
                raise TestbedError(f"no answer from {self._address} to what was sent in the last "
                                   f"{timeout:.0f} s: {self.answers}")

    @property
    def answers(self) -> Answers:
        """Complete once the context has ended."""
        answered = [at for number, at in enumerate(self._sent) if number not in self._open]
        silence = max((b - a for a, b in itertools.pairwise(answered)), default=0.0)
        return Answers(len(self._sent), tuple(sorted(self._open)), self._duplicates, self._damaged,
                       self._slowest, self._refused, silence)

    # -- its thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set() and len(self._sent) < self._count:
            self._send()
            due = max(due + self._interval, time.monotonic())  # late ones are not made up for
            self._listen(due, even_if_all_answered=True)
        self._listen(time.monotonic() + self._patience, even_if_all_answered=False)

    def _send(self) -> None:
        sequence = len(self._sent)
        self._sent.append(time.monotonic())
        self._open.add(sequence)
        packet = bytearray(struct.pack("!BBHHH", 128 if self._v6 else 8, 0, 0, self._identity,
                                       sequence)) + self._data
        if not self._v6:  # the kernel does it for ICMPv6
            packet[2:4] = struct.pack("!H", checksum(packet))
        try:
            self._socket.sendto(packet, (self._address, 0))
        except OSError as error:
            self._refused = str(error)

    def _listen(self, until: float, *, even_if_all_answered: bool) -> None:
        while even_if_all_answered or self._open:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return
            with contextlib.suppress(OSError):  # an error report of an earlier request
                self._take(self._socket.recv(1 << 16))

    def _take(self, packet: bytes) -> None:
        message = packet if self._v6 else packet[(packet[0] & 0x0F) * 4:]
        if len(message) < ICMP_HEADER or message[0] != (129 if self._v6 else 0):
            return
        identity, sequence = struct.unpack_from("!HH", message, 4)
        if identity != self._identity or sequence >= len(self._sent):
            return
        if message[ICMP_HEADER:] != self._data:
            self._damaged += 1
        elif sequence not in self._open:
            self._duplicates += 1
        else:
            self._open.remove(sequence)
            self._slowest = max(self._slowest, time.monotonic() - self._sent[sequence])
            with self._news:
                self._latest = max(self._latest, sequence)
                self._news.notify_all()


def ping(namespace: Namespace, address: str, count: int = 10, *, interval: float = INTERVAL,
         size: int = SIZE, patience: float = PATIENCE) -> Answers:
    """So many requests; returns once all are answered, or patience has ended."""
    with Pinger(namespace, address, count=count, interval=interval, size=size,
                patience=patience) as pinger:
        pinger.wait()
    return pinger.answers


def _open(namespace: Namespace, v6: bool) -> socket.socket:
    """It hears every ICMP message of the namespace."""
    if v6:
        opened = namespace.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
    else:
        opened = namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    return opened


def checksum(message: bytes | bytearray) -> int:
    """RFC 1071, of a message whose checksum field is 0."""
    padded = bytes(message) + b"\0" * (len(message) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
