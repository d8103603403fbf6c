# SPDX-License-Identifier: Apache-2.0
"""A second, independent virtio driver: DPDK's, against the switch, ten million frames.

One dpdk-testpmd plays two guests.  For each way its driver can work, three loads:

1. and 2., one in each direction: frames with random contents enter from a capture file, circulate
   between the two ports through the switch some hundred thousand times, and leave into another
   capture file.  They must come out byte for byte as they went in, and in their order: a single
   frame lost, doubled, overtaken or altered on any of its ways would show.
3. both directions at once, counted: exactly as many frames must be in circulation afterwards as
   were put into it.

Never are more frames on their way than a ring holds, so nobody has a reason to drop one, and in
the end three accounts must agree to the frame and byte: what the driver sent, what the switch took
and delivered, what the driver received.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.testpmd import PROGRAM, Counters, Pcap, Settings, Testpmd, VirtioUser

from .conftest import Lab, mac

TOTAL = 10_000_000
MACS = (mac(0xD00), mac(0xD01))
F_MRG_RXBUF, F_INDIRECT, F_IN_ORDER, F_VERSION_1 = (1 << bit for bit in (15, 28, 35, 32))
F_RING_PACKED = 1 << 34
PATIENCE = 60.0
BURST = 32


@dataclass(frozen=True, slots=True)
class Case:
    """One way to drive the rings.

    ``path`` is what the driver says about its receive function ("" where that depends on whether
    the switch offers IN_ORDER); ``mbuf`` is the size of its buffers: small ones make a frame need
    several, in both directions (of up to seven pieces the driver makes an indirect chain, of more
    a direct one).
    """

    name: str
    options: tuple[str, ...] = ()
    path: str = "standard Rx path"
    ring: int = 256
    listen: bool = False
    mbuf: int = 0
    frames: int = 128
    mergeable: bool = True


CASES = [
    Case("defaults", path=""),
    Case("mergeable", ("in_order=0",), "mergeable buffer Rx path"),
    Case("plain", ("mrg_rxbuf=0", "in_order=0"), mergeable=False),
    Case("plain-inorder", ("mrg_rxbuf=0",), "", mergeable=False),
    Case(
        "vectorised",
        ("mrg_rxbuf=0", "in_order=0", "vectorized=1"),
        "vectorized Rx path",
        mergeable=False,
    ),
    Case("ring-1024", ("in_order=0",), "mergeable buffer Rx path", ring=1024, frames=512),
    Case("ring-1024-plain", ("mrg_rxbuf=0", "in_order=0"), ring=1024, frames=512, mergeable=False),
    Case("listening", ("in_order=0",), "mergeable buffer Rx path", listen=True),
    Case("listening-plain", ("mrg_rxbuf=0", "in_order=0"), listen=True, mergeable=False),
    Case("indirect-chains", ("in_order=0",), "mergeable buffer Rx path", mbuf=512, frames=32),
    Case("packed", ("packed_vq=1", "in_order=0"), "packed ring mergeable buffer Rx path"),
    Case("packed-inorder", ("packed_vq=1",), "packed ring mergeable buffer Rx path"),
    Case(
        "packed-plain",
        ("packed_vq=1", "mrg_rxbuf=0", "in_order=0"),
        "packed ring standard Rx path",
        mergeable=False,
    ),
    Case(
        "packed-chains",
        ("packed_vq=1", "in_order=0"),
        "packed ring mergeable buffer Rx path",
        mbuf=512,
        frames=32,
    ),
    Case("direct-chains", ("in_order=0",), "mergeable buffer Rx path", mbuf=320, frames=16),
]
SHARE = -(-TOTAL // len(CASES))  # frames of each case


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(os.path.realpath(os.environ.get("TMPDIR", "/tmp"))) / f"uswitch-dpdk-{os.getpid()}"
    path.mkdir()
    unprivileged.own(path, unprivileged.identity())
    yield path
    shutil.rmtree(path)


def random_frames(count: int, source: int, seed: str) -> list[bytes]:
    """Different in contents and length, the shortest and the longest among them."""
    dice = random.Random(seed)
    sizes = [60, 1514] + [dice.randint(60, 1514) for _ in range(count - 2)]
    head = MACS[1 - source] + MACS[source] + b"\x88\xb5"
    return [head + struct.pack(">I", i) + dice.randbytes(size - 18) for i, size in enumerate(sizes)]


def write_pcap(path: Path, frames: list[bytes]) -> None:
    """The classic format, Ethernet."""
    with path.open("wb") as stream:
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            stream.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def read_pcap(path: Path) -> list[bytes]:
    """What testpmd wrote, in microseconds or nanoseconds."""
    data, frames = path.read_bytes(), []
    assert data[:4] in {struct.pack("<I", 0xA1B2C3D4), struct.pack("<I", 0xA1B23C4D)}
    at = 24
    while at < len(data):
        kept, length = struct.unpack_from("<II", data, at + 8)
        assert kept == length
        frames.append(data[at + 16 : at + 16 + kept])
        at += 16 + kept
    return frames


class Guests:
    """Ports 0 and 1 are the guests, 2 and 3 the capture files of what each of them sends."""

    def __init__(self, case: Case, directory: Path, paths: list[Path]) -> None:
        self._case = case
        self.log = directory / "guests.log"
        self.sent = [random_frames(case.frames, i, f"{case.name} {i}") for i in (0, 1)]
        self._files = [(directory / f"in{i}.pcap", directory / f"out{i}.pcap") for i in (0, 1)]
        for (source, _), frames in zip(self._files, self.sent, strict=True):
            write_pcap(source, frames)
        guests = [
            VirtioUser(
                path,
                address.hex(":"),
                listen=case.listen,
                queue_size=case.ring,
                options=case.options,
            )
            for path, address in zip(paths, MACS, strict=True)
        ]
        options = ["--no-flush-rx", "--disable-device-start", f"--burst={BURST}"]
        if case.mbuf:
            options.append(f"--mbuf-size={case.mbuf}")
        self.testpmd = Testpmd(
            "guests",
            directory,
            [*guests, *(Pcap(*files) for files in self._files)],
            Settings(
                mode="io",
                descriptors=case.ring,
                options=tuple(options),
                eal=("--log-level=pmd.net.virtio.init:info",),
                peers=tuple((i, MACS[1 - i].hex(":")) for i in (0, 1)),
            ),
        )

    def bring_up(self) -> None:
        self.testpmd.wait()
        if self._case.mbuf:
            for port in (0, 1):
                self.testpmd.command(f"port config {port} rx_offload scatter on")
        assert "fail" not in self.testpmd.command("port start all").lower()

    def forward(
        self,
        ports: str,
        until: Callable[[dict[int, Counters]], bool],
        what: str,
        tx_first: int | None = None,
    ) -> dict[int, Counters]:
        """Forward among these ports until a condition holds; the counters then."""
        self.testpmd.command(f"set portlist {ports}")
        self.testpmd.start(tx_first)
        deadline = time.monotonic() + PATIENCE
        while not until(now := self.testpmd.stats()):
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}; {now}"
            time.sleep(0.02)
        self.testpmd.command("stop")
        return self.testpmd.stats()

    def circulate(self, source: int, hops: int) -> None:
        """Frames from the file of ``source``, so many times through the switch, into its file."""
        count, goal, capture = self._case.frames, 1 - source, 2 + source
        self.forward(f"{capture},{source}", lambda now: now[capture].rx_packets == count, "frames")
        first = self.testpmd.stats()[goal].rx_packets
        self.forward("0,1", lambda now: now[goal].rx_packets >= first + hops - count, "circulation")
        self.forward(
            f"{goal},{capture}",
            lambda now: now[capture].tx_packets == count,
            f"all {count} frames come out",
        )

    def both_ways(self, hops: int) -> int:
        """Frames of 64 bytes in both directions; returns how many were left in the rings."""
        bursts = self._case.frames // BURST or 1
        first = received(self.testpmd.stats())
        self.forward("0,1", lambda now: received(now) >= first + hops, "traffic", tx_first=bursts)
        self.testpmd.command("set fwd rxonly")
        before = received(self.testpmd.stats())
        self.testpmd.start()
        take_in(self.testpmd, before + 2 * bursts * BURST)
        self.testpmd.command("stop")
        self.testpmd.command("set fwd io")
        assert received(self.testpmd.stats()) - before == 2 * bursts * BURST
        return bursts * BURST

    def arrived(self) -> list[list[bytes]]:
        """What the capture files hold, once testpmd has quit."""
        return [read_pcap(sink) for _, sink in self._files]


def received(counters: dict[int, Counters]) -> int:
    return sum(counters[port].rx_packets for port in (0, 1))


def take_in(testpmd: Testpmd, expected: int) -> None:
    """Wait until so many have come, however slowly, and no more: the caller counts once more."""
    deadline = time.monotonic() + PATIENCE
    while received(testpmd.stats()) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    testpmd.settle(0.2)


def is_rotation(found: list[bytes], of: list[bytes]) -> bool:
    """Circulating frames have no first one, but an order."""
    if len(found) != len(of) or found[0] not in of:
        return False
    start = of.index(found[0])
    return found == of[start:] + of[:start]


@pytest.mark.skipif(not shutil.which(PROGRAM), reason=f"{PROGRAM} (package dpdk-dev) is missing")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_ten_million_frames(case: Case, lab: Lab, directory: Path) -> None:
    mode = "server" if case.listen else "client"
    # Pinned, since frames in one direction only would teach the switch one address only.
    names, paths = zip(
        *(lab.port(mode=mode, segment="dpdk", macs=[address.hex(":")]) for address in MACS),
        strict=True,
    )
    guests = Guests(case, directory, [Path(path) for path in paths])
    try:
        with guests.testpmd as testpmd:
            guests.bring_up()
            for name in names:
                lab.switch.wait_link(name)
                check_features(case, lab, name, guests.log.read_text())
            for source in (0, 1):
                guests.circulate(source, SHARE // 4)
            guests.both_ways(SHARE // 2)
            check_accounts(lab, names, testpmd.stats())
        for found, sent in zip(guests.arrived(), guests.sent, strict=True):
            assert is_rotation(found, sent)
    finally:
        for name in names:
            lab.client.port_delete(name)


@pytest.mark.skipif(not shutil.which(PROGRAM), reason=f"{PROGRAM} (package dpdk-dev) is missing")
@pytest.mark.parametrize("layout", ["split", "packed"])
@pytest.mark.parametrize("queues", [2, 8])
def test_queue_pairs(queues: int, layout: str, lab: Lab, directory: Path) -> None:
    """Frames of many flows circulate; each stays in its queue, and none gets lost."""
    options = ("packed_vq=1",) if layout == "packed" else ()
    spec = [{"segment": "dpdk", "macs": [address.hex(":")]} for address in MACS]
    names, paths = zip(*(lab.port(**words) for words in spec), strict=True)  # type: ignore[arg-type]
    guests = [
        VirtioUser(Path(path), address.hex(":"), queues=queues, options=options)
        for path, address in zip(paths, MACS, strict=True)
    ]
    settings = Settings(
        options=("--no-flush-rx", "--txonly-multi-flow", f"--burst={BURST}"),
        mbufs=16384,
        peers=tuple((i, MACS[1 - i].hex(":")) for i in (0, 1)),
    )
    in_circulation = 2 * queues * BURST
    with Testpmd("guests", directory, guests, settings) as testpmd:
        testpmd.wait()
        for name in names:
            lab.switch.wait_link(name)
            bits = int(lab.show(name)["virtio_features"], 16)
            assert bool(bits & F_RING_PACKED) == (layout == "packed")
        testpmd.start(tx_first=1)
        deadline = time.monotonic() + PATIENCE
        while received(testpmd.stats()) < 1_000_000:
            assert time.monotonic() < deadline, testpmd.stats()
            time.sleep(0.02)
        testpmd.command("stop")
        testpmd.command("set fwd rxonly")
        before = received(testpmd.stats())
        testpmd.start()
        take_in(testpmd, before + in_circulation)
        testpmd.command("stop")
        assert received(testpmd.stats()) - before == in_circulation
        check_accounts(lab, names, testpmd.stats(), at_least=1_000_000)
        for name in names:
            rings = lab.show(name)["rings"]
            assert [ring["index"] for ring in rings] == list(range(2 * queues))
            assert all(ring["frames"] for ring in rings), rings
    for name in names:
        lab.client.port_delete(name)


def check_features(case: Case, lab: Lab, name: str, log: str) -> None:
    """What was negotiated, and that the driver works the way the case is about."""
    bits = int(lab.show(name)["virtio_features"], 16)
    assert bits & F_VERSION_1 and bits & F_INDIRECT
    assert bool(bits & F_MRG_RXBUF) == case.mergeable
    assert bool(bits & F_RING_PACKED) == ("packed_vq=1" in case.options)
    if "in_order=0" in case.options:
        assert not bits & F_IN_ORDER
    in_order_path = bits & F_IN_ORDER and not bits & F_RING_PACKED  # packed has one path for both
    assert log.count("using inorder Rx path") == (2 if in_order_path else 0)
    assert not case.path or log.count(f"using {case.path}") == 2


def check_accounts(
    lab: Lab, names: tuple[str, ...], counters: dict[int, Counters], at_least: int = SHARE
) -> None:
    """Driver and switch agree, and the drops explain what is missing: nothing."""
    shown = [lab.show(name) for name in names]
    drops = {name: detail["drops"] for name, detail in zip(names, shown, strict=True)}
    assert not any(drops.values()), drops
    for port, detail in enumerate(shown):
        mine, incoming, outgoing = counters[port], detail["incoming"], detail["outgoing"]
        assert (incoming["frames"], incoming["bytes"]) == (mine.tx_packets, mine.tx_bytes)
        assert (outgoing["frames"], outgoing["bytes"]) == (mine.rx_packets, mine.rx_bytes)
    total = received(counters)
    assert total == sum(detail["incoming"]["frames"] for detail in shown)
    assert total >= at_least
