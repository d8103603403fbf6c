# SPDX-License-Identifier: Apache-2.0
"""Uplinks in the fabric: over dataplanes and uswitchds that die, resets, links, refusals."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.daemon.fabric_rig import Rig, run, until
from tests.unit.daemon.uplink.kernel_rig import NIC, Opener
from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.fabric import Fabric
from vif_uswitch.daemon.model import Kind, Link, PortConfig, TagRow
from vif_uswitch.daemon.uplink.port import Adapters
from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import DataplaneRefused, Event, NicSetup
from vif_uswitch.dataplane.native import break_name
from vif_uswitch.exceptions import Unavailable

PORT = 3
REASONS = {break_name(number): number for number in range(1, 16)}
Test = Callable[["Bed", Fabric], Coroutine[Any, Any, None]]


def nic(port_id: int = PORT, **changes: Any) -> PortConfig:
    values: dict[str, Any] = {
        "port_id": port_id, "name": f"up{port_id}", "kind": Kind.NIC, "pci": NIC,
        "tags": (TagRow(100, 5),), "queues": 2, "irq_us": 20,
    }  # fmt: skip
    return PortConfig(**{**values, **changes})


def xdp(**changes: Any) -> PortConfig:
    return nic(kind=Kind.XDP, pci="", ifname="eth7", irq_us=0, **changes)


class Sockets:
    """Stands for the helper that opens AF_XDP sockets."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.fds: list[int] = []
        self.error: Exception | None = None

    def __call__(self, ifname: str, queues: int) -> list[int]:
        self.asked.append((ifname, queues))
        if self.error is not None:
            raise self.error
        self.fds = [os.open(os.devnull, os.O_RDWR) for _ in range(queues)]
        return self.fds


