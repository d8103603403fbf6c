# SPDX-License-Identifier: Apache-2.0
"""What other programs print, as the test bed reads it, and the tables it prints itself."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import cast

import pytest

from testbed import TestbedError
from testbed.guest import Guest
from testbed.kernel import decompress
from testbed.qemu import Network, Nic
from testbed.report import Report, format_table, wrap_words
from testbed.testpmd import Counters, parse_dropped, parse_stats
from testbed.traffic import Stream, parse_iperf, parse_ping, with_late_answers
from testbed.virtio import names

STATS = """
  ######################## NIC statistics for port 0  ########################
  RX-packets: 12         RX-missed: 3          RX-bytes:  768
  RX-errors: 0
  RX-nombuf:  0
  TX-packets: 40         TX-errors: 0          TX-bytes:  2560

  ######################## NIC statistics for port 1  ########################
  RX-packets: 40         RX-missed: 0          RX-bytes:  2560
  TX-packets: 12         TX-errors: 0          TX-bytes:  768
"""

STOPPED = """
  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 0              RX-dropped: 0             RX-total: 0
  TX-packets: 1490944        TX-dropped: 13001088      TX-total: 14492032
  ---------------------- Forward statistics for port 1  ----------------------
  RX-packets: 0              RX-dropped: 0             RX-total: 0
  TX-packets: 5              TX-dropped: 0             TX-total: 5
"""


def test_testpmd_counters() -> None:
    assert parse_stats(STATS) == {0: Counters(12, 768, 40, 2560, rx_missed=3),
                                  1: Counters(40, 2560, 12, 768)}
    assert parse_dropped(STOPPED) == {0: 13001088, 1: 0}


def test_ping_summary() -> None:
    ping = parse_ping("20 packets transmitted, 18 received, +1 duplicates, 10% packet loss\n"
                      "rtt min/avg/max/mdev = 0.943/2.834/19.756/4.250 ms")
    assert (ping.lost, ping.duplicates, ping.average) == (2, 1, 2.834)


def test_ping_without_any_answer() -> None:
    assert parse_ping("3 packets transmitted, 0 received, 100% packet loss, time 9ms").lost == 3


class Late:
    """A guest whose kernel counts one echo reply more each time it is asked, up to a number."""

    def __init__(self, first: int, last: int) -> None:
        self.count, self.last = first, last

    def must(self, _command: str) -> str:
        self.count = min(self.count + 1, self.last)
        return f"echo replies {self.count}\n"


@pytest.mark.parametrize(("last", "duplicates", "lost"), [(110, 0, 0), (108, 0, 2), (110, 1, 1)])
def test_ping_with_late_answers(
    monkeypatch: pytest.MonkeyPatch, last: int, duplicates: int, lost: int
) -> None:
    monkeypatch.setattr("testbed.traffic.LATE_SECONDS", 1.5)
    more = f"+{duplicates} duplicates, " if duplicates else ""
    said = f"echo replies 100\n10 packets transmitted, 7 received, {more}30% packet loss\n"
    ping = with_late_answers(cast(Guest, Late(107, last)), said)
    assert (ping.sent, ping.lost, ping.duplicates) == (10, lost, duplicates)


def test_ping_that_failed() -> None:
    with pytest.raises(TestbedError, match="unreachable"):
        parse_ping("ping: connect: Network is unreachable")


def test_iperf_summary() -> None:
    text = ('{"end": {"sum_sent": {"retransmits": 4},'
            ' "sum_received": {"bytes": 100, "bits_per_second": 80.5}}}')
    assert parse_iperf(text) == Stream(80.5, 100, 4)


@pytest.mark.parametrize("text", ['{"error": "unable to connect"}', "unable to connect"])
def test_iperf_failure_keeps_its_reason(text: str) -> None:
    with pytest.raises(TestbedError, match="unable to connect"):
        parse_iperf(text)


def test_kernel_is_found_behind_a_false_start() -> None:
    elf = b"\x7fELF" + b"kernel" * 100
    image = b"MZ\x1f\x8b\x08 not gzip" + lzma.compress(elf) + b"\0\0\0\0"
    assert decompress(image) == elf


def test_unknown_compression_is_said() -> None:
    with pytest.raises(TestbedError, match="compressed"):
        decompress(b"MZ" * 100)


def test_table_columns_line_up() -> None:
    lines = format_table(["name", "frames", "ms"], [["a", 1234567, 0.5], ["longer", 2, 12.25]])
    assert lines == ["  name       frames     ms",
                     "  a       1,234,567   0.50",
                     "  longer          2  12.25"]


def test_words_wrap() -> None:
    assert wrap_words(["aa", "bb", "cc"], 5) == ["aa bb", "cc"]


def test_no_control_characters_without_a_terminal() -> None:
    stream = io.StringIO()
    report = Report(stream)
    with report.stage("step") as stage:
        stage.note("now")
        stage.result = "fine"
    with pytest.raises(ValueError, match="no"), report.stage("bad"):
        raise ValueError("no")
    text = stream.getvalue()
    assert text.isprintable() or all(c == "\n" or c.isprintable() for c in text)
    assert [line.split()[0] for line in text.splitlines()] == ["ok", "FAILED"]


def test_feature_names() -> None:
    assert names(1 << 15 | 1 << 32 | 1 << 50) == ["mrg_rxbuf", "version_1", "bit50"]


def test_network_words() -> None:
    network = Network(ip="10.0.0.1/24", vlans=("5:10.5.0.1/24", "6"))
    assert network.words() == ["ip=10.0.0.1/24", "vlans=5:10.5.0.1/24,6"]


def test_multiqueue_needs_vectors() -> None:
    nic = Nic(Path("/run/x.sock"), "52:54:00:00:00:01", queues=2)
    assert "mq=on,vectors=6" in nic.device(0)
    assert "path=/run/x.sock" in nic.arguments(0)[1]
