# SPDX-License-Identifier: Apache-2.0
"""Where a packed ring (virtio 1.2, §2.8) goes on whose dataplane died: decisions, no I/O.

The same as ``dataplane/vhost/virtq_packed.c`` does when a new dataplane takes
a ring over (the rules stand in ``virtq_packed.h``), for a front-end that asks
for the position while there is none.  A position is a descriptor's index with
the wrap counter in bit 15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

WRAP = 0x8000
INDEX = 0x7FFF
WHOLE = 1 << 48  # PACKED_WHOLE
AVAIL, USED = 1 << 7, 1 << 15
DESC_SIZE = 16
STATE = 8  # of a descriptor: where length (4 bytes), buffer id (2) and flags (2) are


@dataclass(frozen=True, slots=True)
class Resumed:
    """The next position, and those whose buffers must go back empty before, in this order."""

    position: int
    empty: tuple[int, ...] = ()


def add(position: int, n: int, size: int) -> int:
    """The position ``n`` descriptors on, at most a turn."""
    index = (position & INDEX) + n
    if index < size:
        return position & WRAP | index
    return (position & WRAP ^ WRAP) | (index - size)


def distance(first: int, last: int, size: int) -> int:
    return (last & INDEX) - (first & INDEX) + (size if (first ^ last) & WRAP else 0)


def is_available(flags: int, position: int) -> bool:
    return (flags & (AVAIL | USED)) == (AVAIL if position & WRAP else USED)


def resume(burst: int, size: int, flags_at: Callable[[int], int]) -> Resumed | None:
    """What ``us_ring_state.burst`` and the guest's memory say; None: they make no sense.

    ``flags_at`` reads the flags of the descriptor with that index.
    """
    first, last, step = burst & 0xFFFF, burst >> 16 & 0xFFFF, burst >> 32 & 0xFFFF
    if (first & INDEX) >= size or (last & INDEX) >= size:
        return None
    left = distance(first, last, size)
    if not 0 <= left <= size:
        return None
    if burst & WHOLE:
        if step > 1:
            return None
        if not is_available(flags_at(first & INDEX), first):
            return Resumed(last)
        places = tuple(add(first, n, size) for n in reversed(range(left)))
        return Resumed(last, places) if step else None
    if step == 0 or left % step:
        return None
    for n in range(0, left, step):
        position = add(first, n, size)
        if is_available(flags_at(position & INDEX), position):
            return Resumed(position)
    return Resumed(last)


def used_state(state: bytes, position: int) -> bytes:
    """Length, id and flags of a descriptor whose buffer goes back empty."""
    flags = AVAIL | USED if position & WRAP else 0
    return bytes(4) + state[4:6] + flags.to_bytes(2, "little")