class Bed:
    """A rig with a make-believe way to adapters, whose pauses take no time."""

    def __init__(self, rig: Rig, iommufd: bool = False) -> None:
        self.rig = rig
        self.opener = Opener(iommufd)
        self.sockets = Sockets()
        self.pauses: list[float] = []
        self.allowed = 8 << 20
        rig.adapters = Adapters(
            open_vfio=self.opener, open_xdp=self.sockets, ids=lambda _: "8086:10c9",
            memlock=lambda: self.allowed, sleep=self._sleep, ifindex=lambda _: 7,
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


def with_fabric(test: Test, **how: Any) -> None:
    """Runs a test with a fabric, and looks that no descriptor is left."""

    async def main(rig: Rig) -> None:
        bed = Bed(rig, **how)
        async with rig.fabric() as fabric:
            await test(bed, fabric)

    before = len(os.listdir("/proc/self/fd"))
    run(main)
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors are left open"


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("iommufd", [False, True])
def test_an_adapter_reaches_the_dataplane(iommufd: bool) -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        port = bed.rig.fake.ports[PORT]
        assert port.kind == layout.KIND_NIC and len(port.device_fds) == 2
        assert port.nic == NicSetup(2, 0, 20, layout.NIC_IOMMUFD if iommufd else 0)
        assert port.tags == [(100, 5)] and port.limits["fdb_quota"] == 256
        blob, fds = bed.rig.fake.escrow[PORT, escrow.SLOT_DEVICE]
        assert escrow.decode(escrow.DeviceRecord, blob).iommufd == iommufd
        assert len(fds) == (2 if iommufd else 3)
        live = fabric.port_live(PORT)
        assert live.link is Link.UP and live.nic is not None and live.nic.speed_mbps == 1000
        await fabric.ensure_port(nic())  # once is enough
        assert bed.opener.opened == [NIC]
        await fabric.remove_port(PORT)
        assert not bed.rig.fake.ports and not bed.rig.fake.escrow

    with_fabric(test, iommufd=iommufd)


def test_a_new_dataplane_gets_the_same_device() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        bed.rig.fake.kill()
        await until(lambda: len(bed.rig.launcher.made) == 2 and PORT in bed.rig.fake.ports)
        await until(lambda: fabric.port_live(PORT).link is Link.UP)
        assert bed.opener.opened == [NIC]
        assert bed.rig.fake.ports[PORT].tags == [(100, 5)]

    with_fabric(test)


def test_an_adapter_that_reads_guests_is_silenced_before_they_go_on() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        await fabric.ensure_port(nic(4, pci="0000:06:00.0", zero_copy=True))
        bed.rig.launcher._configure = lambda fake: setattr(fake, "delay_s", 0.001)
        bed.rig.fake.kill()
        await until(lambda: len(bed.rig.launcher.made) == 2 and PORT in bed.rig.fake.ports)
        calls = [(name, what[0]) for name, *what in bed.rig.fake.calls if what]
        assert calls.index(("port_tags", 4)) < calls.index(("port_add", PORT))

    with_fabric(test)


@pytest.mark.parametrize("iommufd", [False, True])
def test_a_new_uswitchd_takes_the_device_over(iommufd: bool) -> None:
    async def main(rig: Rig) -> None:
        bed = Bed(rig, iommufd)
        fabric = await rig.start()
        await fabric.ensure_port(nic())
        await fabric.stop(keep_dataplane=True)
        first = rig.fake
        async with rig.fabric() as fabric:
            assert fabric.adopted_ports() == [PORT]
            calls = len(first.calls)
            await fabric.ensure_port(nic())
            assert "port_add" not in [name for name, *_ in first.calls[calls:]]
            assert fabric.port_live(PORT).link is Link.UP
            first.kill()  # and what it took over is enough for the next dataplane
            await until(lambda: rig.fake is not first and PORT in rig.fake.ports)
            assert len(rig.fake.ports[PORT].device_fds) == 2
        assert bed.opener.opened == [NIC]

    before = len(os.listdir("/proc/self/fd"))
    run(main)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_entry_without_its_device_is_dropped_and_the_port_made_anew() -> None:
    async def main(rig: Rig) -> None:
        bed = Bed(rig)
        fabric = await rig.start()
        await fabric.ensure_port(nic())
        await fabric.stop(keep_dataplane=True)
        _, fds = rig.fake.escrow.pop((PORT, escrow.SLOT_DEVICE))
        for fd in fds:
            os.close(fd)
        async with rig.fabric() as fabric:
            assert fabric.adopted_ports() == []
            await fabric.ensure_port(nic())
            assert fabric.port_live(PORT).link is Link.UP
        assert bed.opener.opened == [NIC, NIC]

    before = len(os.listdir("/proc/self/fd"))
    run(main)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_entry_with_too_few_descriptors_is_dropped() -> None:
    async def main(rig: Rig) -> None:
        Bed(rig)
        fabric = await rig.start()
        await fabric.ensure_port(nic())
        await fabric.stop(keep_dataplane=True)
        blob, fds = rig.fake.escrow[PORT, escrow.SLOT_DEVICE]
        os.close(fds[-1])
        rig.fake.escrow[PORT, escrow.SLOT_DEVICE] = (blob, fds[:-1])
        async with rig.fabric() as fabric:
            assert fabric.adopted_ports() == []

    before = len(os.listdir("/proc/self/fd"))
    run(main)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_device_that_cannot_be_opened_is_the_callers_to_know() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        bed.opener.error = Unavailable("adapter", NIC, "is on holiday")
        with pytest.raises(Unavailable, match="on holiday"):
            await fabric.ensure_port(nic())
        assert not bed.rig.fake.calls or bed.rig.fake.calls[-1][0] != "port_add"
        assert not bed.rig.fake.ports

    with_fabric(test)


@pytest.mark.parametrize(
    ("number", "changes", "words"),
    [
        (errno.ENODEV, {}, (f"{NIC} (8086:10c9)", "no driver", "AF_XDP: --ifname",
                            f"unbind {NIC}")),
        (errno.EINVAL, {"ring_size": 7}, ("2 queue pairs, rings of 7 and an MTU of 1500",
                                         "--queues 1")),
        (errno.EINVAL, {}, ("rings of its default size",)),
        (errno.ENOTSUP, {"zero_copy": True}, ("guests' memory", "--zero-copy")),
        (errno.ENOTSUP, {}, ("does not answer as such a device does",)),
        (errno.EIO, {}, ("does not answer as such a device does",)),
        (errno.ENOSPC, {}, (os.strerror(errno.ENOSPC), "log")),
        (errno.EDQUOT, {}, ("RLIMIT_MEMLOCK of uswitchd is 8 MiB", "LimitMEMLOCK=",
                            "/etc/security/limits.conf")),
    ],
)  # fmt: skip
def test_what_a_dataplane_refuses_becomes_a_sentence(
    number: int, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        bed.rig.fake.refuse["port_add"] = number
        with pytest.raises(DataplaneRefused) as caught:
            await fabric.ensure_port(nic(**changes))
        for word in words:
            assert word in str(caught.value)
        assert caught.value.errno == number
        assert not bed.rig.fake.escrow

    with_fabric(test)


def test_how_much_locked_memory_is_needed_beside_other_uplinks() -> None:
    """The need is in the state page when the kernel has said no."""

    def say_need(fake: Any, port: Any, need: int) -> None:
        def write(page: Any) -> None:
            page.nic.driver, page.nic.pool_bytes = b"igb", need

        fake._with_page(port, write)

    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        fake = bed.rig.fake
        say_need(fake, fake.ports[PORT], 6 << 20)
        real = fake.port_add

        async def refuse(port_id: int, kind: int, **more: Any) -> None:
            await real(port_id, kind, **more)
            say_need(fake, fake.ports[port_id], (10 << 20) + 1)
            await fake.port_del(port_id)
            raise DataplaneRefused("port_add", errno.EDQUOT)

        fake.port_add = refuse  # type: ignore[method-assign]
        with pytest.raises(DataplaneRefused) as caught:
            await fabric.ensure_port(nic(4, pci="0000:06:00.0"))
        text = str(caught.value)
        assert "needs 11 MiB of locked memory beside the 6 MiB of other uplinks" in text
        assert "LimitMEMLOCK=17M" in text and "memlock 17408'" in text
        bed.allowed = -1
        with pytest.raises(DataplaneRefused, match="it may not"):
            await fabric.ensure_port(nic(4, pci="0000:06:00.0", zero_copy=True))

    with_fabric(test)


def test_fewer_queues_where_nobody_insists() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        fake = bed.rig.fake
        real, tried = fake.port_add, []

        async def two_at_most(port_id: int, kind: int, **more: Any) -> None:
            tried.append(more["nic"].n_queues)
            if tried[-1] > 2:
                raise DataplaneRefused("port_add", errno.EINVAL)
            await real(port_id, kind, **more)

        fake.port_add = two_at_most  # type: ignore[method-assign]
        with pytest.raises(DataplaneRefused, match="8 queue pairs"):
            await fabric.ensure_port(nic(queues=8))
        assert tried == [8]
        await fabric.ensure_port(nic(queues=8, insist=False))
        assert tried == [8, 8, 4, 2]
        live = fabric.port_live(PORT)
        assert live.nic is not None and live.nic.queues == 2

    with_fabric(test)


def test_flags_reach_the_dataplane() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic(zero_copy=True, lro=True))
        flags = bed.rig.fake.ports[PORT].nic.flags
        assert flags == layout.NIC_ZERO_COPY | layout.NIC_LRO

    with_fabric(test)


def test_what_lies_in_rings_needs_a_new_start_and_the_rest_does_not() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        await fabric.ensure_port(nic(tags=(TagRow(4096, 9),), flood_rate=5))
        fake = bed.rig.fake
        assert fake.ports[PORT].tags == [(4096, 9)] and fake.ports[PORT].limits["flood_rate"] == 5
        assert bed.opener.opened == [NIC]
        changes: list[dict[str, Any]] = [
            {"queues": 1}, {"ring_size": 64}, {"irq_us": 9}, {"lro": True}, {"mtu": 9000}
        ]  # fmt: skip
        for number, change in enumerate(changes):
            await fabric.ensure_port(nic(**change))
            assert len(bed.opener.opened) == number + 2
        assert fake.ports[PORT].limits["max_frame"] == 9014

    with_fabric(test)


# ---- recovery ----


def test_a_fenced_adapter_is_reset_after_growing_pauses() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        fake = bed.rig.fake
        fake.refuse["nic_reset"] = errno.EIO
        fake.break_port(PORT, REASONS["nic_error"])
        live = fabric.port_live(PORT)
        assert live.link is Link.BROKEN and live.broken_reason == "nic_error"
        await until(lambda: len(bed.pauses) >= 9)
        assert bed.pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
        del fake.refuse["nic_reset"]
        await until(lambda: fabric.port_live(PORT).link is Link.UP)
        found = fabric.port_live(PORT).nic
        assert found is not None and found.resets == 1
        assert fabric.port_live(PORT).last_error == ""
        said = [sentence for _, sentence in bed.rig.news]
        assert any(sentence.startswith("fenced") for sentence in said)
        assert "will be reset in 1 s" in said
        assert not bed.rig.lost and bed.opener.opened == [NIC]

    with_fabric(test)


def test_one_that_was_fenced_without_a_uswitchd_is_reset_by_the_next() -> None:
    async def main(rig: Rig) -> None:
        bed = Bed(rig)
        fabric = await rig.start()
        await fabric.ensure_port(nic())
        await fabric.stop(keep_dataplane=True)
        rig.fake.on_event = None
        rig.fake.break_port(PORT, REASONS["nic_descriptor"])
        async with rig.fabric() as fabric:
            await until(lambda: fabric.port_live(PORT).link is Link.UP)
        assert bed.pauses == [1]

    run(main)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO])
