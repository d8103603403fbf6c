# SPDX-License-Identifier: Apache-2.0
"""Frames of a guarded port: the library and the model must agree about every one, by name.

The same frames each time.  More of them, or others::

    python -m tests.property.test_guard --seed 4711 --frames 100000
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import random
from collections import Counter

import pytest

from tests.unit.dataplane.inprocess import Guest
from vif_uswitch.dataplane import native
from vif_uswitch.dataplane.base import GuardPair
from vif_uswitch.exceptions import Unavailable

from .guard_frames import MACS, Drawer
from .guard_model import Guard, Pair

try:
    native.build_id()
except Unavailable as error:
    pytest.skip(str(error), allow_module_level=True)

VERSION_1 = 1 << 32
RECEIVER = bytes.fromhex("020000000077")
OWN, OTHER, BARE, _ = (bytes.fromhex(mac.replace(":", "")) for mac in MACS)
PAIRS = [
    Pair(OWN, ipaddress.ip_network("10.0.0.5")), Pair(OWN, ipaddress.ip_network("10.1.0.0/16")),
    Pair(OWN, ipaddress.ip_network("fe80::a")), Pair(OWN, ipaddress.ip_network("2001:db8:1::/64")),
    Pair(OTHER, ipaddress.ip_network("10.0.0.6")), Pair(OTHER, ipaddress.ip_network("fe80::b")),
    Pair(BARE),
]  # fmt: skip
DROPS = {"guard_mac", "guard_ip", "guard_arp", "guard_nd", "guard_dhcp", "guard_type"}
SPOILT = 6


def told(pairs: list[Pair]) -> list[GuardPair]:
    return [
        GuardPair(pair.mac) if pair.net is None
        else GuardPair(pair.mac, pair.net.network_address.packed, pair.net.prefixlen)
        for pair in pairs
    ]  # fmt: skip


class Rig:
    """A guarded guest and a free one; frames go from the one to the other."""

    def __init__(self, stack: contextlib.ExitStack, model: Guard, tagged: bool) -> None:
        switch = stack.enter_context(native.NativeSwitch())
        rows = [(4096, 1), (10, 2)] if tagged else [(4096, 1)]
        self.tag = bytes.fromhex("8100e00a") if tagged else b""
        self.model = model
        self.sender = Guest(switch, 0, VERSION_1, mac=OWN, tags=rows)
        self.receiver = Guest(switch, 1, VERSION_1, mac=RECEIVER, tags=[(4096, 2 if tagged else 1)])
        switch.port_guard(0, told(PAIRS))
        for guest in (self.sender, self.receiver):
            stack.callback(guest.close)

    def check(self, frame: bytes, cuts: list[int]) -> str | None:
        """Returns how the frame ended, which is how the model says it ends."""
        before = Counter(self.sender.drops())
        sent = frame[:12] + self.tag + frame[12:]
        self.sender.send(b"", sent, cuts)
        arrived = [data for _, data in self.receiver.receive()]
        counted = Counter(self.sender.drops()) - before
        end = self.model.judge(frame)
        assert counted == (Counter([end]) if end else Counter())
        assert arrived == ([] if end else [frame])
        return end


def is_own_tag(frame: bytes) -> bool:
    """A guest's frame with another tag than the port's table has ends before it meets the guard."""
    return frame[12:14] == b"\x81\x00"


def run(seed: int, frames: int, model: Guard, tagged: bool) -> Counter[str | None]:
    """Returns how many frames ended how."""
    rng, ends = random.Random(seed), Counter[str | None]()
    drawer = Drawer(rng)
    with contextlib.ExitStack() as stack:
        rig = Rig(stack, model, tagged)
        while ends.total() < frames:
            for frame in drawer.frames(SPOILT):
                cuts = [rng.choice((1, 12, 30, 66, 76, 90, 130)) for _ in range(rng.randrange(4))]
                if len(frame) > 1510 or (not tagged and is_own_tag(frame)):
                    continue
                try:
                    ends[rig.check(frame, cuts)] += 1
                except AssertionError as error:
                    says = model.judge(frame)
                    raise AssertionError(
                        f"seed {seed}, frame {ends.total()}, tagged {tagged}, cuts {cuts}, model "
                        f"{says}: {frame.hex()}: {error}"
                    ) from error
    return ends


@pytest.mark.parametrize("seed", [1, 2])
def test_the_library_is_the_model(seed: int) -> None:
    ends = run(seed, 3000, Guard(PAIRS), tagged=seed % 2 == 0)
    assert set(ends) == {None, *DROPS}
    assert all(count > 40 for count in ends.values()), "a rule that nearly no frame meets"


class NoOptions(Guard):
    def _options(self, mac: bytes, left: bytes) -> set[int]:
        return set()


class AnyTarget(Guard):
    def _covers(self, mac: bytes, ip: bytes) -> bool:
        return super()._covers(mac, ip) or ip.startswith(b"\x20\x01")


class OthersPairs(Guard):
    """Takes every address with every MAC address."""

    def _covers(self, mac: bytes, ip: bytes) -> bool:
        return any(pair.covers(pair.mac, ip) for pair in self.pairs)


@pytest.mark.parametrize("wrong", [NoOptions, AnyTarget, OthersPairs])
def test_a_wrong_model_is_told_from_the_library(wrong: type[Guard]) -> None:
    with pytest.raises(AssertionError):
        run(1, 3000, wrong(PAIRS), tagged=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=10000)
    args = parser.parse_args()
    for tagged in (False, True):
        ends = run(args.seed, args.frames, Guard(PAIRS), tagged)
        print(f"seed {args.seed}, tagged {tagged}: {dict(ends)}, all as the model says")


if __name__ == "__main__":
    main()
