# SPDX-License-Identifier: Apache-2.0
"""Software offloads against an independent model: every delivered byte, over random requests.

One guest sends what only a guest with every offload may send; receivers with
each subset of the offloads get it, or what replaces it.  A run is its seed::

    python -m tests.unit.dataplane.test_offload_property --seed 4711 --cases 2000
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random

import pytest

from vif_uswitch.dataplane import native
from vif_uswitch.dataplane.native import NativeSwitch
from vif_uswitch.exceptions import Unavailable

from . import offload_model as model
from .inprocess import MRG_RXBUF, VERSION_1, Guest
from .offload_requests import Request, make_request

try:
    native.build_id()
except Unavailable as error:
    pytest.skip(str(error), allow_module_level=True)

UNTAGGED = 4096
PLAIN, TRUNK = 1, 2  # segments: one without tags, one behind a tag at either side
SENDER_VID, RECEIVER_VID = 7, 9
HOST_ALL = 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 56
CSUM = model.GUEST_CSUM
TSO = model.GUEST_TSO4 | model.GUEST_TSO6
USO = model.GUEST_USO4 | model.GUEST_USO6
ALL = CSUM | TSO | USO | model.GUEST_ECN

RECEIVERS = {
    "nothing": MRG_RXBUF | VERSION_1,
    "nothing, legacy": 0,
    "checksum": MRG_RXBUF | VERSION_1 | CSUM,
    "checksum, legacy": CSUM,
    "TSO4": MRG_RXBUF | VERSION_1 | CSUM | model.GUEST_TSO4,
    "TSO6": MRG_RXBUF | VERSION_1 | CSUM | model.GUEST_TSO6,
    "TSO": MRG_RXBUF | VERSION_1 | CSUM | TSO,
    "USO4": MRG_RXBUF | VERSION_1 | CSUM | model.GUEST_USO4,
    "USO6": MRG_RXBUF | VERSION_1 | CSUM | model.GUEST_USO6,
    "USO": MRG_RXBUF | VERSION_1 | CSUM | USO,
    "TSO and USO": MRG_RXBUF | VERSION_1 | CSUM | TSO | USO,
    "all": MRG_RXBUF | VERSION_1 | ALL,
    "all, one buffer a frame": VERSION_1 | ALL,
    "segmentation without checksum": MRG_RXBUF | VERSION_1 | ALL & ~CSUM,  # 5.1.3.1 forbids it
}


def mac(number: int) -> bytes:
    return b"\x02\0\0\0\0" + bytes([number])


def join_tag(frame: bytes, vid: int | None) -> bytes:
    if vid is None:
        return frame
    return frame[:12] + b"\x81\0" + vid.to_bytes(2, "big") + frame[12:]


class Rig:
    """A sender with everything and a receiver of each kind."""

    def __init__(self, stack: contextlib.ExitStack, max_frame: int) -> None:
        self.max_frame = max_frame
        self.guests: list[Guest] = []
        # Last in, first out: guests let go of their memory once the switch has.
        stack.callback(self._close)
        self.switch = stack.enter_context(NativeSwitch())
        self.sender = self._plug(VERSION_1 | HOST_ALL, SENDER_VID, 2, 2048)
        self.receivers = {
            name: self._plug(features, RECEIVER_VID, *self._buffers(features))
            for name, features in RECEIVERS.items()
        }

    def _close(self) -> None:
        for guest in self.guests:
            guest.close()

    def _buffers(self, features: int) -> tuple[int, int]:
        """Number and size: what the largest number of segments, or the longest frame, takes."""
        if features & MRG_RXBUF:
            return 2048, 2048
        return 2048, 65600 if features & TSO else self.max_frame + 16

    def _plug(self, features: int, vid: int, buffers: int, buffer_size: int) -> Guest:
        number = len(self.guests) + 1
        guest = Guest(
            self.switch, number, features, mac=mac(number), max_frame=self.max_frame,
            tags=[(UNTAGGED, PLAIN), (vid, TRUNK)], buffers=buffers, buffer_size=buffer_size,
        )  # fmt: skip
        self.guests.append(guest)
        return guest

    def check(self, request: Request, name: str, tagged: bool, cuts: list[int]) -> int:
        """Sends the request to a receiver; returns how many frames that made."""
        receiver = self.receivers[name]
        sent = join_tag(request.frame, SENDER_VID if tagged else None)
        shift = 4 if tagged else 0
        self.sender.send(request.header(shift), sent, cuts)
        got = [(header[:10], frame) for header, frame in receiver.receive()]
        wanted = [
            (header, join_tag(frame, RECEIVER_VID if tagged else None))
            for header, frame in model.expected(request, receiver.features, shift, self.max_frame)
        ]
        assert [len(frame) for _, frame in got] == [len(frame) for _, frame in wanted], (
            self.sender.drops(), receiver.drops(),
        )  # fmt: skip
        for (header, frame), (wanted_header, wanted_frame) in zip(got, wanted, strict=True):
            assert header == wanted_header
            assert frame == wanted_frame
        whole = [frame for header, frame in (got[:1] + got[-1:]) if not any(header)]
        assert all(model.scapy_agrees(frame) for frame in whole)
        return len(got)


def run(seed: int, cases: int, max_frame: int) -> int:
    """Returns the number of frames delivered and compared."""
    rng, total = random.Random(seed), 0
    with contextlib.ExitStack() as stack:
        rig = Rig(stack, max_frame)
        for number, name in zip(range(cases), itertools.cycle(rig.receivers), strict=False):
            tagged = rng.random() < 0.5
            request = make_request(
                rng, rig.sender.mac, rig.receivers[name].mac, tagged=tagged, max_frame=max_frame
            )
            cuts = [rng.choice((1, 10, 12, 30, 60, 150, rng.randrange(65562))) for _ in range(5)]
            try:
                total += rig.check(request, name, tagged, cuts[: rng.randrange(6)])
            except AssertionError as error:
                head = request.frame[: request.end].hex()
                raise AssertionError(
                    f"seed {seed}, case {number}, receiver {name!r}, tagged {tagged}, gso_type "
                    f"{request.gso_type}, gso_size {request.gso_size}, {len(request.frame)} bytes, "
                    f"cuts {cuts}, headers {head}"
                ) from error
    return total


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("max_frame", [1514, 9014, 65562])
def test_every_byte(seed: int, max_frame: int) -> None:
    assert run(seed, 20 * len(RECEIVERS), max_frame) > 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--max-frame", type=int, default=9014)
    args = parser.parse_args()
    frames = run(args.seed, args.cases, args.max_frame)
    print(f"seed {args.seed}: {args.cases} requests, {frames} frames delivered, all right")


if __name__ == "__main__":
    main()
