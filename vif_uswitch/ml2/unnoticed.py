# SPDX-License-Identifier: Apache-2.0
"""Which ports have changed, whether or not anybody told.

A message broker that was away and is back loses what neutron-server sends until
the agent's queues are there again, and no heartbeat need fail for that: a call
waits for the broker, and two heartbeats are 30 s apart.  So the agent asks for
all ports that are bound to this host, now and then: one question, however many
ports.  Those that are not as in the last answer, and that the switch does not
have so, are looked at.

A port is asked about in detail only then, because that is an event: until the
agent has reported the port neutron-server sets it to BUILD, and it tells Nova
when the port is ACTIVE again.  Both count the port's revision up, so that a
revision says nothing about who changed the port.

One thread, the agent's loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vif_uswitch.ml2 import wiring
from vif_uswitch.ml2.wiring import View

Json = dict[str, Any]

COMPARE_PASSES = 300
"""After how many passes of the loop to ask."""

COUNTERS = ("revision_number", "updated_at")
"""What any change counts up, the agent's reports included."""


class Unnoticed:
    def __init__(self, host: str) -> None:
        self._host = host
        self._seen: dict[str, Json] = {}  # ports that were bound here, as they were listed
        self._compare_in = COMPARE_PASSES

    def due(self) -> bool:
        """Once in a pass: whether to ask neutron-server now; ``changed()`` wants the answer."""
        self._compare_in -= 1
        return self._compare_in <= 0

    def changed(self, ports: Iterable[Mapping[str, Any]], view: View) -> set[str]:
        """Those that the switch does not have as neutron-server does, each time that is news.

        ``ports``: all that are bound to this host.
        """
        self._compare_in = COMPARE_PASSES
        before, self._seen = self._seen, {port["id"]: _without_counters(port) for port in ports}
        return {
            name for name, port in self._seen.items()
            if port != before.get(name) and not wiring.is_as_listed(port, self._host, view)
        } | (before.keys() - self._seen.keys())  # fmt: skip


def _without_counters(port: Mapping[str, Any]) -> Json:
    return {key: value for key, value in port.items() if key not in COUNTERS}
