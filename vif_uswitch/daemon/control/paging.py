# SPDX-License-Identifier: Apache-2.0
"""Long lists in pages that fit in one line of the API.

``by_name()`` serves what is ordered by name: the cursor is the last name of
the page before, so ports that come and go between two pages disturb nobody.
``Snapshots`` serves the FDB, which has no such order: its first page takes a
copy of the table, the following ones read on in the copy.

Building a page never holds up the event loop: ``Pace`` gives way as it goes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from vif_uswitch.api import wire
from vif_uswitch.exceptions import InvalidInput

Item = TypeVar("Item")
Shown = TypeVar("Shown")
STEP_S = 0.0005
SNAPSHOTS_MAX = 4


class Pace:
    """Lets the event loop do something else after every half millisecond of work."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def rest(self) -> None:
        if time.monotonic() - self._since > STEP_S:
            await asyncio.sleep(0)
            self._since = time.monotonic()


def size_of(item: object) -> int:
    """Bytes of ``item`` in a reply, with its comma."""
    text = msgspec.json.encode(item)  # a tenth of the time, and as long if nothing is escaped
    return 1 + (len(text) if text.isascii() else len(wire.dumps(msgspec.to_builtins(item))))


async def by_name(
    names: Iterable[str], cursor: str, make: Callable[[str], Sequence[Item]]
) -> tuple[tuple[Item, ...], str]:
    """One page: what ``make`` has for the names after ``cursor``, and the next cursor.

    ``make`` gives [] for a name that is gone meanwhile.
    """
    page: list[Item] = []
    used = 0
    last = ""
    pace = Pace()
    for name in sorted(name for name in names if name > cursor):
        group = make(name)
        size = sum(size_of(item) for item in group)
        if page and used + size > wire.PAGE_BYTES:
            return tuple(page), last
        page.extend(group)
        used += size
        last = name
        await pace.rest()
    return tuple(page), ""


class Snapshots(Generic[Item]):
    """Copies of a long list that clients are still reading; the oldest goes when too many do."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._open: OrderedDict[int, Sequence[Item]] = OrderedDict()

    def first(self, items: Sequence[Item]) -> str:
        """A cursor at the beginning of ``items``."""
        number = next(self._ids)
        self._open[number] = items
        while len(self._open) > SNAPSHOTS_MAX:
            self._open.popitem(last=False)
        return f"{number}:0"

    def page(self, cursor: str, view: Callable[[Item], Shown]) -> tuple[list[Shown], str]:
        """One page from ``cursor`` on, each item as ``view`` shows it, and the next cursor."""
        number, start = self._parse(cursor)
        items = self._open[number]
        page: list[Shown] = []
        used = 0
        for position in range(start, len(items)):
            shown = view(items[position])
            used += size_of(shown)
            if page and used > wire.PAGE_BYTES:
                return page, f"{number}:{position}"
            page.append(shown)
        del self._open[number]
        return page, ""

    def _parse(self, cursor: str) -> tuple[int, int]:
        number, _, start = cursor.partition(":")
        well_formed = cursor.isascii() and number.isdecimal() and start.isdecimal()
        if well_formed and int(number) in self._open:
            return int(number), int(start)
        raise InvalidInput(
            "cursor", cursor, "is not, or no longer, valid", "Start again without a cursor."
        )
