# SPDX-License-Identifier: Apache-2.0
"""Makes and deletes the ports that nobody else plugs: carries out ``plugging.py``.

Decides on what neutron-server answers when it is asked for all ports of this
host, never on a notification: of two, the older may come last.  A notification
only says that it is time to ask.  So do a port that could not be made, and the
clock while there are such ports: of a port that is bound no more nobody tells.

One thread, the agent's loop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from vif_uswitch.exceptions import USwitchError
from vif_uswitch.ml2 import plugging
from vif_uswitch.ml2.switch import Switch

LOG = logging.getLogger(__name__)
Ports = Collection[Mapping[str, Any]]

PULL_PASSES, RETRY_PASSES = 30, 5
"""After how many passes of the loop to ask again: if all is well, and if something failed."""


class Plugger:
    def __init__(self, switch: Switch, host: str) -> None:
        self._switch = switch
        self._host = host
        self._pull_in = math.inf  # passes
        self._failures: dict[str, str] = {}  # port -> why

    def due(self, announced: Ports, deleted: Iterable[str], *, whole: bool) -> bool:
        """Once in a pass: whether to ask neutron-server now, and give the answer to ``pulled()``.

        ``announced``, ``deleted``: of ports, since the last pass; ``whole``:
        everything is looked at again.
        """
        self._pull_in -= 1
        news = any(map(self._is_news, announced)) or any(map(self._is_ours, deleted))
        if whole or news:
            self._pull_in = 0
        return self._pull_in <= 0

    def pulled(self, ports: Ports) -> None:
        """Make what is missing, delete what is left; ``ports``: all that are bound to this host."""
        view = self._switch.view
        missing = plugging.missing(ports, self._host, view)
        leftover = plugging.leftover(ports, self._host, view)
        before, self._failures = self._failures, {}
        for spec in missing:
            self._try("made", spec["name"], partial(self._switch.make, spec), before)
        for name in leftover:
            self._try("deleted", name, partial(self._switch.delete, name), before)
        self._pull_in = math.inf
        if self._failures:
            self._pull_in = RETRY_PASSES
        elif any(map(self._is_ours, self._switch.view.ports)):
            self._pull_in = PULL_PASSES

    def _try(
        self, done: str, name: str, act: Callable[[], None], before: Mapping[str, str]
    ) -> None:
        try:
            act()
            LOG.info("Port %s %s: nobody else plugs it", name, done)
        except USwitchError as error:
            why = self._failures[name] = str(error)
            if before.get(name) != why:
                LOG.error("Port %s cannot be %s: %s", name, done, why)

    def _is_news(self, port: Mapping[str, Any]) -> bool:
        here = plugging.plugged_by_agent(port, self._host)
        return here != self._is_ours(port["id"])

    def _is_ours(self, name: str) -> bool:
        return plugging.is_ours(name, self._switch.view)
