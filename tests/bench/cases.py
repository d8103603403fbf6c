# SPDX-License-Identifier: Apache-2.0
"""What is measured: one row a case.

The default cases leave the generator's driver as it comes.  The others change one thing each, so
that what it costs or gains shows beside the default.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """Frames of one size circulating between two guest-like ports.

    ``in_flight`` frames start in each direction; a ring must hold all of them, so that nobody ever
    has to drop one.  ``ring`` is the virtqueues' size, ``options`` the driver's (as net_virtio_user
    spells them), ``expected`` what we want to reach in multiples of the reference, if anything.
    """

    name: str
    size: int
    expected: float | None = None
    both_ways: bool = True
    in_flight: int = 128
    ring: int = 256
    options: tuple[str, ...] = ()
    default: bool = False


def _pairs() -> list[Case]:
    """Variants of both sizes."""
    rows = []
    for size in (64, 1514):
        rows += [
            Case(f"{size}-oneway", size, both_ways=False),
            Case(f"{size}-plain", size, options=("mrg_rxbuf=0", "in_order=0")),
            Case(f"{size}-notinorder", size, options=("in_order=0",)),
            Case(f"{size}-vector", size, options=("mrg_rxbuf=0", "vectorized=1")),
            Case(f"{size}-ring1024", size, in_flight=512, ring=1024),
            Case(f"{size}-few", size, in_flight=32),
        ]
    return rows


CASES = {case.name: case for case in (
    Case("64", 64, expected=1.0, default=True),
    Case("1514", 1514, expected=1.2, default=True),
    *_pairs(),
)}
