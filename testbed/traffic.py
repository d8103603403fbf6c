# SPDX-License-Identifier: Apache-2.0
"""Traffic between guests, and what their own tools say about it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace

from testbed import TestbedError
from testbed.guest import Guest

PING_SECONDS = 60.0
LATE_SECONDS = 10.0

# What the guest's kernel counts of echo replies, over IPv4 and IPv6.
ECHO_REPLIES = (
    "awk '$1 == \"Icmp:\" && c {n += $c} "
    "$1 == \"Icmp:\" && !c {for (i = 2; i <= NF; i++) if ($i == \"InEchoReps\") c = i} "
    "$1 == \"Icmp6InEchoReplies\" {n += $2} END {print \"echo replies\", n + 0}' "
    "/proc/net/snmp /proc/net/snmp6"
)


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
    command = ping_command(address, count, interval, options)
    return with_late_answers(guest, guest.run(command, PING_SECONDS).output)


def ping_command(address: str, count: int, interval: float, options: str = "") -> str:
    """For a guest's shell; its output is for with_late_answers()."""
    return f"{ECHO_REPLIES}; ping -q -c {count} -i {interval} -W 5 {options} {address}"


def with_late_answers(guest: Guest, text: str) -> Ping:
    """The summary, with the answers that came after ping had gone.

    If it got any answer, ping(8) waits for the last ones no longer than two round trips, which an
    emulated guest that stands still for a moment exceeds.  The guest's kernel counts them all the
    same.  One ping at a time, therefore, in a guest.
    """
    told = parse_ping(text)
    before = _echo_replies(text)
    deadline = time.monotonic() + LATE_SECONDS
    while 0 < told.received < told.sent and time.monotonic() < deadline:
        answers = _echo_replies(guest.must(ECHO_REPLIES)) - before - told.duplicates
        told = replace(told, received=max(told.received, min(told.sent, answers)))
        time.sleep(0.2)
    return told


def _echo_replies(text: str) -> int:
    found = re.search(r"^echo replies (\d+)", text, re.MULTILINE)
    if found is None:
        raise TestbedError(f"no count of echo replies:\n{text.strip()}")
    return int(found[1])


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
