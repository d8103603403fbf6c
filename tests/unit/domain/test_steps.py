# SPDX-License-Identifier: Apache-2.0
"""Changes that are taken back when a later one fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vif_uswitch.domain.steps import Steps
from vif_uswitch.exceptions import USwitchError


def fail(why: str) -> Callable[[], None]:
    def failing() -> None:
        raise USwitchError(why)

    return failing


def test_the_last_one_is_taken_back_first() -> None:
    done: list[str] = []
    said: list[str] = []
    with pytest.raises(USwitchError, match="third"), Steps(said.append) as steps:
        steps.do("a", lambda: done.append("a"), lambda: done.append("-a"))
        steps.do("b", lambda: done.append("b"))
        steps.note("c", lambda: done.append("-c"))
        steps.note("was there before", None)
        steps.do("d", fail("third"), lambda: done.append("-d"))
    assert done == ["a", "b", "-c", "-a"]
    assert said == ["taken back: c", "taken back: a"]


def test_what_cannot_be_taken_back_is_said_and_ends_nothing() -> None:
    done: list[str] = []
    said: list[str] = []
    with pytest.raises(USwitchError, match="why"), Steps(said.append) as steps:
        steps.do("a", lambda: done.append("a"), lambda: done.append("-a"))
        steps.note("b", fail("gone"))
        raise USwitchError("why")
    assert done == ["a", "-a"] and said == ["not taken back: b: gone", "taken back: a"]


def test_what_is_kept_or_went_well_stays() -> None:
    done: list[str] = []
    with Steps(done.append) as steps:
        steps.note("a", lambda: done.append("-a"))
    with pytest.raises(KeyboardInterrupt), Steps(done.append) as steps:
        steps.note("a", lambda: done.append("-a"))
        steps.keep()
        raise KeyboardInterrupt
    assert done == []
