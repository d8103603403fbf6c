# SPDX-License-Identifier: Apache-2.0
"""What an experiment yields, and what it is told of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limit:
    """At most (or at least) this much, of another one's value if ``of`` names one."""

    value: float
    of: str = ""
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of one round."""

    name: str
    subject: str
    value: float
    unit: str
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """What an experiment needs to know of the run."""

    directory: Path
    cpus: tuple[int, int]
    seconds: float
    priority: bool
    programs: Path
