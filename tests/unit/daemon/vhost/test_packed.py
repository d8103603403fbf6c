# SPDX-License-Identifier: Apache-2.0
"""Where a packed ring goes on whose dataplane was killed in any moment of handing buffers back."""

from __future__ import annotations

import pytest

from vif_uswitch.daemon.vhost import packed
from vif_uswitch.daemon.vhost.packed import AVAIL, USED, WRAP, Resumed

SIZE = 5


def burst(first: int, last: int, step: int, whole: bool = False) -> int:
    return first | last << 16 | step << 32 | (packed.WHOLE if whole else 0)


def ring(first: int, used: int, available: int) -> list[int]:
    """Flags of a ring: from ``first`` on, so many used ones and then so many available ones."""
    flags = [0] * SIZE
    for n in range(used + available):
        at = packed.add(first, n, SIZE)
        wrap = bool(at & WRAP)
        if n < used:
            flags[at & packed.INDEX] = AVAIL | USED if wrap else 0
        else:
            flags[at & packed.INDEX] = AVAIL if wrap else USED
    return flags


@pytest.mark.parametrize("first", [WRAP, WRAP | 3, 0, 4])
@pytest.mark.parametrize("used", range(5))
def test_stops_at_the_first_that_was_not_handed_back(first: int, used: int) -> None:
    flags = ring(first, used, 4 - used)
    last = packed.add(first, 4, SIZE)
    want = packed.add(first, used, SIZE)
    assert packed.resume(burst(first, last, 1), SIZE, flags.__getitem__) == Resumed(want)


def test_chains_of_two() -> None:
    last = packed.add(WRAP | 3, 4, SIZE)
    flags = ring(WRAP | 3, 1, 4)
    assert packed.resume(burst(WRAP | 3, last, 2), SIZE, flags.__getitem__) == Resumed(0)
    flags[0] = 0  # that one was handed back as well
    assert packed.resume(burst(WRAP | 3, last, 2), SIZE, flags.__getitem__) == Resumed(last)


def test_a_frame_in_several_buffers_is_whole_or_empty() -> None:
    last = packed.add(WRAP | 3, 3, SIZE)
    torn = ring(WRAP | 3, 0, 3)
    empty = (0, WRAP | 4, WRAP | 3)  # the first one last
    found = packed.resume(burst(WRAP | 3, last, 1, whole=True), SIZE, torn.__getitem__)
    assert found == Resumed(last, empty)
    seen = ring(WRAP | 3, 3, 0)
    assert packed.resume(burst(WRAP | 3, last, 1, True), SIZE, seen.__getitem__) == Resumed(last)
    assert packed.resume(burst(WRAP | 3, last, 0, True), SIZE, torn.__getitem__) is None
    assert packed.used_state(b"\1\2\3\4\x34\x12\xff\xff", WRAP) == b"\0\0\0\0\x34\x12\x80\x80"
    assert packed.used_state(b"\1\2\3\4\x34\x12\xff\xff", 0) == b"\0\0\0\0\x34\x12\0\0"


@pytest.mark.parametrize(
    "word",
    [
        0, burst(5, 5, 1), burst(0, 5, 1), burst(WRAP, WRAP | 3, 2), burst(3, 1, 1),
        burst(0, 2, 2, whole=True),
    ],
)  # fmt: skip
def test_nonsense(word: int) -> None:
    assert packed.resume(word, SIZE, ring(WRAP, 0, 5).__getitem__) is None
