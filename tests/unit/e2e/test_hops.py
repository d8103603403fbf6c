# SPDX-License-Identifier: Apache-2.0
"""tests/e2e/hops.py: who lost an echo packet, the router or the switch."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.packet import Raw

from tests.e2e.hops import echo, not_forwarded

ID = 4711


@pytest.mark.parametrize("options", [[], [IPOption(b"\x01" * 8)]], ids=["plain", "options"])
@pytest.mark.parametrize(("kind", "name"), [(8, "request"), (0, "reply")])
def test_an_echo_of_the_ping_is_known(kind: int, name: str, options: list[IPOption]) -> None:
    packet = bytes(IP(options=options) / ICMP(type=kind, id=ID, seq=300) / Raw(b"x" * 56))
    assert echo(packet, ID) == (name, 300)
    for length in range(len(packet) - 56):
        assert echo(packet[:length], ID) is None, "cut short"


@pytest.mark.parametrize("packet", [
    IP() / ICMP(type=8, id=ID + 1, seq=1), IP() / ICMP(type=3, id=ID, seq=1),
    IP() / UDP(sport=8, dport=ID) / Raw(b"x" * 8),
])  # fmt: skip
def test_other_packets_are_not(packet: IP) -> None:
    assert echo(bytes(packet), ID) is None


def all_four(number: int) -> list[str]:
    return [f"{way} {kind} {number}" for kind in ("request", "reply") for way in ("in", "out")]


@pytest.mark.parametrize(("gone", "router"), [
    ((), False),  # lost behind the router, on the way back
    (("out reply",), True),
    (("in reply", "out reply"), False),  # behind it, on the way there
    (("out request", "in reply", "out reply"), True),
    (("in request", "out request", "in reply", "out reply"), False),  # before it
])  # fmt: skip
def test_a_missing_packet_is_the_routers_if_it_came_in_and_did_not_go_out(
    gone: tuple[str, ...], router: bool
) -> None:
    seen = [*all_four(1), *(line for line in all_four(17) if line.rsplit(" ", 1)[0] not in gone)]
    assert not_forwarded(seen, [17]) == ({17} if router else set())
    assert not not_forwarded(seen, []), "what is not missing is nobody's"
