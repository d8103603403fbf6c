# SPDX-License-Identifier: Apache-2.0
"""Pings that run while something happens, and what they have lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.cloud.service import Service, wait
from tests.e2e.hops import READY, not_forwarded
from tests.e2e.report import need
from tests.e2e.tenant import Tenant

INTERVAL_S = 0.1
IDENTIFIER = 4711  # of the echo packets, so that the router's watcher knows them
# Echo replies that came, the highest sequence number among them, those that came twice, and the
# numbers below the highest without a reply.
COUNT = (r"""awk -F'icmp_seq=' '/DUP/ {d++; next} """
         r"""/bytes from/ {split($2, a, " "); i = a[1]+0; n++; s[i]; if (i > m) m = i} """
         r"""END {print n+0, m+0, d+0; for (i = 1; i < m; i++) if (!(i in s)) print i}' """
         )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Path:
    """From one guest to another, and what that proves."""

    first: str
    second: str
    what: str
    routed: bool = False


PATHS = (Path("red1", "red2", "in a host"), Path("blue1", "blue2", "over the cable"),
         Path("red2", "blue2", "over the router", routed=True))  # fmt: skip


@dataclass(slots=True)
class Losses:
    """Filled in when the pings are stopped: lost of sent, for each path."""

    sent: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    not_forwarded: int = 0  # of those that were lost: the router got them and sent nothing on

    def __str__(self) -> str:
        text = "lost " + ", ".join(f"{self.lost[what]} of {self.sent[what]} {what}"
                                   for what in self.sent)  # fmt: skip
        return text + (f" ({self.not_forwarded} in the router)" if self.not_forwarded else "")

    @property
    def any(self) -> int:
        """How many are missing."""
        return sum(self.lost.values())

    @property
    def by_switch(self) -> int:
        """How many of them no router is to blame for."""
        return self.any - self.not_forwarded


@contextmanager
def pings(tenant: Tenant, paths: tuple[Path, ...] = PATHS) -> Iterator[Losses]:
    """Pings along these paths while the body runs; each must be answered again afterwards."""
    watcher = _watcher(tenant)
    try:
        for path in paths:
            guest, address = tenant.guests[path.first], tenant.address(path.second)
            guest.until(f"ping -c 1 -W 2 {address}")
            guest.must(f"ping -e {IDENTIFIER} -i {INTERVAL_S} {address} "
                       "> /tmp/flow 2>&1 & echo $! > /tmp/flow.pid")  # fmt: skip
        losses = Losses()
        yield losses
        for path in paths:
            guest = tenant.guests[path.first]
            guest.until(f"ping -c 1 -W 2 {tenant.address(path.second)}", 120)
        for path in paths:
            _count(tenant, path, losses, watcher)
    finally:
        watcher.kill()


def _count(tenant: Tenant, path: Path, losses: Losses, watcher: Service) -> None:
    """Stop one of them."""
    guest = tenant.guests[path.first]
    # One more answer to the running ping itself, so that a gap at the end counts as well.
    guest.until(f"set -- $({COUNT} /tmp/flow); sleep 1; n=$1; set -- $({COUNT} /tmp/flow); "
                "[ $1 -gt $n ]")  # fmt: skip
    guest.must("kill -INT $(cat /tmp/flow.pid)")
    came, highest, twice, *missing = map(int, guest.must(COUNT + "/tmp/flow").split())
    need(came, f"no answer to {path.first} at all")
    need(not twice, f"{twice} answers came twice to {path.first}")
    losses.sent[path.what] = highest
    losses.lost[path.what] = highest - came
    if path.routed:
        seen = watcher.log.read_text().splitlines()
        losses.not_forwarded += len(not_forwarded(seen, missing))


def _watcher(tenant: Tenant) -> Service:
    """Of the router's devices, on the network node."""
    host = tenant.cloud.nodes[0].host
    namespace = f"qrouter-{tenant.router.id}"
    links = host.netns(namespace, "ip", "-o", "link").splitlines()
    devices = [name for line in links if (name := line.split(": ")[1]).startswith("qr-")]
    log = host.logs / "hops.log"
    log.unlink(missing_ok=True)
    watcher = Service("the router's watcher",
                      [sys.executable, "-m", "tests.e2e.hops", str(IDENTIFIER), *devices], log,
                      within=[*host.within, "ip", "netns", "exec", namespace],
                      environment=tenant.cloud.place.search_path)  # fmt: skip
    watcher.start()
    wait("the router's watcher", lambda: READY in log.read_text(), 30, [watcher])
    return watcher
