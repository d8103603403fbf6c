# SPDX-License-Identifier: Apache-2.0
"""tests/e2e/plan.py: which stages run, and in which order."""

from __future__ import annotations

import pytest

from tests.e2e import plan


def names(*asked: str) -> list[str]:
    return [name for name, _ in plan.chosen(asked)]


def test_all_of_them_in_order_when_none_is_named() -> None:
    assert names() == list(plan.STAGES)


def test_a_stage_brings_what_it_needs_and_keeps_the_order() -> None:
    assert names("migration") == ["boot", "router", "migration"]
    assert names("restarts", "spoof") == ["boot", "router", "spoof", "restarts"]


def test_needs_are_complete_and_come_earlier() -> None:
    """What a stage needs is a stage before it, and so is what that one needs."""
    seen: set[str] = set()
    for name, stage in plan.STAGES.items():
        assert set(stage.needs) <= seen, name
        for other in stage.needs:
            assert set(plan.STAGES[other].needs) <= set(stage.needs), name
        seen.add(name)


def test_an_unknown_stage_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"no stage routers; there are: boot, network"):
        plan.chosen(["routers"])
