# SPDX-License-Identifier: Apache-2.0
"""Where the echo packets of one ping were seen in a router's namespace.

    python -m tests.e2e.hops IDENTIFIER DEVICE ...

runs in there until it is killed, and prints a line for each: ``in request 17`` or ``out reply 17``,
with the sequence number.  A packet that came in and never went out is one that the router did not
forward; for every other one that is missing the switch has to account.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Iterable

READY = "ready"
ETH_P_ALL, ETH_P_IP = 3, 0x0800
PACKET_OUTGOING = 4
ICMP, REPLY, REQUEST = 1, 0, 8
BUFFER = 1 << 20  # bytes: a busy host may run us late


def echo(packet: bytes, identifier: int) -> tuple[str, int] | None:
    """Kind and sequence number of an IPv4 packet, if it is an echo of that ping."""
    start = (packet[0] & 15) * 4 if packet else 0
    if len(packet) < start + 8 or start < 20 or packet[9] != ICMP:
        return None
    kind, mine, sequence = struct.unpack_from("!B3xHH", packet, start)
    if mine != identifier or kind not in (REQUEST, REPLY):
        return None
    return ("request" if kind == REQUEST else "reply"), sequence


def not_forwarded(seen: Iterable[str], missing: Iterable[int]) -> set[int]:
    """Which of these sequence numbers ended between two devices of the router, either way."""
    lines = set(seen)
    return {number for number in missing
            if any(f"in {kind} {number}" in lines and f"out {kind} {number}" not in lines
                   for kind in ("request", "reply"))}  # fmt: skip


def main() -> None:
    """Watch until killed."""
    identifier = int(sys.argv[1])
    watched = []
    for device in sys.argv[2:]:
        # Only a socket for all protocols gets what goes out as well.
        one = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        one.bind((device, ETH_P_ALL))
        watched.append(one)
    print(READY, flush=True)
    while True:
        for one in select.select(watched, [], [])[0]:
            packet, (_, protocol, kind, *_) = one.recvfrom(2048)
            if protocol == ETH_P_IP and (found := echo(packet, identifier)):
                way = "out" if kind == PACKET_OUTGOING else "in"
                print(way, *found, flush=True)


if __name__ == "__main__":
    main()
