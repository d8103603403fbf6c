# SPDX-License-Identifier: Apache-2.0
"""Wires ports: joins what Neutron says, what the switch has, and what went wrong before.

The agent's memory, and all of it can be lost: after a restart it is made anew
from the switch and from Neutron.  One thread, the agent's loop; ``problem``
and ``mappings`` are also read by the heartbeat.

A port that cannot be wired stays in its network, but under what it may claim by
now (a new one: in none), and is tried again, after longer and longer pauses:
what stood against it may be gone.  Its reason is in the log when it is new.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vif_uswitch.exceptions import DaemonUnreachable, NotFound, USwitchError
from vif_uswitch.ml2 import wiring
from vif_uswitch.ml2.switch import UNREACHABLE, Switch
from vif_uswitch.ml2.wiring import Row

LOG = logging.getLogger(__name__)
Json = dict[str, Any]

RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
DOUBLINGS = 5  # from the one to the other


class PortGone(Exception):
    """The port left the switch while it was being wired."""


class CutRefused(Exception):
    """The port is still in its network."""


class Wirer:
    def __init__(
        self,
        switch: Switch,
        mappings: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``mappings``: physical network -> uplink; empty: as the uplinks say."""
        self.switch = switch
        self._mappings = dict(mappings)
        self._clock = clock
        self._needed: dict[str, Row | None] = {}  # row of each port that was wired
        self._failures: dict[str, tuple[int, str]] = {}  # how often, why
        self._due: dict[str, float] = {}  # when to try again
        self._nudges: Counter[str] = Counter()
        self._left: dict[str, int] = {}  # ports whose guest has moved away: when each was made
        self._all_segments = True  # look for segments that were left behind

    # ---- what there is ----

    def mappings(self) -> dict[str, str]:
        """Physical network -> uplink, of uplinks that exist."""
        if not self._mappings:
            return self.switch.view.physnets()
        return {physnet: uplink for physnet, uplink in self._mappings.items()
                if uplink in self.switch.view.uplinks}  # fmt: skip

    def devices(self) -> set[str]:
        """Neutron's ports in the switch; the last known ones while uswitchd does not answer."""
        self.switch.look()
        return self.known()

    def known(self) -> set[str]:
        return {name for name, port in self.switch.view.ports.items() if wiring.is_device(port)}

    def known_in(self, network: str) -> set[str]:
        ports = self.switch.view.ports  # once: other threads ask too, and a view is replaced whole
        return {name for name, port in ports.items()
                if wiring.is_device(port) and port["segment"] == network}  # fmt: skip

    def timestamps(self, devices: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Changes when a port was deleted and plugged again, or is due to be tried again."""
        now = self._clock()
        for name in [name for name, when in self._due.items() if when <= now]:
            del self._due[name]
            self._nudges[name] += 1
        ports = self.switch.view.ports
        return {name: (ports[name].get("created_us", 0), self._nudges[name])
                for name in devices if name in ports}  # fmt: skip

    # ---- wire ----

    def wire(self, details: Mapping[str, Any]) -> bool:
        """Put the port into its network; False if that cannot be (it was logged).

        Raises PortGone, and DaemonUnreachable if uswitchd does not answer:
        then nothing is known about the port, and nothing should be reported.
        """
        name = details["device"]
        physnets = self.mappings()
        try:
            for step in wiring.wire(details, self.switch.view, physnets):
                self.switch.step(step)
            self._needed[name] = wiring.row_of(details, physnets)
        except UNREACHABLE as error:
            self.again(name)
            raise DaemonUnreachable("uswitchd", None, str(error)) from error
        except USwitchError as error:
            self._check_there(name, error)
            self._protect(details)
            self.failed(name, str(error))
            return False
        self._failures.pop(name, None)
        self._due.pop(name, None)
        return True

    def _protect(self, details: Mapping[str, Any]) -> None:
        for step in wiring.protect(details, self.switch.view):
            try:
                self.switch.step(step)
            except UNREACHABLE as error:
                self.again(details["device"])
                raise DaemonUnreachable("uswitchd", None, str(error)) from error
            except USwitchError as error:
                LOG.debug("%s: %s", step, error)

    def _check_there(self, name: str, error: USwitchError) -> None:
        if isinstance(error, NotFound) and self.switch.look() and name not in self.known():
            raise PortGone(name) from error

    def failed(self, name: str, why: str, what: str = "wired") -> None:
        """Say what cannot be and why, if that is news, and try again later."""
        times, before = self._failures.get(name, (0, ""))
        if why != before:
            LOG.error("Port %s cannot be %s: %s", name, what, why)
        self._failures[name] = times + 1, why
        pause = RETRY_FIRST_S * 2.0 ** min(times, DOUBLINGS)
        self._due[name] = self._clock() + min(pause, RETRY_MAX_S)

    def again(self, name: str) -> None:
        """Try this port again in the next pass."""
        self._due[name] = self._clock()

    # ---- unwire ----

    def cut(self, name: str) -> bool:
        """Take the port out of its network; whether it was in one.

        Raises as ``wire()`` does, and CutRefused: then it is tried again later.
        """
        steps = wiring.cut(name, self.switch.view)
        try:
            for step in steps:
                self.switch.step(step)
        except UNREACHABLE as error:
            self.again(name)
            raise DaemonUnreachable("uswitchd", None, str(error)) from error
        except USwitchError as error:
            self._check_there(name, error)
            self.failed(name, str(error), "taken out of its network")
            raise CutRefused(name) from error
        self._forget(name)
        self._all_segments |= bool(steps)
        return bool(steps)

    def has_left(self, name: str) -> bool:
        """Whether the port's guest was here, and is on another host now; the port is then in no
        network any more.  Raises as ``cut()`` does.

        Only a port with a guest has its address pinned.
        """
        port = self.switch.view.ports.get(name)
        if port is None:
            return False
        made: int = port.get("created_us", 0)
        if port["segment"] is not None and port["macs"] and self.cut(name):
            LOG.info("Port %s has moved to another host: taken out of its network", name)
            self._left[name] = made
        return self._left.get(name) == made

    def gone(self, names: Iterable[str]) -> None:
        """These ports have left the switch."""
        for name in names:
            self._forget(name)
            self._nudges.pop(name, None)
            self._left.pop(name, None)
        self._all_segments = True

    def _forget(self, name: str) -> None:
        for memory in (self._needed, self._failures, self._due):
            memory.pop(name, None)

    def sweep(self, *, whole: bool = False) -> None:
        """Remove rows and segments of networks that no port of this host is in any more.

        ``whole``: also segments that never had a row, or lost it while no agent ran.
        """
        segments = None
        if whole or self._all_segments:
            try:
                segments = self.switch.segments()
            except USwitchError as error:
                LOG.debug("Segments are not swept now: %s", error)
                return
        self._all_segments = False
        self.switch.clean(wiring.sweep(self.switch.view, self._needed, segments))
