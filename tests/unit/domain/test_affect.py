# SPDX-License-Identifier: Apache-2.0
"""Which description of a domain a command changes."""

from __future__ import annotations

import pytest

from vif_uswitch.domain.affect import BOTH, Affect, State, chosen, each, everything, words
from vif_uswitch.exceptions import Conflict

LIVE, CONFIG = Affect.LIVE, Affect.CONFIG


@pytest.mark.parametrize(("active", "persistent", "live", "config", "affect"), [
    (True, True, False, False, BOTH),
    (True, True, True, True, BOTH),
    (True, True, True, False, LIVE),
    (True, True, False, True, CONFIG),
    (True, False, False, False, LIVE),
    (False, True, False, False, CONFIG),
    (False, True, False, True, CONFIG),
])  # fmt: skip
def test_chosen(active: bool, persistent: bool, live: bool, config: bool, affect: Affect) -> None:
    assert chosen(State("vm1", active, persistent), live, config) == affect


def test_what_there_is_not() -> None:
    with pytest.raises(Conflict, match="not running"):
        chosen(State("vm1", False, True), True, False)
    with pytest.raises(Conflict, match="transient"):
        chosen(State("vm1", True, False), False, True)


def test_members_and_words() -> None:
    assert each(BOTH) == [LIVE, CONFIG] and each(CONFIG) == [CONFIG]
    assert everything(State("vm1", True, False)) == LIVE
    assert everything(State("vm1", True, True)) == BOTH
    assert words(BOTH) == "running guest and configuration"
    assert (words(LIVE), words(CONFIG)) == ("running guest", "configuration")
