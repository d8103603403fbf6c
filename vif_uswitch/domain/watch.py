# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain watch``: what happens to domains' interfaces and ports, a line each.

Libvirt tells of domains and devices as it happens; uswitchd is asked every
interval, and at once when libvirt had something to tell.  What is printed is
the difference of two tables, so nothing is told twice, and a change that both
know of is one line.

Libvirt's events are handled by a thread of their own (libvirt's default event
loop); it only wakes the reader.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import libvirt

from vif_uswitch.client import Client
from vif_uswitch.domain import look
from vif_uswitch.domain.connect import Hypervisor, connect
from vif_uswitch.exceptions import USwitchError

Json = dict[str, Any]
Table = dict[tuple[str, str], Json]  # by domain and MAC address
SETTLE_S = 0.05  # a start is several events within milliseconds
EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
)  # fmt: skip
SHOWN = ("link", "segment", "port", "source", "state")


@dataclass(frozen=True, slots=True)
class Change:
    """``what``: appeared, gone, or the member of the row that is another one now.

    Or lost and back, without a domain: uswitchd or libvirt does not answer, or does again.
    """

    domain: str
    mac: str
    what: str
    before: str | None
    after: str | None
    reason: str | None = None


def table(rows: Sequence[Json]) -> Table:
    return {(row["domain"], row["mac"]): row for row in rows}


def changes(before: Table, after: Table) -> list[Change]:
    """In the order of the tables; an interface that came or went is one change."""
    found = []
    for key, row in before.items():
        if key not in after:
            found.append(Change(*key, "gone", _text(row), None))
    for key, row in after.items():
        old = before.get(key)
        if old is None:
            found.append(Change(*key, "appeared", None, _text(row), row["reason"]))
            continue
        for member in SHOWN:
            if old[member] != row[member]:
                reason = row["reason"] if member == "link" else None
                found.append(Change(*key, member, old[member], row[member], reason))
    return found


def _text(row: Json) -> str:
    """An interface in three words."""
    words = [row["type"], row["segment"] or row["source"], row["link"]]
    return " ".join(str(word) for word in words if word)


class Alarm:
    """Set by libvirt's thread when a domain or one of its devices has changed."""

    def __init__(self) -> None:
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self, *_: object) -> None:
        self._news.put(None)

    def wait(self, seconds: float) -> None:
        """Until something happened or the time is over; what came together is one thing."""
        try:
            self._news.get(timeout=seconds)
        except queue.Empty:
            return
        time.sleep(SETTLE_S)
        while not self._news.empty():
            self._news.get()


def start_events() -> None:
    """Libvirt's event loop, in a thread.  Before the first connection, once in a process."""
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()


class Eyes:
    """Looks at both, and finds them again when they were restarted."""

    def __init__(self, client: Client, uri: str | None, names: Sequence[str]) -> None:
        self.alarm = Alarm()
        self._client = client
        self._uri = uri
        self._names = names
        self._hypervisor: Hypervisor | None = None
        self._seen = False  # what is named was there: from then on it may go, and come again

    def look(self) -> list[Json]:
        if self._hypervisor is None or not self._hypervisor.alive():
            self.close()
            self._hypervisor = connect(self._uri, write=False)
            for event in EVENTS:
                self._hypervisor.subscribe(event, self.alarm.ring)
        rows = look.rows(self._hypervisor, self._client, self._names, strict=not self._seen)
        self._seen = True
        return rows

    def close(self) -> None:
        if self._hypervisor is not None:
            self._hypervisor.close()
            self._hypervisor = None


def watch(look_now: Callable[[], list[Json]], alarm: Alarm, interval_s: float) -> Iterator[Change]:
    """All interfaces that there are, and then every change, for ever.

    The first look must succeed: what is wrong from the beginning is an error.
    """
    before = table(look_now())
    yield from changes({}, before)
    lost = False
    while True:
        alarm.wait(interval_s)
        try:
            after = table(look_now())
        except USwitchError as error:
            if not lost:
                yield Change("", "", "lost", None, str(error))
            lost = True
            continue
        if lost:
            yield Change("", "", "back", None, None)
            lost = False
        yield from changes(before, after)
        before = after
