# SPDX-License-Identifier: Apache-2.0
"""Which of a domain's two descriptions a command changes: the running guest's, the next start's."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vif_uswitch.exceptions import Conflict


class Affect(enum.Flag):
    """As libvirt's flags, whose numbers these are."""

    LIVE = 1
    CONFIG = 2


BOTH = Affect.LIVE | Affect.CONFIG


@dataclass(frozen=True, slots=True)
class State:
    """Which descriptions a domain has: LIVE while it runs, CONFIG unless it is transient."""

    name: str
    active: bool
    persistent: bool


def chosen(state: State, live: bool, config: bool) -> Affect:
    """What ``--live`` and ``--config`` ask for; without either, all that there is.

    libvirt's tools change only the running guest then, and what was attached is
    gone after the next start.  That surprises, so it has to be asked for here.
    """
    if live and not state.active:
        raise Conflict("domain", state.name, "is not running",
                       "Leave out --live: the change counts from its next start on.")  # fmt: skip
    if config and not state.persistent:
        raise Conflict("domain", state.name, "is transient: it has no configuration",
                       "Leave out --config.")  # fmt: skip
    affect = Affect(0)
    if state.active and (live or not config):
        affect |= Affect.LIVE
    if state.persistent and (config or not live):
        affect |= Affect.CONFIG
    return affect


def each(affect: Affect) -> list[Affect]:
    """Its members: flags can be iterated from Python 3.11 on only."""
    return [one for one in (Affect.LIVE, Affect.CONFIG) if one & affect]


def everything(state: State) -> Affect:
    """All descriptions that the domain has."""
    live = Affect.LIVE if state.active else Affect(0)
    return live | (Affect.CONFIG if state.persistent else Affect(0))


def words(affect: Affect) -> str:
    if affect == BOTH:
        return "running guest and configuration"
    if not affect:
        return "neither"
    return "running guest" if affect == Affect.LIVE else "configuration"
