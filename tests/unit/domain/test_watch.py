# SPDX-License-Identifier: Apache-2.0
"""Watching: differences of tables, and what happens when one of the two does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.unit.domain.domain_rig import MAC, OTHER
from vif_uswitch.domain import watch as room
from vif_uswitch.domain.watch import Alarm, Change
from vif_uswitch.exceptions import DaemonUnreachable


def row(mac: str = MAC, **members: Any) -> dict[str, Any]:
    return {"domain": "vm1", "mac": mac, "type": "vhostuser", "source": "/s", "link": "up",
            "segment": "blue", "port": "p", "state": "running", "reason": None,
            **members}  # fmt: skip


def test_what_came_went_and_changed() -> None:
    before = room.table([row(), row(OTHER)])
    after = room.table([row(link="waiting", segment="red", reason="gone"), row("m", link=None)])
    assert room.changes(before, after) == [
        Change("vm1", OTHER, "gone", "vhostuser blue up", None),
        Change("vm1", MAC, "link", "up", "waiting", "gone"),
        Change("vm1", MAC, "segment", "blue", "red"),
        Change("vm1", "m", "appeared", None, "vhostuser blue"),
    ]
    assert room.changes(after, after) == []


class Script:
    """What each look finds."""

    def __init__(self, *looks: list[dict[str, Any]] | Exception) -> None:
        self._looks = list(looks)

    def __call__(self) -> list[dict[str, Any]]:
        found = self._looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def watched(look: Callable[[], list[dict[str, Any]]], count: int) -> list[str]:
    changes = room.watch(look, Alarm(), 0.001)
    return [next(changes).what for _ in range(count)]


def test_who_does_not_answer_is_told_of_once() -> None:
    gone = DaemonUnreachable("uswitchd", None, "nobody answers")
    script = Script([row()], gone, gone, [row(link="waiting")], [row()])
    assert watched(script, 5) == ["appeared", "lost", "back", "link", "link"]


def test_an_alarm_ends_the_waiting_and_many_are_one() -> None:
    alarm, looks = Alarm(), []

    def look() -> list[dict[str, Any]]:
        looks.append(1)
        return [row(link=str(len(looks)))]

    changes = room.watch(look, alarm, 600)
    assert next(changes).what == "appeared"
    for _ in range(5):
        alarm.ring("connection", "domain")
    threading.Timer(0.01, alarm.ring).start()
    assert next(changes).after == "2" and len(looks) == 2