def test_a_reset_that_finds_no_device(number: int) -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        bed.rig.fake.refuse["nic_reset"] = number
        bed.rig.fake.break_port(PORT, REASONS["nic_error"])
        await until(lambda: bed.rig.lost)
        assert bed.rig.lost[0][0] == PORT and NIC in bed.rig.lost[0][1]

    with_fabric(test)


def test_the_dataplane_dies_instead_of_a_reset() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        first = bed.rig.fake
        first.die_at = len(first.calls) + 1
        first.break_port(PORT, REASONS["nic_error"])
        await until(lambda: bed.rig.fake is not first and PORT in bed.rig.fake.ports)
        await until(lambda: fabric.port_live(PORT).link is Link.UP)

    with_fabric(test)


def test_a_device_that_is_gone_is_given_up() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        fake = bed.rig.fake
        fake._with_page(
            fake.ports[PORT], lambda page: setattr(page, "broken", REASONS["device_gone"])
        )
        assert fake.on_event is not None
        fake.on_event(Event(layout.EVENT_PORT_BROKEN, PORT, 0, "device_gone", 0))
        assert bed.rig.lost == [(PORT, "the device is gone")]
        await fabric.remove_port(PORT)
        assert not fake.ports and not fake.escrow

    with_fabric(test)


def test_a_new_dataplane_that_cannot_start_it() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        configure = bed.rig.launcher._configure
        assert configure is None
        bed.rig.launcher._configure = lambda fake: fake.refuse.update(port_add=errno.EIO)
        bed.rig.fake.kill()
        await until(lambda: bed.rig.lost)
        assert "does not answer" in bed.rig.lost[0][1]

    with_fabric(test)


