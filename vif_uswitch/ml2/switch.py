# SPDX-License-Identifier: Apache-2.0
"""The agent's end of the control API: looks at the switch, and carries out steps.

Keeps the last ``View`` and brings it up to date with every answer, so that
what follows in the same pass is decided on the switch as it is now.  When
uswitchd does not answer, ``look()`` keeps the view, says so in the log once,
and once when it is back; ``step()`` raises.

Used by the agent's loop and by its heartbeat: one lock, one connection.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from vif_uswitch.exceptions import (
    Busy,
    DaemonUnreachable,
    Forbidden,
    NotFound,
    ProtocolError,
    TimedOut,
    USwitchError,
)
from vif_uswitch.ml2.wiring import DeleteSegment, MapRow, SetPort, Step, View

LOG = logging.getLogger(__name__)
Json = dict[str, Any]

UNREACHABLE = (DaemonUnreachable, TimedOut, ProtocolError)
PATIENCE_S = 15.0
"""How long uswitchd may be away (an upgrade, a restart) before Neutron is told."""


class Control(Protocol):
    """What of ``vif_uswitch.client.Client`` is used here."""

    def version(self) -> Json: ...
    def show(self) -> Json: ...
    def port_list(self) -> list[Json]: ...
    def segment_list(self) -> list[Json]: ...
    def port_ensure(self, port: Json) -> Json: ...
    def port_set(self, name: str, changes: Json, *, create_segments: bool) -> Json: ...
    def port_delete(self, name: str) -> bool: ...
    def segment_delete(self, name: str) -> bool: ...
    def uplink_map(
        self, name: str, vid: int | None, segment: str | None, create_segments: bool = False
    ) -> Json: ...


class Switch:
    def __init__(self, control: Control, clock: Callable[[], float] = time.monotonic) -> None:
        self.view = View()
        self.vhost_socket_dir = ""  # as uswitchd said last
        self._control = control
        self._clock = clock
        self._lock = threading.RLock()
        self._pid = 0
        self._seen: tuple[int, int] | None = None  # pid and revision of ``view``
        self._away_since: float | None = None
        self._away_why = ""
        self._restarted = False
        self._refused: dict[str, str] = {}  # step as text -> why

    # ---- is it there? ----

    def is_away(self) -> bool:
        """Whether uswitchd did not answer when it was last asked."""
        return self._away_since is not None

    def problem(self) -> str:
        """Why uswitchd does not answer, if it never has, or for longer than a restart takes."""
        if self._away_since is None:
            return ""
        patient = self._pid and self._clock() - self._away_since < PATIENCE_S
        return "" if patient else self._away_why

    def take_restarted(self) -> bool:
        """Whether uswitchd is another process than it was; asked once it says no."""
        restarted, self._restarted = self._restarted, False
        return restarted

    def look(self) -> bool:
        """Bring ``view`` up to date; False if uswitchd does not answer and the view is old.

        Lists the ports only if something has changed: a thousand are a third of
        a second's work for uswitchd.
        """
        with self._lock:
            try:
                version = self._control.version()
                pid = version["pid"]
                if self.is_away() or pid != self._pid:
                    self.vhost_socket_dir = self._control.show()["daemon"]["vhost_socket_dir"]
                # Asked for before the list: what changes in between is found by the next look.
                seen = (pid, version["revision"]) if "revision" in version else None
                if seen is None or seen != self._seen:
                    self.view = View.of(self._control.port_list())
                self._seen = seen
            except (*UNREACHABLE, Busy, Forbidden) as error:  # these two: of every call
                self._gone(error)
                return False
            self._here(pid)
            return True

    def _gone(self, error: USwitchError) -> None:
        if self._away_since is None:
            self._away_since = self._clock()
            LOG.error("uswitchd does not answer; running traffic goes on, ports are wired when it"
                      " is back: %s", error)  # fmt: skip
        self._away_why = str(error)

    def _here(self, pid: int) -> None:
        if self._away_since is not None:
            LOG.info("uswitchd answers again, after %.0f s", self._clock() - self._away_since)
            self._restarted = True
        elif self._pid not in (0, pid):
            LOG.info("uswitchd was restarted")
            self._restarted = True
        self._pid = pid
        self._away_since = None

    # ---- change it ----

    def step(self, step: Step) -> None:
        """Carry out one step of ``wiring``; raises USwitchError."""
        with self._lock:
            try:
                self._do(step)
            except UNREACHABLE as error:
                self._gone(error)
                raise

    def _do(self, step: Step) -> None:
        LOG.debug("%s", step)
        if isinstance(step, SetPort):
            answer = self._control.port_set(step.name, step.changes, create_segments=True)
            self._see_port(answer["port"])
        elif isinstance(step, MapRow):
            answer = self._control.uplink_map(
                step.uplink, step.vid, step.segment, create_segments=step.segment is not None
            )
            uplink = answer["uplink"]["port"]
            self.view = replace(self.view, uplinks={**self.view.uplinks, uplink["name"]: uplink})
        else:
            self._control.segment_delete(step.name)

    def clean(self, steps: list[Step]) -> None:
        """Carry out what tidies up: a step that is refused is said once, and left for later."""
        for step in steps:
            key = repr(step)
            try:
                self.step(step)
                self._refused.pop(key, None)
            except UNREACHABLE:
                return
            except (Busy, NotFound):
                LOG.debug("%s: not now", step)
            except USwitchError as error:
                if self._refused.get(key) != str(error):
                    LOG.warning("%s stays: %s", _what(step), error)
                self._refused[key] = str(error)

    def make(self, spec: Json) -> None:
        with self._lock:
            self._see_port(self._control.port_ensure(spec)["port"])

    def delete(self, name: str) -> None:
        with self._lock:
            self._control.port_delete(name)
            ports = {key: port for key, port in self.view.ports.items() if key != name}
            self.view = replace(self.view, ports=ports)

    def segments(self) -> list[str]:
        with self._lock:
            return [segment["name"] for segment in self._control.segment_list()]

    def _see_port(self, port: Json) -> None:
        self.view = replace(self.view, ports={**self.view.ports, port["name"]: port})


def _what(step: Step) -> str:
    if isinstance(step, MapRow):
        return f"row {'untagged' if step.vid is None else step.vid} of uplink {step.uplink}"
    return f"{'segment' if isinstance(step, DeleteSegment) else 'port'} {step.name}"
