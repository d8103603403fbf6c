# SPDX-License-Identifier: Apache-2.0
"""A guard on its way to the dataplane: never later than a segment, and never gone in between."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.unit.daemon.fabric_rig import Rig, run, until
from tests.unit.daemon.test_fabric import end, guest, ready
from vif_uswitch.daemon.fabric import Fabric
from vif_uswitch.daemon.model import TagRow
from vif_uswitch.dataplane.base import DataplaneRefused, GuardPair

A, B = TagRow(4096, 5), TagRow(4096, 6)
MAC = b"\xfa\x16\x3e\0\0\1"
ONE = (GuardPair(MAC, bytes([10, 0, 0, 5]), 32),)
TWO = (*ONE, GuardPair(MAC, bytes([10, 0, 1, 0]), 24))


def told(rig: Rig) -> list[str]:
    return [call[0] for call in rig.fake.calls]


def of_port(rig: Rig) -> list[tuple[str, Any]]:
    """Calls about guards and rows, with what they say."""
    calls = [call for call in rig.fake.calls if call[0] in ("port_guard", "port_tags")]
    return [(verb, list(what) if verb == "port_tags" else what) for verb, _, what in calls]


def test_it_comes_before_rows_and_rings() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, guard=ONE):
            assert told(rig).index("port_add") < told(rig).index("port_guard")
            assert told(rig).index("port_guard") < told(rig).index("port_tags")
            with guest() as ram:
                peer = await ready(rig, ram)
            rig.fake.kill()
            await until(lambda: len(rig.launcher.made) == 2)
            await until(lambda: "ring_start" in told(rig))
            order = told(rig)
            assert order.index("port_guard") < order.index("port_tags") < order.index("ring_start")
            assert rig.fake.ports[1].guard == ONE
            peer.close()

    run(test)


def test_an_unguarded_port_costs_no_message() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1) as fabric:
            await fabric.ensure_port(rig.config(1, tags=(B,)))
            assert "port_guard" not in told(rig)

    run(test)


@pytest.mark.parametrize(("before", "after", "expected"), [
    ((None, A), (ONE, A), [("port_guard", ONE)]),
    ((ONE, A), (TWO, A), [("port_guard", TWO)]),
    ((ONE, A), (None, A), [("port_guard", None)]),
    ((None, None), (ONE, A), [("port_guard", ONE), ("port_tags", [(4096, 5)])]),
    ((ONE, A), (None, None), [("port_tags", []), ("port_guard", None)]),
    ((ONE, A), (TWO, B), [("port_tags", []), ("port_guard", TWO), ("port_tags", [(4096, 6)])]),
    ((ONE, A), (ONE, B), [("port_tags", [(4096, 6)])]),
])  # fmt: skip
def test_no_segment_sees_the_guard_of_another(
    before: tuple[Any, TagRow | None], after: tuple[Any, TagRow | None], expected: list[Any]
) -> None:
    async def test(rig: Rig) -> None:
        tags = [() if row is None else (row,) for _, row in (before, after)]
        async with rig.fabric(1, guard=before[0], tags=tags[0]) as fabric:
            rig.fake.calls.clear()
            await fabric.ensure_port(rig.config(1, guard=after[0], tags=tags[1]))
            assert of_port(rig) == expected
            assert "escrow_put" in told(rig)
            assert rig.fake.ports[1].guard == after[0]

    run(test)


def test_rows_that_stay_are_not_cut() -> None:
    async def test(rig: Rig) -> None:
        stays, goes, comes = TagRow(7, 7), TagRow(8, 8), TagRow(9, 9)
        async with rig.fabric(1, guard=ONE, tags=(stays, goes)) as fabric:
            rig.fake.calls.clear()
            await fabric.ensure_port(rig.config(1, guard=TWO, tags=(stays, comes)))
            expected = [[(7, 7)], TWO, [(7, 7), (9, 9)]]
            assert [what for _, what in of_port(rig)] == expected

    run(test)


@pytest.mark.parametrize("verb", ["port_guard", "port_tags"])
def test_what_is_refused_half_way_is_taken_back(verb: str) -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, guard=ONE) as fabric:
            real = getattr(rig.fake, verb)
            asked: list[Any] = []

            async def refuse_once(port_id: int, what: Any) -> None:
                asked.append(what)
                if what in (None, [(4096, 6)]):
                    raise DataplaneRefused(verb, errno.ENOSPC)
                await real(port_id, what)

            setattr(rig.fake, verb, refuse_once)
            with pytest.raises(DataplaneRefused):
                await fabric.ensure_port(rig.config(1, guard=None, tags=(B,)))
            assert asked
            port = rig.fake.ports[1]
            assert (port.guard, port.tags) == (ONE, [(4096, 5)])
            assert fabric._ports[1].config == rig.config(1, guard=ONE)

    run(test)


def test_a_port_whose_guard_is_refused_is_not_there() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric() as fabric:
            rig.fake.refuse = {"port_guard": errno.ENOMEM}
            with pytest.raises(DataplaneRefused):
                await fabric.ensure_port(rig.config(1, guard=ONE))
            assert not rig.fake.ports and not rig.fake.escrow

    run(test)


def test_the_next_uswitchd_knows_it() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.start()
        await first.ensure_port(rig.config(1, guard=TWO))
        await first.ensure_port(rig.config(2, guard=()))
        await end(rig, first)
        rig.fake.calls.clear()
        second: Fabric = await rig.start()
        try:
            assert second._ports[1].config == rig.config(1, guard=TWO)
            told_again = [("port_guard", TWO), ("port_guard", ())]
            assert of_port(rig) == told_again
            await second.ensure_port(rig.config(1, guard=TWO))
            await second.ensure_port(rig.config(2, guard=()))
            assert of_port(rig) == told_again
            assert rig.fake.ports[1].guard == TWO and rig.fake.ports[2].guard == ()
        finally:
            await second.stop(keep_dataplane=False)

    run(test)


def test_an_uswitchd_that_died_while_it_introduced_the_port() -> None:
    """Escrow has it, the dataplane not, or without its guard: nobody may find it open."""

    async def test(rig: Rig) -> None:
        for what in ("guard", "port"):
            first = await rig.start()
            await first.ensure_port(rig.config(1, guard=ONE))
            await first.ensure_port(rig.config(2))
            await end(rig, first)
            if what == "guard":
                rig.fake.ports[1].guard = None
            else:
                await rig.fake.port_del(1)
            second = await rig.start()
            try:
                port = rig.fake.ports[1]
                assert (port.guard, port.tags) == (ONE, [(4096, 5)])
            finally:
                await second.stop(keep_dataplane=False)

    run(test)
