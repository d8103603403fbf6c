# SPDX-License-Identifier: Apache-2.0
"""Frames between the wire and ports of the switch, through each driver for VFIO."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Iterator

import pytest

from testbed.echo import checksum
from testbed.vfio_guest import Nested
from testbed.wire import Wire

from .conftest import INSIDE, QUEUES, VID, Lab, Switch, Uplink, added, joined
from .frames import tcp_segments

JUMBO = 9000
STREAM = 1 << 20
GUEST, FAR = bytes.fromhex("525400000301"), bytes.fromhex("525400000401")
# Each way: a million in all for the igb.  The virtio rings turn over some hundred times.
FRAMES = {"igb": 500_000, "virtio": 25_000}
IN_FLIGHT = 96  # fewer than any ring between the wire and the guest holds: nobody has to drop one
FLOWS = 64


@pytest.fixture(scope="module", params=["igb", "virtio", "virtio-packed"])
def uplink(request: pytest.FixtureRequest, lab: Lab, switch: Switch) -> Iterator[Uplink]:
    """One adapter after the other; only the igb has several queues on such a cable."""
    queues = QUEUES if request.param == "igb" else 1
    with added(lab, switch, lab.cards[request.param], queues=queues) as one:
        yield one


def test_link_and_identity(host: Nested, uplink: Uplink) -> None:
    """The adapter is the one that QEMU has: driver, address, link."""
    adapter = uplink.show()["adapter"]
    assert adapter["mac"] == uplink.card.mac
    assert adapter["link_up"]
    assert adapter["device_id"] == {"igb": "8086:10c9", "virtio": "1af4:1041"}[uplink.card.model]


def test_virtio_features(lab: Lab, host: Nested, uplink: Uplink) -> None:
    """What QEMU says was agreed on: by way of the IOMMU, and the ring's layout."""
    if uplink.card.model != "virtio":
        pytest.skip("no virtio device")
    device = f"/machine/peripheral/nic{uplink.card.slot}/virtio-backend"
    agreed = host.qmp.command("x-query-virtio-status", path=device)["guest-features"]["transports"]
    names = {line.partition(":")[0] for line in agreed}
    assert {"VIRTIO_F_VERSION_1", "VIRTIO_F_IOMMU_PLATFORM"} <= names
    assert ("VIRTIO_F_RING_PACKED" in names) == (uplink.card is lab.cards["virtio-packed"])


def test_untagged(host: Nested, uplink: Uplink) -> None:
    """Ping and TCP both ways between kernels that know nothing of the switch."""
    with joined(uplink) as both:
        both.ping()
        both.stream(STREAM)


