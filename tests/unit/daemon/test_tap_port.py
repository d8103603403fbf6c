# SPDX-License-Identifier: Apache-2.0
"""TAP ports whose devices come and go: reconciler and fabric together, devices make-believe."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from tests.unit.daemon.fabric_rig import Rig, run
from vif_uswitch.api.types import PortSpec
from vif_uswitch.daemon.defaults import PortDefaults
from vif_uswitch.daemon.model import Link
from vif_uswitch.daemon.reconcile import Reconciler
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink.port import Adapters
from vif_uswitch.daemon.uplink.watch import DeviceNews
from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import Event
from vif_uswitch.dataplane.native import break_name
from vif_uswitch.exceptions import NotFound

GONE = next(number for number in range(1, 16) if break_name(number) == "device_gone")
SPEC = PortSpec(name="dhcp", type="tap", ifname="tap7", netns="qdhcp-7", segment="blue")
ABSENT = NotFound("the TAP device", "tap7", "is neither here nor in qdhcp-7")


class Bed:
    """A directory with a state file, and lives of uswitchd in it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.opened: list[tuple[str, str, str]] = []
        self.error: Exception | None = None
        rig.adapters = Adapters(open_tap=self.open)

    def open(self, ifname: str, netns: str, port: str) -> int:
        self.opened.append((ifname, netns, port))
        if self.error:
            raise self.error
        return os.open("/dev/null", os.O_RDWR)

    @contextlib.asynccontextmanager
    async def life(self, keep_dataplane: bool = False) -> AsyncIterator[Reconciler]:
        store = StateStore(self.rig.directory)
        fabric = await self.rig.start()
        rec = Reconciler(self.rig.directory, PortDefaults(), store, store.load(), fabric)
        fabric.on_event, fabric.on_lost_port = rec.port_event, rec.port_lost
        try:
            await rec.replay()
            yield rec
        finally:
            await fabric.stop(keep_dataplane)

    def break_port(self) -> int:
        """The page of the port says that its device is gone."""
        fake = self.rig.fake
        port_id = next(iter(fake.ports))
        fake._with_page(fake.ports[port_id], lambda page: setattr(page, "broken", GONE))
        return port_id

    def delete_device(self) -> None:
        event = Event(layout.EVENT_PORT_BROKEN, self.break_port(), 0, "device_gone", 0)
        assert self.rig.fake.on_event is not None
        self.rig.fake.on_event(event)
        self.error = ABSENT


def link(rec: Reconciler) -> tuple[Link, str]:
    live = rec.live(rec.desired.port("dhcp"))
    return live.link, live.last_error


def with_bed(test: Callable[[Bed], Coroutine[Any, Any, None]]) -> None:
    async def main(rig: Rig) -> None:
        await test(Bed(rig))
        await asyncio.get_running_loop().shutdown_default_executor()

    before = len(os.listdir("/proc/self/fd"))
    run(main)
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors are left open"


def test_its_device_is_opened_where_the_state_says() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=True) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
        async with bed.life() as rec:  # uswitchd alone was restarted
            assert link(rec) == (Link.UP, "")
        assert bed.opened == [("tap7", "qdhcp-7", "dhcp")]
        async with bed.life() as rec:  # both were
            assert link(rec) == (Link.UP, "")
        assert bed.opened == [("tap7", "qdhcp-7", "dhcp")] * 2

    with_bed(test)


def test_one_that_is_absent_at_start_is_waited_for() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life() as rec:
            await rec.ensure_port(SPEC, create_segments=True)
        bed.error = ABSENT
        async with bed.life() as rec:
            assert link(rec) == (Link.WAITING, str(ABSENT))
            tried = len(bed.opened)
            await rec.heal()  # it has its pause
            assert len(bed.opened) == tried
            await rec.ensure_port(SPEC, create_segments=False)  # its agent asks
            assert len(bed.opened) == tried + 1 and link(rec) == (Link.WAITING, str(ABSENT))
            bed.error = None
            rec.device_news(DeviceNews("change", "net", "tap8"))
            assert not rec.wake.is_set()
            rec.device_news(DeviceNews("change", "net", "tap7"))
            assert rec.wake.is_set()
            await rec.heal()
            assert link(rec) == (Link.UP, "")

    with_bed(test)


def test_one_that_was_deleted_is_waited_for() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life() as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            bed.delete_device()
            assert link(rec)[0] is Link.WAITING and "gone" in link(rec)[1]
            await rec.heal()
            assert not bed.rig.fake.ports, "the dataplane has let go of it"
            rec._not_before.clear()
            await rec.heal()
            assert link(rec) == (Link.WAITING, str(ABSENT))
            bed.error = None
            rec._not_before.clear()
            await rec.heal()
            assert link(rec) == (Link.UP, "") and bed.rig.fake.ports

    with_bed(test)


def test_one_that_was_deleted_while_there_was_no_uswitchd() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=True) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
        bed.break_port()
        bed.error = ABSENT
        async with bed.life() as rec:
            assert rec.wake.is_set()
            await rec.heal()
            assert link(rec)[0] is Link.WAITING and not bed.rig.fake.ports
            rec._not_before.clear()
            await rec.heal()
            assert link(rec) == (Link.WAITING, str(ABSENT))

    with_bed(test)


def test_it_can_be_deleted_while_it_waits() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life() as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            bed.delete_device()
            assert await rec.delete_port("dhcp")
            await rec.heal()
            assert not rec.desired.ports and not bed.rig.fake.ports

    with_bed(test)
