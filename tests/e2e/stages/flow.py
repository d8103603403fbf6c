# SPDX-License-Identifier: Apache-2.0
"""Pings that run while something happens, and what they have lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.report import need
from tests.e2e.tenant import Tenant

INTERVAL_S = 0.1
# Echo replies that came, the highest sequence number among them, those that came twice.
COUNT = (r"""awk -F'icmp_seq=' '/DUP/ {d++; next} /bytes from/ {split($2, a, " "); n++; """
         r"""if (a[1]+0 > m) m = a[1]+0} END {print n+0, m+0, d+0}' """)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Path:
    """From one guest to another, and what that proves."""

    first: str
    second: str
    what: str


PATHS = (Path("red1", "red2", "in a host"), Path("blue1", "blue2", "over the cable"),
         Path("red2", "blue2", "over the router"))  # fmt: skip


@dataclass(slots=True)
class Losses:
    """Filled in when the pings are stopped: lost of sent, for each path."""

    sent: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "lost " + ", ".join(f"{self.lost[what]} of {self.sent[what]} {what}"
                                   for what in self.sent)  # fmt: skip

    @property
    def any(self) -> bool:
        """Whether a single one is missing."""
        return any(self.lost.values())


@contextmanager
def pings(tenant: Tenant, paths: tuple[Path, ...] = PATHS) -> Iterator[Losses]:
    """Pings along these paths while the body runs; each must be answered again afterwards."""
    for path in paths:
        guest, address = tenant.guests[path.first], tenant.address(path.second)
        guest.until(f"ping -c 1 -W 2 {address}")
        guest.must(f"ping -i {INTERVAL_S} {address} > /tmp/flow 2>&1 & echo $! > /tmp/flow.pid")
    losses = Losses()
    yield losses
    for path in paths:
        guest = tenant.guests[path.first]
        guest.until(f"ping -c 1 -W 2 {tenant.address(path.second)}", 120)
    for path in paths:
        guest = tenant.guests[path.first]
        # One more answer to the running ping itself, so that a gap at the end counts as well.
        guest.until(f"set -- $({COUNT} /tmp/flow); sleep 1; n=$1; set -- $({COUNT} /tmp/flow); "
                    "[ $1 -gt $n ]")  # fmt: skip
        guest.must("kill -INT $(cat /tmp/flow.pid)")
        came, highest, twice = map(int, guest.must(COUNT + "/tmp/flow").split())
        need(came, f"no answer to {path.first} at all")
        need(not twice, f"{twice} answers came twice to {path.first}")
        losses.sent[path.what] = highest
        losses.lost[path.what] = highest - came