def test_tagged(host: Nested, uplink: Uplink) -> None:
    """The same in a VLAN of the wire; inside, frames of the segment have no tag."""
    with joined(uplink, vid=VID) as both:
        both.ping()
        both.stream(STREAM // 4)


def test_jumbo(host: Nested, uplink: Uplink) -> None:
    """Frames of 9000 bytes go through whole."""
    with joined(uplink, mtu=JUMBO) as both:
        both.ping(size=JUMBO - 28)
        both.stream(STREAM)


def test_segmentation_and_checksums(lab: Lab, host: Nested, uplink: Uplink) -> None:
    """What leaves is checked by the capture: sizes, checksums, every byte of the stream.

    The igb segments itself.  A virtio device on a dgram cable offers nothing: the switch does it.
    """
    capture = lab.directory / f"tso-{uplink.card.slot}.pcap"
    with joined(uplink) as both:
        before = uplink.show()
        with host.capture(uplink.card.slot, capture):
            sent = both.stream_out(STREAM)
        after = uplink.show()
    grown = {name: after["outgoing"][name] - before["outgoing"][name]
             for name in ("gso", "gso_fixed")}
    segmented = {name: after["adapter"]["counters"][name] - count
                 for name, count in before["adapter"]["counters"].items() if name == "tx_tso"}
    if uplink.card.model == "igb":
        assert grown["gso"] > 0 == grown["gso_fixed"], grown
    else:
        assert grown["gso_fixed"] > 0 == segmented["tx_tso"], (grown, segmented)
    segments = list(tcp_segments(capture, INSIDE))
    assert all(segment.sums_are_right for segment in segments)
    assert max(segment.length for segment in segments) == 1514
    first = segments[0].sequence + 1
    arrived = bytearray(STREAM)
    for segment in segments:
        if segment.payload:
            at = (segment.sequence - first) % (1 << 32)
            arrived[at:at + len(segment.payload)] = segment.payload
    assert hashlib.sha256(arrived).hexdigest() == sent


def test_flows_spread_over_queues(host: Nested, uplink: Uplink) -> None:
    """RSS: frames of many flows arrive by each queue, each flow by one, and none is lost."""
    queues = uplink.show()["adapter"]["queues"]
    if queues < 2:
        pytest.skip("QEMU's dgram cable has one pair of queues: RSS is for the igb")
    before = uplink.switch.per_queue(uplink.name)
    for number in range(FLOWS):
        for _ in range(4):
            uplink.card.wire.send(_datagram(number))
    uplink.settled()
    after = uplink.switch.per_queue(uplink.name)
    grown = {queue: frames - before.get(queue, 0) for queue, frames in after.items()}
    assert sum(grown.values()) == 4 * FLOWS
    assert len([frames for frames in grown.values() if frames]) == queues, grown
    assert all(frames % 4 == 0 for frames in grown.values()), f"a flow took two queues: {grown}"


def test_a_million_frames(host: Nested, uplink: Uplink) -> None:
    """Half a million each way between wire and a guest behind vhost-user: none lost or doubled.

    The guest (DPDK's driver) sends back what it gets, and so does the wire, until all have passed.
    For virtio devices they are fewer.
    """
    count = FRAMES[uplink.card.model]
    name = f"guest-{uplink.card.slot}"
    uplink.switch.do("start_guest", name=name, segment="red", mac=GUEST.hex(":"))
    echo_all(uplink, name, count)


def test_cable_pulled(host: Nested, uplink: Uplink) -> None:
    """The link goes down and comes back; traffic goes on."""
    with joined(uplink) as both:
        both.ping()
        host.set_link(uplink.card.slot, up=False)
        try:
            uplink.wait("waiting")
        finally:
            host.set_link(uplink.card.slot, up=True)
        uplink.wait("up")
        both.ping()
    assert uplink.show()["adapter"]["link_changes"] >= 2


def echo_all(uplink: Uplink, guest: str, count: int, size: int = 60, timeout: float = 200) -> None:
    """So many frames each way between the wire and a guest that runs; it is gone afterwards.

    Wire, guest and uplink must have counted the same, and no byte may have changed.
    """
    before = uplink.settled()["uplink"]
    echo = Echo(uplink.card.wire, count, size)
    uplink.card.wire.connect(echo)
    try:
        echo.begin()
        assert echo.done.wait(timeout), f"{echo.received} of {count} came back"
        after = uplink.settled()
    finally:
        uplink.card.wire.disconnect(echo)
        counted = uplink.switch.do("stop_guest", name=guest)
    assert (echo.sent, echo.received, echo.damaged) == (count, count, 0)
    assert counted == {"received": count, "sent": count, "dropped": 0}
    grown = [after["uplink"][way]["frames"] - before[way]["frames"]
             for way in ("incoming", "outgoing")]
    assert grown == [count, count], after["drops"]


class Echo:
    """The far end of the cable: sends everything back, with the addresses exchanged.

    Frames of ``size`` bytes, each of those that are under way with bytes of its own.
    """

    def __init__(self, wire: Wire, count: int, size: int = 60) -> None:
        self.sent = self.received = self.damaged = 0
        self.done = threading.Event()
        self._wire, self._count = wire, count
        self._behind_addresses = {
            b"\x88\xb5" + bytes((number + at * 7) % 251 for at in range(size - 14))
            for number in range(min(IN_FLIGHT, count))}  # fmt: skip

    def begin(self) -> None:
        """Put the frames on their way."""
        self.sent = len(self._behind_addresses)
        for rest in tuple(self._behind_addresses):
            self._wire.send(GUEST + FAR + rest)

    def __call__(self, frame: bytes) -> None:
        if frame[:6] != FAR:
            return
        self.received += 1
        self.damaged += frame[12:] not in self._behind_addresses
        if self.sent < self._count:
            self.sent += 1
            self._wire.send(frame[6:12] + frame[:6] + frame[12:])
        elif self.received == self._count:
            self.done.set()


def _datagram(flow: int) -> bytes:
    """UDP of its own address and port, to somebody the switch does not know."""
    payload = b"flow %d" % flow
    udp = struct.pack("!HHHH", 1000 + flow, 4000 + flow, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                       bytes([10, 8, 0, 1 + flow]), bytes([10, 8, 1, 1 + flow]))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return (bytes.fromhex("5254000005ff") + FAR + b"\x08\x00" + head + udp).ljust(60, b"\0")
