# SPDX-License-Identifier: Apache-2.0
"""What is measured under load: one row a case.

The default cases leave the generator's driver as it comes.  The others change one thing each, so
that what it costs or gains shows beside the default.  Measurements of another kind (a round trip,
an idle processor, an attacker) are in ``figures.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

OVS = "ovs-dpdk"
IO = "testpmd"


@dataclass(frozen=True, slots=True)
class Expected:
    """What we want to reach, in multiples of a peer's rate."""

    peer: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Case:
    """Frames of one size circulating between pairs of guest-like ports.

    ``in_flight`` frames start in each direction; a ring must hold all of them, so that nobody ever
    has to drop one.  ``ring`` is the virtqueues' size, ``options`` the driver's (as net_virtio_user
    spells them).  ``flows`` counts pairs of addresses; dpdk-testpmd knows one, so such a case is
    driven by the load program of our own, for every contender; 0 leaves it to testpmd.  ``cycles``
    is the most we want to spend on a packet.
    """

    name: str
    size: int
    expected: tuple[Expected, ...] = ()
    cycles: float | None = None
    both_ways: bool = True
    in_flight: int = 128
    burst: int = 32
    ring: int = 256
    pairs: int = 1
    flows: int = 0
    options: tuple[str, ...] = ()
    default: bool = False

    @property
    def ports(self) -> int:
        """Guest-like ports, of which 2n and 2n + 1 talk to each other."""
        return 2 * self.pairs

    @property
    def wants_packed(self) -> bool:
        """Whether the case says nothing unless packed rings were negotiated."""
        return "packed_vq=1" in self.options


def _pairs() -> list[Case]:
    """Variants of the smallest and the largest size."""
    rows = []
    for size in (64, 1514):
        rows += [
            Case(f"{size}-oneway", size, both_ways=False, default=True),
            Case(f"{size}-packed", size, options=("packed_vq=1",), default=True),
            Case(f"{size}-8guests", size, pairs=4, in_flight=32, default=True),
            Case(f"{size}-plain", size, options=("mrg_rxbuf=0", "in_order=0")),
            Case(f"{size}-notinorder", size, options=("in_order=0",)),
            Case(f"{size}-vector", size, options=("mrg_rxbuf=0", "vectorized=1")),
            Case(f"{size}-ring1024", size, in_flight=512, ring=1024),
            Case(f"{size}-few", size, in_flight=32),
        ]
    return rows


CASES = {case.name: case for case in (
    Case("64", 64, expected=(Expected(OVS, 2.0), Expected(IO, 1.3)), cycles=120, default=True),
    Case("256", 256, default=True),
    Case("1024", 1024, default=True),
    Case("1514", 1514, expected=(Expected(OVS, 2.0), Expected(IO, 1.6)), default=True),
    Case("256-oneway", 256, both_ways=False),
    Case("1024-oneway", 1024, both_ways=False),
    *_pairs(),
    Case("64-burst1", 64, both_ways=False, in_flight=1, burst=1, default=True),
    Case("64-1flow", 64, flows=1, default=True),
    Case("64-64flows", 64, flows=64, default=True),
    Case("64-4096flows", 64, expected=(Expected(OVS, 3.0),), flows=4096, default=True),
    Case("64-65536flows", 64, flows=65536, default=True),
)}
