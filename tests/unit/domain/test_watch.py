# SPDX-License-Identifier: Apache-2.0
"""Watching: differences of tables, and what happens when one of the two does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.domain.domain_rig import MAC, OTHER, FakeGuest, bridge, domain
from vif_uswitch.client import Client
from vif_uswitch.domain import watch as room
from vif_uswitch.domain.watch import Alarm, Change
from vif_uswitch.exceptions import DaemonUnreachable, NotFound


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


class Domains:
    """libvirt with one domain for each name that is left."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.rings: list[tuple[int, Callable[..., None]]] = []

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def subscribe(self, event: int, ring: Callable[..., None]) -> None:
        self.rings.append((event, ring))

    def guest(self, name: str) -> FakeGuest:
        if name not in self.names:
            raise NotFound("domain", name, "does not exist")
        guest = FakeGuest(config=domain(bridge(), name=name))
        guest.name = name
        return guest


def test_one_that_is_named_and_goes_does_not_hide_the_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = Domains("vm1", "vm2")
    monkeypatch.setattr(room, "connect", lambda uri, write: domains)
    eyes = room.Eyes(client, None, ["vm1", "vm2"])
    changes = room.watch(eyes.look, eyes.alarm, 0.001)
    assert [next(changes).domain for _ in range(2)] == ["vm1", "vm2"]
    domains.names.remove("vm1")
    gone = next(changes)
    assert (gone.domain, gone.what) == ("vm1", "gone")
    domains.names.append("vm1")
    assert next(changes).what == "appeared"
    with pytest.raises(NotFound, match="nobody"):
        room.Eyes(client, None, ["vm1", "nobody"]).look()


def test_every_event_rings(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    domains = Domains("vm1")
    monkeypatch.setattr(room, "connect", lambda uri, write: domains)
    eyes = room.Eyes(client, None, ["vm1"])
    changes = room.watch(eyes.look, eyes.alarm, 600)
    assert next(changes).what == "appeared"
    assert [event for event, _ in domains.rings] == list(room.EVENTS)
    for _, ring in domains.rings:
        domains.names = [] if domains.names else ["vm1"]
        ring("connection", "domain")
        assert next(changes).what == ("appeared" if domains.names else "gone")


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
