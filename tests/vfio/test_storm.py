# SPDX-License-Identifier: Apache-2.0
"""A storm of broadcasts from the wire: it costs the uplink its budget, and nobody else a frame."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from testbed.vfio_guest import Nested

from .conftest import Lab, Switch, added, joined

FRAMES = 20_000
BUDGET = 200  # copies a second, and at once
BROADCAST = (b"\xff" * 6 + bytes.fromhex("525400000501") + b"\x88\xb5").ljust(60, b"\0")


def test_a_storm_from_the_wire(lab: Lab, host: Nested, switch: Switch) -> None:
    """What exceeds the budget is dropped by name; known addresses talk on through the uplink."""
    card = lab.cards["igb"]
    limits = {"flood_rate": BUDGET, "flood_burst": BUDGET}
    with added(lab, switch, card, queues=1, **limits) as uplink, joined(uplink) as both:
        both.ping()
        with ThreadPoolExecutor(max_workers=1) as pool:
            storm = pool.submit(card.wire.send_all, [BROADCAST] * FRAMES)
            both.ping(count=20)
            assert storm.result(120) == FRAMES
        dropped = {row["reason"]: row["frames"] for row in uplink.settled()["drops"]}
        assert FRAMES // 2 < dropped["flood_budget"] < FRAMES, dropped
        both.ping()
