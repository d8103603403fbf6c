# SPDX-License-Identifier: Apache-2.0
"""Which ports have changed, whether or not anybody told.

A message broker that was away and is back loses what neutron-server sends until
the agent's queues are there again, and no heartbeat need fail for that: a call
waits for the broker, and two heartbeats are 30 s apart.  So the agent compares
the revisions of all ports that are bound to this host with those that it saw
last, now and then: one question, however many ports.

One thread, the agent's loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

COMPARE_PASSES = 300
"""After how many passes of the loop to ask."""


class Revisions:
    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}  # of each port that was bound here
        self._compare_in = COMPARE_PASSES

    def due(self) -> bool:
        """Once in a pass: whether to ask neutron-server now; ``changed()`` wants the answer."""
        self._compare_in -= 1
        return self._compare_in <= 0

    def changed(self, ports: Iterable[Mapping[str, Any]]) -> set[str]:
        """Those that were changed, bound here or taken from here since the last call.

        ``ports``: all that are bound to this host.
        """
        self._compare_in = COMPARE_PASSES
        before, self._seen = self._seen, {
            port["id"]: port.get("revision_number") for port in ports
        }  # fmt: skip
        return {port for port, _ in before.items() ^ self._seen.items()}