# ---- link and counters ----


def test_the_link_goes_down_and_up() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        bed.rig.fake.set_link(PORT, up=False)
        live = fabric.port_live(PORT)
        assert live.link is Link.WAITING and "nothing is plugged in" in live.last_error
        bed.rig.fake.set_link(PORT, up=True, speed_mbps=10000)
        live = fabric.port_live(PORT)
        assert live.link is Link.UP and live.last_error == ""
        assert live.nic is not None and (live.nic.speed_mbps, live.nic.link_changes) == (10000, 2)
        assert bed.rig.news == [(PORT, "link down"), (PORT, "link up at 10000 Mbit/s")]

    with_fabric(test)


def test_counters_are_read_and_a_slow_dataplane_only_makes_them_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(nic())
        await fabric.read_adapters([PORT, 77])
        fake = bed.rig.fake

        def packets() -> int:
            live = fabric.port_live(PORT)
            assert live.nic is not None
            return live.nic.counters["rx_packets"]

        assert packets() == 1
        fake.refuse["nic_read"] = errno.EIO
        await fabric.read_adapters([PORT])
        assert packets() == 1
        fake.refuse.clear()
        monkeypatch.setattr("vif_uswitch.daemon.uplink.port.READ_S", 0.01)
        fake.hang = True
        before = len(fake.calls)
        await fabric.read_adapters([PORT])
        await fabric.read_adapters([PORT])
        assert packets() == 1 and len(fake.calls) == before + 1, "one question at a time"
        fake.hang = False

    with_fabric(test)


