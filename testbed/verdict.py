# SPDX-License-Identifier: Apache-2.0
"""Did every frame arrive?  Two independent sets of counters have to agree.

The guests' drivers count what they sent and received, the switch counts what came in, what went out
and what it dropped, by reason.  Over an interval, for each direction of two ports in one segment:

    sent by A == in at A,    in at A == out at B + dropped,    out at B == received by B

Pings must lose nothing.  TCP fills rings until something gives, that is how it finds its rate: only
there a full ring is no fault, yet each such frame has to appear under that name.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from testbed.daemons import Switch
from testbed.guest import Guest
from testbed.report import Report, wrap_words
from testbed.traffic import Ping, interface_packets
from testbed.virtio import names
from vif_uswitch.api.names import PROTOCOL_FEATURES, bits

SETTLE_SECONDS = 10.0
FEATURE_WIDTH = 76
CONGESTION = frozenset({"ring_full"})


@dataclass(frozen=True, slots=True)
class PortCount:
    """One guest and its port; ``dropped`` is keyed by (direction, reason)."""

    guest_sent: int
    guest_received: int
    switch_in: int
    switch_out: int
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def minus(self, earlier: PortCount) -> PortCount:
        """The difference over an interval."""
        dropped = Counter(self.dropped)
        dropped.subtract(earlier.dropped)
        return PortCount(
            self.guest_sent - earlier.guest_sent, self.guest_received - earlier.guest_received,
            self.switch_in - earlier.switch_in, self.switch_out - earlier.switch_out,
            {key: count for key, count in dropped.items() if count})


Difference = dict[str, PortCount]


def read(switch: Switch, guests: Iterable[Guest]) -> Difference:
    """All counters, the guests' first."""
    packets = {guest.name: interface_packets(guest) for guest in guests}
    dropped: dict[str, dict[tuple[str, str], int]] = {name: {} for name in packets}
    for port, direction, reason, frames in switch.drops():
        if port in dropped:
            dropped[port][direction, reason] = frames
    stats = {entry["port"]: entry for entry in switch.call("stats")}
    return {name: PortCount(sent, received, stats[name]["incoming"]["frames"],
                            stats[name]["outgoing"]["frames"], dropped[name])
            for name, (sent, received) in packets.items()}


def settled(switch: Switch, guests: Sequence[Guest]) -> Difference:
    """Counters at a moment when nothing is under way: two readings that agree."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last = read(switch, guests)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = read(switch, guests)
        if now == last:
            break
        last = now
    return last


def difference(earlier: Difference, later: Difference) -> Difference:
    """What happened between two readings."""
    return {name: later[name].minus(earlier[name]) for name in later}


def balance(counts: Difference, tolerated: frozenset[str] = frozenset()) -> list[str]:
    """What does not add up between exactly two ports."""
    found = []
    for a, b in (tuple(counts), tuple(reversed(counts))):
        source, target = counts[a], counts[b]
        lost_in = sum(n for (way, _), n in source.dropped.items() if way == "in")
        lost_out = sum(n for (way, _), n in target.dropped.items() if way == "out")
        if source.guest_sent != source.switch_in:
            found.append(f"{a} sent {source.guest_sent} frames, the switch took "
                         f"{source.switch_in} from it")
        if source.switch_in != target.switch_out + lost_in + lost_out:
            found.append(f"of {source.switch_in} frames from {a} {target.switch_out} went to {b} "
                         f"and {lost_in + lost_out} were dropped: the sum is wrong")
        if target.guest_received != target.switch_out:
            found.append(f"the switch gave {target.switch_out} frames to {b}, which received "
                         f"{target.guest_received}")
        found += [f"{count} frames dropped at {a}, {way}: {reason}"
                  for (way, reason), count in source.dropped.items() if reason not in tolerated]
    return found


def faults(pings: Mapping[str, Ping], quiet: Difference, loaded: Difference) -> list[str]:
    """All that went wrong, in words."""
    found = [f"{title}: {ping.lost} of {ping.sent} lost" for title, ping in pings.items()
             if ping.lost or not ping.sent]
    found += [f"{title}: {ping.duplicates} duplicates" for title, ping in pings.items()
              if ping.duplicates]
    found += [f"during ping: {text}" for text in balance(quiet)]
    found += [f"during TCP: {text}" for text in balance(loaded, CONGESTION)]
    return found


def show_frames(report: Report, phases: Iterable[tuple[str, Difference]]) -> None:
    """The counters as a table."""
    rows: list[list[object]] = []
    for phase, counts in phases:
        for name, count in counts.items():
            dropped = ", ".join(f"{reason} ({way}) {n}"
                                for (way, reason), n in sorted(count.dropped.items()))
            rows.append([phase, name, count.guest_sent, count.switch_in, count.switch_out,
                         count.guest_received, dropped or "none"])
    report.table(["during", "port", "guest sent", "switch in", "switch out", "guest received",
                  "dropped"], rows)


def show_features(report: Report, name: str, detail: Mapping[str, object]) -> None:
    """What a port negotiated, by name: with the guest's driver, and with QEMU."""
    protocol = bits(int(str(detail["protocol_features"]), 16), PROTOCOL_FEATURES)
    for title, words in (("virtio", names(int(str(detail["virtio_features"]), 16))),
                         ("vhost-user", [word.lower() for word in protocol])):
        label = f"{name} {title}"
        for line in wrap_words(words, FEATURE_WIDTH):
            report.line(f"  {label:<14} {line}")
            label = ""
