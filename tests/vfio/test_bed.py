# SPDX-License-Identifier: Apache-2.0
"""The test bed itself, with nothing of the product: VFIO is real, the IOMMU stops what strays."""

from __future__ import annotations

import json
from typing import Any

from testbed.cache import CHECKOUT
from testbed.vfio_guest import USER, Nested

from .conftest import Card, Lab

MEMLOCK = 1 << 20
MARK = b"a frame of the probe"
ANSWER = (bytes.fromhex("525400000201 020202020202 88b5") + b"and from the wire..!").ljust(60)


def _probe(lab: Lab, card: Card, what: str) -> dict[str, Any]:
    """Run the probe as the user of the daemons, with little memory that it may lock."""
    host = lab.host

    def answer(frame: bytes) -> None:
        if MARK in frame:
            card.wire.send(ANSWER)

    card.wire.connect(answer)
    try:
        with lab.taken(card.address):
            said = host.must(f"cd {CHECKOUT} && prlimit --memlock={MEMLOCK} setpriv --reuid {USER} "
                             f"--regid {USER} --clear-groups {host.python} -m tests.vfio.probe "
                             f"{host.group(card.address)} {card.address} {what}")
    finally:
        card.wire.disconnect(answer)
    found: dict[str, Any] = json.loads(said)
    return found


def test_an_unprivileged_process_drives_an_adapter(lab: Lab, host: Nested) -> None:
    """Group viable, registers and DMA both ways, and no word from the IOMMU."""
    card = lab.cards["spare"]
    frames = card.wire.frames
    found = _probe(lab, card, "send")
    assert found["uid"] == int(host.must(f"id -u {USER}")) != 0
    assert found["id"] == "8086:10c9"
    assert (found["type1v2"], found["viable"], found["link"]) == (True, True, True)
    assert (found["sent"], found["received"]) == (True, True)
    assert found["payload"] == "and from the wire..!"
    assert card.wire.frames > frames


def test_the_iommu_stops_an_adapter_that_reads_astray(lab: Lab, host: Nested) -> None:
    """A frame whose address was never mapped does not get onto the wire."""
    card = lab.cards["spare"]
    card.wire.keep()
    _probe(lab, card, "astray-read")
    faults = host.forget_faults()
    assert any("DMA Read" in line and card.address[5:] in line for line in faults), faults
    assert card.wire.receive(lambda frame: MARK in frame, timeout=0.5) is None


def test_the_iommu_stops_an_adapter_that_writes_astray(lab: Lab, host: Nested) -> None:
    """A buffer whose address was never mapped."""
    card = lab.cards["spare"]
    _probe(lab, card, "astray-write")
    faults = host.forget_faults()
    assert any("DMA Write" in line and card.address[5:] in line for line in faults), faults
