# SPDX-License-Identifier: Apache-2.0
"""Pages fit, miss nothing, and never hold up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.daemon.control_rig import Control
from vif_uswitch.api import wire
from vif_uswitch.api.types import Segment
from vif_uswitch.daemon.control.paging import SNAPSHOTS_MAX, Snapshots, by_name, size_of
from vif_uswitch.daemon.control.server import REQUESTS_A_TURN, Turns
from vif_uswitch.daemon.model import Kind, PortLive
from vif_uswitch.daemon.ports import Desired, Port
from vif_uswitch.exceptions import InvalidInput

NAMES = st.sets(st.from_regex(r"[a-z]{1,3}", fullmatch=True), max_size=30)


@given(NAMES, st.integers(1, 30_000))
def test_pages_together_are_the_whole_list(names: set[str], width: int) -> None:
    async def collect() -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page, cursor = await by_name(names, cursor, lambda name: [name + " " * width])
            assert len(wire.result(1, {"items": page, "next": cursor})) <= wire.MAX_LINE
            found += [item.strip() for item in page]
            if not cursor:
                return found

    assert asyncio.run(collect()) == sorted(names)


@given(st.text(), st.integers(0, 2**63))
def test_sizes_are_those_of_the_wire(text: str, number: int) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # half a surrogate pair: nothing here has one
        item = Segment(id=number, name=text, description=f"{text}x", n_ports=0)
        exact = len(wire.dumps(msgspec.to_builtins(item))) + 1
        # Control characters, which no name or text has, may have two notations.
        assert size_of(item) == exact or not text.isprintable()


def test_names_that_come_and_go_between_pages_disturb_nobody() -> None:
    async def collect() -> list[str]:
        names = {f"p{i:02d}" for i in range(10)}
        big = " " * 20_000
        page, cursor = await by_name(names, "", lambda name: [name + big])
        found = [item.strip() for item in page]
        names -= {found[-1], "p05"}
        names |= {"p055"}
        while cursor:
            page, cursor = await by_name(names, cursor, lambda name: [name + big])
            found += [item.strip() for item in page]
        return found

    expected = ["p00", "p01", "p02", "p03", "p04", "p055", "p06", "p07", "p08", "p09"]
    assert asyncio.run(collect()) == expected


def test_snapshots_are_bounded_and_end() -> None:
    snapshots: Snapshots[int] = Snapshots()
    cursors = [snapshots.first(list(range(10))) for _ in range(SNAPSHOTS_MAX + 1)]
    with pytest.raises(InvalidInput, match="no longer"):
        snapshots.page(cursors[0], str)
    assert snapshots.page(cursors[1], str) == ([str(i) for i in range(10)], "")
    for cursor in (cursors[1], "", "x", "1:2:3", "-1:0", "\u0663:0", "9" * 128):
        with pytest.raises(InvalidInput):
            snapshots.page(cursor, str)
    assert snapshots.page(cursors[2].replace(":0", ":99"), str) == ([], "")


def test_requests_begin_in_order_and_a_few_a_turn() -> None:
    async def crowd() -> list[int]:
        turns = Turns()
        begun: list[int] = []
        per_turn: list[int] = []

        async def one(number: int) -> None:
            await turns.mine()
            begun.append(number)

        tasks = [asyncio.create_task(one(i)) for i in range(50)]
        await asyncio.sleep(0)
        tasks[20].cancel()
        while len(begun) < 49:
            before = len(begun)
            await asyncio.sleep(0)
            per_turn.append(len(begun) - before)
        assert max(per_turn) <= REQUESTS_A_TURN
        await one(50)
        return begun

    assert asyncio.run(crowd()) == [i for i in range(51) if i != 20]


def test_long_lists_leave_the_loop_to_others(control: Control) -> None:
    """Clients list 300 ports that take a millisecond each: at most a few ports a turn."""
    looked = 0

    def slow_live(port_id: int) -> PortLive:
        nonlocal looked
        looked += 1
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        return PortLive()

    steps: list[int] = []

    async def watch() -> None:
        control.rec.desired = Desired(
            {f"p{i}": Port(i, f"p{i}", Kind.TAP, ifname=f"t{i}") for i in range(300)}
        )
        control.fabric.port_live = slow_live  # type: ignore[method-assign]
        before = looked
        for _ in range(400):
            await asyncio.sleep(0)
            steps.append(looked - before)
            before = looked

    def one_client(verb: str) -> None:
        with control.client(60) as client:
            assert client.call(verb)

    control.on_loop(lambda: asyncio.sleep(0))
    task = asyncio.run_coroutine_threadsafe(watch(), control.loop)
    verbs = ["port.list", "stats", "drops", "show"] * 3
    threads = [threading.Thread(target=one_client, args=(verb,)) for verb in verbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    task.result(60)
    assert looked >= 300 and max(steps) <= 3
