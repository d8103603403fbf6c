# SPDX-License-Identifier: Apache-2.0
"""Frames for a guarded port, made by scapy: honest ones, every lie, then some bytes changed."""

from __future__ import annotations

import random
from collections.abc import Callable

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

MACS = ["02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c", "02:00:00:00:00:0d"]
IPV4 = ["10.0.0.5", "10.0.0.6", "10.1.7.7", "10.2.0.1", "0.0.0.0", "255.255.255.255", "192.0.2.1"]
IPV6_ADDRESSES = ["fe80::a", "fe80::b", "2001:db8:1::9", "2001:db8:2::9", "::", "ff02::1", "::1"]
TARGETS = ["ff02::1", "ff02::16", "ff02::1:ff00:9", "2001:db8:1::1", "fe80::1"]


class Drawer:
    """Draws frames; one seed, one row of them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._kinds: list[Callable[[], Packet]] = [
            self.arp, self.rarp, self.ipv4, self.ipv4, self.dhcp, self.fragment4, self.ipv6,
            self.neighbor, self.neighbor, self.router, self.mld, self.extensions, self.fragment6,
            self.other,
        ]  # fmt: skip

    def frames(self, spoilt: int) -> list[bytes]:
        """One frame as scapy writes it, and versions of it with something changed."""
        kind = self.rng.choice(self._kinds)
        data = bytes(self.ethernet() / kind())
        if kind == self.rarp:
            data = data[:12] + b"\x80\x35" + data[14:]
        return [data, *(self.spoil(data) for _ in range(spoilt))]

    def spoil(self, data: bytes) -> bytes:
        rng, out = self.rng, bytearray(data)
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(6, min(len(out), 130))
            out[at] = rng.choice((0, 1, 255, rng.randrange(256), out[at] ^ 1 << rng.randrange(8)))
        if rng.random() < 0.4:
            del out[rng.randrange(14, len(out) + 1) :]
        if rng.random() < 0.2:
            out += rng.randbytes(rng.choice((1, 8, 40)))
        out[6] &= 0xFE  # no group address, and not zero: that is not the guard's
        out[7] |= 0 if any(out[6:12]) else 1
        return bytes(out)

    def mac(self) -> str:
        return self.rng.choices(MACS, (12, 3, 2, 1))[0]

    def ip(self) -> str:
        return self.rng.choices(IPV4, (12, 3, 4, 1, 3, 1, 1))[0]

    def ip6(self) -> str:
        return self.rng.choices(IPV6_ADDRESSES, (9, 2, 6, 1, 4, 1, 1))[0]

    def ethernet(self) -> Packet:
        return Ether(dst="02:00:00:00:00:77", src=self.mac())

    def payload(self) -> Packet:
        return Raw(self.rng.randbytes(self.rng.choice((0, 3, 4, 8, 18, 60, 200, 1000))))

    # ---- IPv4 ----

    def arp(self) -> Packet:
        operation = self.rng.choice((1, 1, 2, 2, 3))
        return ARP(op=operation, hwsrc=self.mac(), psrc=self.ip(), pdst="10.0.0.1")

    def rarp(self) -> Packet:
        return ARP(op=3, hwsrc=self.mac(), psrc="0.0.0.0", pdst="0.0.0.0")

    def ipv4(self) -> Packet:
        options = self.rng.choice(([], [], [], [IPOption_Router_Alert()], [IPOption_NOP()] * 37))
        up = self.rng.choice((
            TCP(dport=80), UDP(sport=5000, dport=53), UDP(sport=67, dport=68), ICMP(),
            UDP(sport=68, dport=67), UDP(sport=67, dport=67), UDP(sport=9999, dport=68),
        ))  # fmt: skip
        return IP(src=self.ip(), dst="10.9.9.9", options=options) / up / self.payload()

    def dhcp(self) -> Packet:
        source = self.rng.choice(("0.0.0.0", self.ip()))
        sport, dport = self.rng.choice(((68, 67), (68, 67), (67, 68), (68, 68), (9999, 68)))
        options = [("message-type", "discover"), "end"]
        packet = IP(src=source, dst="255.255.255.255") / UDP(sport=sport, dport=dport)
        return packet / BOOTP() / DHCP(options=options)

    def fragment4(self) -> Packet:
        packet = self.ipv4()
        packet[IP].flags = self.rng.choice(("MF", "MF", 0))
        packet[IP].frag = self.rng.choice((0, 0, 1, 185))
        if self.rng.random() < 0.3:
            packet[IP].len = self.rng.choice((20, 24, 27, 28, 60))
        return packet

    # ---- IPv6 ----

    def header6(self, hops: int = 64) -> Packet:
        return IPv6(src=self.ip6(), dst=self.rng.choice(TARGETS), hlim=hops)

    def ipv6(self) -> Packet:
        up = self.rng.choice((
            TCP(dport=80), UDP(sport=5000, dport=53), UDP(sport=547, dport=546),
            UDP(sport=546, dport=547), UDP(sport=9999, dport=546), ICMPv6EchoRequest(),
        ))  # fmt: skip
        return self.header6() / up / self.payload()

    def option(self) -> Packet:
        return self.rng.choice((
            ICMPv6NDOptSrcLLAddr(lladdr=self.mac()), ICMPv6NDOptDstLLAddr(lladdr=self.mac()),
            ICMPv6NDOptMTU(), ICMPv6NDOptUnknown(type=14, len=1, data=b"nonce!"),
            ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::"),
        ))  # fmt: skip

    def options(self, packet: Packet) -> Packet:
        for _ in range(self.rng.choice((0, 1, 1, 1, 2, 5))):
            packet = packet / self.option()
        return packet

    def neighbor(self) -> Packet:
        target = self.ip6()
        message = self.rng.choice((ICMPv6ND_NS(tgt=target), ICMPv6ND_NA(tgt=target)))
        return self.options(self.header6(self.rng.choice((255, 255, 255, 255, 64))) / message)

    def router(self) -> Packet:
        message = self.rng.choice((ICMPv6ND_RS(), ICMPv6ND_RA(), ICMPv6ND_Redirect()))
        return self.options(self.header6(255) / message)

    def mld(self) -> Packet:
        alert = IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN()])
        return self.header6(1) / alert / ICMPv6MLReport2() / self.payload()

    def upper(self) -> Packet:
        return self.rng.choice((
            TCP(dport=80), UDP(sport=547, dport=546), UDP(sport=1, dport=2), ICMPv6EchoRequest(),
            ICMPv6ND_NA(tgt=self.ip6()), ICMPv6ND_RA(), ICMPv6ND_NS(tgt=self.ip6()),
        ))  # fmt: skip

    def extensions(self) -> Packet:
        packet = self.header6(self.rng.choice((64, 255)))
        for _ in range(self.rng.choice((1, 1, 2, 3, 9))):
            packet = packet / self.rng.choice((
                IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(),
                IPv6ExtHdrDestOpt(options=[PadN(optdata=b"x" * 20)]),
                IPv6ExtHdrRouting(addresses=self.rng.choice(([], ["2001:db8::1"]))),
                AH(spi=1, seq=1, icv=b"x" * 12), AH(spi=1, seq=1, icv=b"x" * 4),
            ))  # fmt: skip
        return packet / self.upper() / self.payload()

    def fragment6(self) -> Packet:
        packet = self.header6(self.rng.choice((64, 255)))
        if self.rng.random() < 0.3:
            packet = packet / IPv6ExtHdrDestOpt()
        offset = self.rng.choice((0, 0, 0, 1, 8, 15, 16, 150))
        packet = packet / IPv6ExtHdrFragment(offset=offset, m=self.rng.randrange(2), id=7)
        if self.rng.random() < 0.2:
            packet = packet / self.rng.choice((IPv6ExtHdrFragment(), IPv6ExtHdrDestOpt()))
        packet = packet / self.upper() / self.payload()
        if self.rng.random() < 0.3:
            packet[IPv6].plen = self.rng.choice((0, 8, 12, 15, 16, 24, 40))
        return packet

    def other(self) -> Packet:
        tagged: Packet = Dot1Q(vlan=7, type=0x8100)
        tagged = tagged / Dot1Q(vlan=9) / IP(src="10.0.0.5") / UDP()
        return self.rng.choice((tagged, Raw(b"\xaa\xaa\3\0\0\0\x08\0" + bytes(60))))
