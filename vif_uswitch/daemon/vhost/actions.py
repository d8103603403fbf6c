# SPDX-License-Identifier: Apache-2.0
"""What a vhost-user session asks its shell to do, and how it says no.

What serves a message (``dispatch.py``) yields these, ``port.py`` performs them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from vif_uswitch.dataplane.base import DirtyLog, MemRegion, RingSetup


class Refused(Exception):
    """A well-formed request that cannot be granted; the text is for the operator."""


class Tolerable(Refused):
    """A refusal that a peer may not notice without harm: it asked for something not offered, or
    for a ring that cannot run yet."""


@dataclass(frozen=True, slots=True)
class StartRing:
    setup: RingSetup


@dataclass(frozen=True, slots=True)
class StopRing:
    """Answered with the next avail index, when nobody touches the ring any more."""

    ring: int


@dataclass(frozen=True, slots=True)
class EnableRing:
    ring: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class SetCall:
    ring: int
    call_fd: int | None


@dataclass(frozen=True, slots=True)
class SetMemory:
    regions: tuple[MemRegion, ...]


@dataclass(frozen=True, slots=True)
class SetLog:
    """What is written to guest memory is recorded there from now on; None: no longer."""

    log: DirtyLog | None


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the segment that this address is at the port."""

    mac: bytes


@dataclass(frozen=True, slots=True)
class Save:
    """Put these slots into escrow: what the reply promises must outlive us."""

    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something the operator should read."""

    text: str


Action = (
    StartRing | StopRing | EnableRing | SetCall | SetMemory | SetLog | Announce | Save | Note
)
Steps = Generator[Action, int, bytes | None]
"""Yields actions, is sent their results (0, or what the action says), returns the reply."""
Part = Generator[Action, int, None]