# ---- AF_XDP ----


def test_every_dataplane_gets_new_sockets_and_nobody_else_keeps_them() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(xdp())
        port = bed.rig.fake.ports[PORT]
        assert port.kind == layout.KIND_XDP and len(port.device_fds) == 2
        assert port.nic == NicSetup(2, 0, 0, 0, 7)
        assert not any(map(is_open, bed.sockets.fds))
        assert len(bed.rig.fake.escrow[PORT, escrow.SLOT_PORT][1]) == 1
        bed.rig.fake.kill()
        await until(lambda: len(bed.rig.launcher.made) == 2 and PORT in bed.rig.fake.ports)
        assert bed.sockets.asked == [("eth7", 2), ("eth7", 2)]
        assert not bed.opener.opened

    with_fabric(test)


def test_a_new_uswitchd_leaves_the_sockets_alone() -> None:
    async def main(rig: Rig) -> None:
        bed = Bed(rig)
        fabric = await rig.start()
        await fabric.ensure_port(xdp())
        await fabric.stop(keep_dataplane=True)
        async with rig.fabric() as fabric:
            await fabric.ensure_port(xdp())
            assert fabric.port_live(PORT).link is Link.UP
        assert bed.sockets.asked == [("eth7", 2)]

    run(main)


@pytest.mark.parametrize(
    ("number", "changes", "words"),
    [
        (errno.ENODEV, {}, ("network device eth7: it is gone, or down", "ip link show eth7")),
        (errno.ENETDOWN, {}, ("it is gone, or down",)),
        (errno.EBUSY, {}, ("has a socket already",)),
        (errno.EOPNOTSUPP, {"zero_copy": True}, ("no AF_XDP zero copy", "--zero-copy")),
        (errno.EOPNOTSUPP, {}, ("CONFIG_XDP_SOCKETS",)),
        (errno.EPERM, {}, (os.strerror(errno.EPERM),)),
    ],
)
def test_what_a_dataplane_refuses_of_a_kernel_device(
    number: int, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        bed.rig.fake.refuse["port_add"] = number
        with pytest.raises(DataplaneRefused) as caught:
            await fabric.ensure_port(xdp(**changes))
        for word in words:
            assert word in str(caught.value)

    with_fabric(test)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("network device", "eth7", "nobody opens sockets", "Start it."),
         "network device eth7: nobody opens sockets. Start it."),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
         "network device eth7: its AF_XDP sockets cannot be had: Connection refused"),
        (None, "no AF_XDP sockets. .*--pci"),
    ],
)  # fmt: skip
def test_no_sockets(error: Exception | None, words: str) -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        bed.sockets.error = error
        if error is None:
            bed.rig.adapters = fabric._settings.adapters
            object.__setattr__(bed.rig.adapters, "open_xdp", None)
        with pytest.raises(DataplaneRefused, match=words):
            await fabric.ensure_port(xdp())
        assert not bed.rig.fake.escrow and not bed.rig.fake.ports

    with_fabric(test)


def test_a_kernel_device_that_fails_is_made_anew() -> None:
    async def test(bed: Bed, fabric: Fabric) -> None:
        await fabric.ensure_port(xdp())
        bed.rig.fake.break_port(PORT, REASONS["nic_error"])
        assert [port_id for port_id, _ in bed.rig.lost] == [PORT]
        await fabric.remove_port(PORT)
        await fabric.ensure_port(replace(xdp(), tags=()))
        assert len(bed.sockets.asked) == 2

    with_fabric(test)
