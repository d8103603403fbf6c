# SPDX-License-Identifier: Apache-2.0
"""What the independent side says about frames: QEMU's capture of a cable, read by scapy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment as it was on the wire."""

    length: int  # of the frame
    sequence: int
    payload: bytes
    sums_are_right: bool


def tcp_segments(path: Path, source: str) -> Iterator[Segment]:
    """Segments that one address sent, in the order of the wire."""
    for raw, _ in RawPcapReader(str(path)):
        frame = Ether(raw)
        if IP not in frame or TCP not in frame or frame[IP].src != source:
            continue
        ip = frame[IP]
        size = ip.len - 4 * ip.ihl - 4 * ip[TCP].dataofs
        again = IP(bytes(ip)[:ip.len])
        found = again.chksum, again[TCP].chksum
        del again.chksum, again[TCP].chksum
        right = IP(bytes(again))
        yield Segment(len(raw), ip[TCP].seq, bytes(ip[TCP].payload)[:size],
                      found == (right.chksum, right[TCP].chksum))
