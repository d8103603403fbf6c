# SPDX-License-Identifier: Apache-2.0
"""Desired uplinks that wait, come, go and come back: reconciler and fabric together."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from tests.unit.daemon.fabric_rig import Rig, run
from tests.unit.daemon.uplink.kernel_rig import NIC, Opener
from vif_uswitch.api.types import TrunkRow, UplinkSpec
from vif_uswitch.daemon.defaults import PortDefaults
from vif_uswitch.daemon.model import Link
from vif_uswitch.daemon.reconcile import Reconciler
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink.port import Adapters
from vif_uswitch.daemon.uplink.watch import DeviceNews
from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import Event
from vif_uswitch.dataplane.native import break_name
from vif_uswitch.exceptions import NotFound, Unavailable

GONE = next(number for number in range(1, 16) if break_name(number) == "device_gone")
SPEC = UplinkSpec(name="up0", pci=NIC, physnet="p0", trunk=(TrunkRow(vid=7, segment="blue"),))
ABSENT = NotFound("PCI device", NIC, "does not exist")
CAME = DeviceNews("add", "pci", NIC)


class Bed:
    """A directory with a state file, and lives of uswitchd in it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.opener = Opener()
        rig.adapters = Adapters(
            open_vfio=self.opener, ids=lambda _: "8086:10c9", ifindex=lambda _: 7,
            open_xdp=lambda _name, queues: [os.open("/dev/null", os.O_RDWR) for _ in range(queues)],
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def life(self, keep_dataplane: bool = True) -> AsyncIterator[Reconciler]:
        store = StateStore(self.rig.directory)
        fabric = await self.rig.start()
        rec = Reconciler(self.rig.directory, PortDefaults(), store, store.load(), fabric)
        fabric.on_event = rec.port_event
        fabric.on_lost_port = rec.port_lost
        try:
            await rec.replay()
            yield rec
        finally:
            await fabric.stop(keep_dataplane)

    def unplug(self) -> None:
        """The adapter is pulled out: the dataplane tells."""
        fake = self.rig.fake
        port_id = next(iter(fake.ports))
        fake._with_page(fake.ports[port_id], lambda page: setattr(page, "broken", GONE))
        assert fake.on_event is not None
        fake.on_event(Event(layout.EVENT_PORT_BROKEN, port_id, 0, "device_gone", 0))


def link(rec: Reconciler) -> tuple[Link, str]:
    live = rec.live(rec.desired.port("up0"))
    return live.link, live.last_error


def with_bed(test: Callable[[Bed], Coroutine[Any, Any, None]]) -> None:
    async def main(rig: Rig) -> None:
        await test(Bed(rig))

    before = len(os.listdir("/proc/self/fd"))
    run(main)
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors are left open"


def test_adding_one_that_is_absent_changes_nothing() -> None:
    async def test(bed: Bed) -> None:
        bed.opener.error = ABSENT
        async with bed.life(keep_dataplane=False) as rec:
            with pytest.raises(NotFound, match="does not exist"):
                await rec.ensure_port(SPEC, create_segments=True)
            assert not rec.desired.ports and not StateStore(bed.rig.directory).load().ports

    with_bed(test)


def test_uplinks_outlive_uswitchd_and_dataplane() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            assert link(rec) == (Link.UP, "")
            before = rec.desired
        async with bed.life() as rec:  # both died
            assert rec.desired == before and link(rec) == (Link.UP, "")
        async with bed.life(keep_dataplane=False) as rec:  # uswitchd alone died
            assert rec.desired == before and link(rec) == (Link.UP, "")
        assert bed.opener.opened == [NIC, NIC]

    with_bed(test)


def test_one_that_is_absent_at_start_waits_and_is_opened_when_it_comes() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
        bed.opener.error = ABSENT
        async with bed.life(keep_dataplane=False) as rec:
            assert link(rec) == (Link.WAITING, str(ABSENT))
            tried = len(bed.opener.opened)
            await rec.heal()  # it has its pause
            assert len(bed.opener.opened) == tried
            bed.opener.error = None
            rec.device_news(DeviceNews("add", "pci", "0000:06:00.0"))
            assert not rec.wake.is_set()
            rec.device_news(CAME)
            assert rec.wake.is_set()
            await rec.heal()
            assert link(rec) == (Link.UP, "")
            rec.wake.clear()
            rec.device_news(CAME)  # nobody waits any more
            assert not rec.wake.is_set()

    with_bed(test)


def test_a_link_that_changed_is_looked_at() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            await rec.ensure_port(UplinkSpec(name="up1", ifname="eth7"), create_segments=True)

            def looks(name: str) -> int:
                page = rec.live(rec.desired.port(name)).nic
                assert page is not None
                return sum(page.counters.values())

            before = looks("up1")
            rec.link_changed("eth8")
            assert not rec._changed_links
            for seen, changed in enumerate(("eth7", ""), 1):
                rec.link_changed(changed)
                rec.link_changed(changed)
                assert rec._looking is not None
                await rec._looking
                assert looks("up1") == before + 2 * seen, "not before and after the change"
            assert looks("up0") == 0, "an adapter of our own tells by itself"

    with_bed(test)


def test_one_that_is_pulled_out_waits_for_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            bed.unplug()
            assert rec.wake.is_set()
            assert link(rec) == (Link.WAITING, "the device is gone")
            await rec.heal()
            assert not bed.rig.fake.ports and not bed.rig.fake.escrow
            assert bed.opener.opened == [NIC], "it was not tried again at once"
            bed.opener.error = ABSENT
            rec.device_news(CAME)
            await rec.heal()
            assert link(rec) == (Link.WAITING, str(ABSENT))
            bed.opener.error = None
            rec.device_news(CAME)
            await rec.heal()
            assert link(rec) == (Link.UP, "")
            assert bed.rig.fake.ports[0].tags == [(7, 1)]

    with_bed(test)


def test_counters_go_on_when_it_comes_back() -> None:
    """Pulled out, and later laid out anew: one uplink, one count, and the same while it is away."""

    def count(page: Any) -> None:
        getattr(page, "in")[0].frames += 7
        page.out[0].frames += 5

    async def test(bed: Bed) -> None:
        def frames(rec: Reconciler) -> tuple[int, int]:
            live = rec.live(rec.desired.port("up0"))
            return live.incoming.frames, live.outgoing.frames

        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            bed.rig.fake._with_page(bed.rig.fake.ports[0], count)
            bed.unplug()
            assert frames(rec) == (7, 5)
            await rec.heal()
            assert not bed.rig.fake.ports and frames(rec) == (7, 5)
            bed.opener.error = ABSENT
            rec.device_news(CAME)
            await rec.heal()
            assert link(rec)[0] is Link.WAITING and frames(rec) == (7, 5)
            bed.opener.error = None
            rec.device_news(CAME)
            await rec.heal()
            assert link(rec) == (Link.UP, "") and frames(rec) == (7, 5)
            bed.rig.fake._with_page(bed.rig.fake.ports[0], count)
            await rec.ensure_port(UplinkSpec(name="up0", pci=NIC, mtu=9000), False)
            assert link(rec) == (Link.UP, "") and frames(rec) == (14, 10)
            assert await rec.delete_port("up0")
            await rec.ensure_port(SPEC, create_segments=True)
            assert frames(rec) == (0, 0)
            bed.unplug()
            await rec.heal()
            assert await rec.delete_port("up0")
            await rec.ensure_port(SPEC, create_segments=True)
            assert frames(rec) == (0, 0)
            bed.unplug()
            await rec.heal()  # its page is closed with the rest

    with_bed(test)


def test_its_pause_ends_without_news_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            bed.unplug()
            await rec.heal()
            rec._not_before["up0"] = 0.0
            await rec.heal()
            assert link(rec) == (Link.UP, "")

    with_bed(test)


@pytest.mark.parametrize("ensure", [True, False])
def test_one_that_is_lost_is_deleted_or_asked_for_again_before_anybody_healed(ensure: bool) -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            bed.unplug()
            if ensure:
                changed = UplinkSpec(name="up0", pci=NIC, description="again")
                await rec.ensure_port(changed, create_segments=False)
                await rec.heal()
                assert link(rec) == (Link.UP, "") and bed.opener.opened == [NIC, NIC]
            else:
                assert await rec.delete_port("up0")
                await rec.ensure_port(UplinkSpec(name="other", pci=NIC), create_segments=False)
                await rec.heal()
                assert list(bed.rig.fake.ports) == [0]

    with_bed(test)


def test_a_change_that_the_adapter_refuses_leaves_it_as_it_was() -> None:
    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
            before = rec.desired
            bed.opener.error = Unavailable("adapter", NIC, "not now")
            with pytest.raises(Unavailable, match="not now"):
                await rec.ensure_port(UplinkSpec(name="up0", pci=NIC, queues=2), False)
            assert rec.desired == before
            assert link(rec) == (Link.WAITING, "adapter 0000:05:00.0: not now")
            bed.opener.error = None
            rec.device_news(CAME)
            await rec.heal()
            assert link(rec) == (Link.UP, "")
            assert bed.rig.fake.ports[0].nic.n_queues == 1

    with_bed(test)


def test_many_lives_in_any_order() -> None:
    """Whatever dies and whenever, what was answered is there in the end."""

    async def test(bed: Bed) -> None:
        async with bed.life(keep_dataplane=False) as rec:
            await rec.ensure_port(SPEC, create_segments=True)
        for number in range(8):
            async with bed.life(keep_dataplane=bool(number & 1)) as rec:
                if number & 2:
                    bed.rig.fake.kill()
                    await asyncio.sleep(0)
                if number & 4:
                    await rec.ensure_port(UplinkSpec(name="up0", pci=NIC, mtu=1000 + number), False)
                want = rec.desired
            assert StateStore(bed.rig.directory).load() == want
        async with bed.life(keep_dataplane=False) as rec:
            assert link(rec)[0] is Link.UP
            assert bed.rig.fake.ports[0].limits["max_frame"] == 1007 + 14

    with_bed(test)
