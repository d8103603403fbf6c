# SPDX-License-Identifier: Apache-2.0
"""Traffic between guests, and what their own tools say about it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from testbed import TestbedError
from testbed.guest import Guest

PING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ping:
    """The summary of ping(8); times in milliseconds."""

    sent: int
    received: int
    duplicates: int
    minimum: float
    average: float
    maximum: float

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.sent - self.received


@dataclass(frozen=True, slots=True)
class Stream:
    """The summary of one iperf3 TCP stream."""

    bits_per_second: float
    received_bytes: int
    retransmits: int


def parse_ping(text: str) -> Ping:
    """Read the last lines of ping."""
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    if counts is None:
        raise TestbedError(f"ping said nothing understandable:\n{text.strip()}")
    duplicates = re.search(r"\+(\d+) duplicates", text)
    times = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", text)
    minimum, average, maximum = (float(word) for word in times.groups()) if times else (0.0,) * 3
    return Ping(int(counts[1]), int(counts[2]), int(duplicates[1]) if duplicates else 0,
                minimum, average, maximum)


def parse_iperf(text: str) -> Stream:
    """Read ``iperf3 -J`` of a TCP client."""
    try:
        data = json.loads(text)
        end = data["end"]
        return Stream(end["sum_received"]["bits_per_second"], end["sum_received"]["bytes"],
                      end["sum_sent"].get("retransmits", 0))
    except (ValueError, KeyError) as error:
        reason = json.loads(text).get("error") if text.lstrip().startswith("{") else text.strip()
        raise TestbedError(f"iperf3 failed: {reason}") from error


def ping(guest: Guest, address: str, count: int = 20, interval: float = 0.05,
         options: str = "") -> Ping:
    """Ping an address from a guest.  Loss is the caller's to judge."""
    result = guest.run(f"ping -q -c {count} -i {interval} -W 5 {options} {address}", PING_SECONDS)
    return parse_ping(result.output)


def stream(client: Guest, server: Guest, address: str, seconds: int = 3) -> Stream:
    """One TCP stream from ``client`` to ``server``."""
    server.spawn("iperf3 -s -1", "iperf")
    server.must("for i in $(seq 100); do ss=$(cat /proc/net/tcp6 /proc/net/tcp); "
                "case $ss in *:1451*) exit 0;; esac; sleep 0.1; done; exit 1")
    result = client.run(f"iperf3 -J -c {address} -t {seconds}", seconds + PING_SECONDS)
    summary = parse_iperf(result.output)
    server.collect("iperf")
    return summary


def interface_packets(guest: Guest, ifname: str = "eth0") -> tuple[int, int]:
    """Frames the guest's driver has sent and received."""
    text = guest.must(f"cd /sys/class/net/{ifname}/statistics; cat tx_packets rx_packets")
    sent, received = text.split()
    return int(sent), int(received)
