# SPDX-License-Identifier: Apache-2.0
"""Ports whose peer is a network adapter.

``NicPort`` owns the file descriptors of a VFIO device: every new dataplane
gets the same ones, and the next uswitchd finds them in escrow.  ``XdpPort``
owns nothing: the sockets belong to the dataplane that has them, and the next
one gets new ones.

A fenced adapter is reset after a pause that grows while that does not help.
One that is gone, or that a new dataplane cannot start, is given up: the
reconciler takes the port away and tries again later, from the beginning.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.fabric_port import KINDS, FabricPort, Surroundings
from vif_uswitch.daemon.model import Link, PortConfig, PortLive
from vif_uswitch.daemon.tap import TapOpener
from vif_uswitch.daemon.uplink import memlock, pci, vfio
from vif_uswitch.daemon.uplink.backoff import Backoff
from vif_uswitch.daemon.uplink.refusal import AdapterRefused, explain
from vif_uswitch.daemon.uplink.vfio import VfioDevice
from vif_uswitch.daemon.uplink.xdp_sockets import open_xdp_sockets
from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import (
    Dataplane,
    DataplaneGone,
    DataplaneRefused,
    EscrowEntry,
    Event,
    NicSetup,
)
from vif_uswitch.dataplane.statepage import StatePage
from vif_uswitch.exceptions import USwitchError

GONE = "device_gone"
READ_S = 0.5  # how long an answer with counters may wait for the adapter


@dataclass(frozen=True, slots=True)
class Adapters:
    """How adapters are opened; tests have another way."""

    open_vfio: Callable[[str], VfioDevice] = vfio.open_device
    open_xdp: Callable[[str, int], Sequence[int]] | None = open_xdp_sockets
    open_tap: Callable[[str, str, str], int] = field(default_factory=TapOpener)
    ifindex: Callable[[str], int] = socket.if_nametoindex
    ids: Callable[[str], str] = pci.ids
    memlock: Callable[[], int] = memlock.limit
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class UplinkPort(FabricPort):
    """What both kinds have in common."""

    def __init__(
        self, config: PortConfig, page: StatePage, around: Surroundings, adapters: Adapters
    ) -> None:
        super().__init__(config, page, around)
        self.adapters = adapters
        self._reading: asyncio.Task[None] | None = None

    def setup(self, queues: int) -> NicSetup:
        config = self.config
        flags = config.zero_copy * layout.NIC_ZERO_COPY | config.lro * layout.NIC_LRO
        return NicSetup(queues, config.ring_size, config.irq_us, flags)

    async def _add(self, dataplane: Dataplane, queues: int) -> None:
        config = self.config
        await dataplane.port_add(
            self.port_id, KINDS[config.kind], flood_rate=config.flood_rate,
            flood_burst=config.flood_burst, fdb_quota=config.fdb_quota,
            max_frame=config.max_frame, rate=config.rate, nic=self.setup(queues),
            state_fd=self.page.fd, device_fds=self.device_fds,
        )  # fmt: skip

    def _explain(self, error: DataplaneRefused) -> AdapterRefused:
        return explain(error, self.config, self.adapters.ids(self.config.pci))

    async def read(self) -> None:
        """Brings link and counters in the state page up to date, if that is quick."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.wait({self._reading}, timeout=READ_S)

    async def _read(self) -> None:
        with suppress(DataplaneRefused, DataplaneGone):
            if self.dataplane is not None:
                await self.dataplane.nic_read(self.port_id)

    def fenced(self, event: Event) -> None:
        super().fenced(event)
        self._recover(gone=event.reason == GONE)

    def _recover(self, gone: bool) -> None:
        broken = self.page.broken()
        self.around.lost(self.port_id, broken.text if broken is not None else "it failed")

    def live(self) -> PortLive:
        found = super().live()
        if found.link is Link.WAITING and not found.last_error and self.dataplane is not None:
            why = "no link: nothing is plugged in, or the other end is down"
            return replace(found, last_error=why)
        return found

    def _live(self) -> PortLive:
        if self.dataplane is None:
            return PortLive()
        nic = self.page.nic()
        up = nic is not None and nic.link_up
        return PortLive(link=Link.UP if up else Link.WAITING, nic=nic)


class NicPort(UplinkPort):
    """An adapter behind VFIO.  Owns the device's file descriptors."""

    def __init__(
        self, config: PortConfig, page: StatePage, around: Surroundings, adapters: Adapters,
        device: VfioDevice,
    ) -> None:  # fmt: skip
        super().__init__(config, page, around, adapters)
        self._device = device
        self._backoff = Backoff()
        self._recovery: asyncio.Task[None] | None = None

    @classmethod
    async def make(cls, config: PortConfig, around: Surroundings, adapters: Adapters) -> NicPort:
        device = await asyncio.to_thread(adapters.open_vfio, config.pci)
        try:
            return cls(config, StatePage.make(config.port_id), around, adapters, device)
        except BaseException:
            device.close()
            raise

    @classmethod
    def adopt(
        cls, config: PortConfig, page: StatePage, around: Surroundings, adapters: Adapters,
        entry: EscrowEntry | None,
    ) -> NicPort:  # fmt: skip
        """Takes ``page`` and the fds of ``entry``, which an earlier uswitchd left."""
        try:
            if entry is None:
                raise escrow.BadBlob("its device is missing")
            record = escrow.decode(escrow.DeviceRecord, entry.blob)
            if len(entry.fds) != (2 if record.iommufd else 3):
                raise escrow.BadBlob(f"{len(entry.fds)} fds for its device")
        except escrow.BadBlob:
            page.close()
            for fd in entry.fds if entry is not None else ():
                os.close(fd)
            raise
        return cls(
            config, page, around, adapters, VfioDevice(config.pci, record.iommufd, entry.fds)
        )

    @property
    def pinned(self) -> int:
        """Bytes of memory that the adapter can reach."""
        nic = self.page.nic() if self.dataplane is not None else None
        return nic.pool_bytes if nic is not None else 0

    @property
    def device_fds(self) -> tuple[int, ...]:
        return self._device.fds[:2]

    def _explain(self, error: DataplaneRefused) -> AdapterRefused:
        if error.errno != errno.EDQUOT:
            return super()._explain(error)
        # The dataplane wrote down what it asked for.
        nic = self.page.nic()
        short = memlock.too_small(
            self.config, nic.pool_bytes if nic is not None else 0, self.around.pinned(),
            self.adapters.memlock(),
        )  # fmt: skip
        return AdapterRefused(errno.EDQUOT, short.what, short.value, short.why, short.todo)

    def setup(self, queues: int) -> NicSetup:
        found = super().setup(queues)
        return replace(found, flags=found.flags | self._device.iommufd * layout.NIC_IOMMUFD)

    async def _port_add(self, dataplane: Dataplane) -> None:
        """With fewer queues, if the adapter has not as many and nobody insists."""
        queues = self.config.queues
        while True:
            try:
                await self._add(dataplane, queues)
                return
            except DataplaneRefused as error:
                if error.errno != errno.EINVAL or self.config.insist or queues == 1:
                    raise self._explain(error) from error
            queues //= 2

    async def _introduce(self, dataplane: Dataplane) -> None:
        await self._put(dataplane, escrow.SLOT_DEVICE)
        await super()._introduce(dataplane)

    def entry(self, slot: int) -> tuple[escrow.Record, tuple[int, ...]]:
        if slot == escrow.SLOT_DEVICE:
            return escrow.DeviceRecord(self._device.iommufd), self._device.fds
        return escrow.PortRecord.of(self.config), (self.page.fd,)

    # ---- recovery ----

    async def heal(self) -> None:
        """One that was fenced while there was no uswitchd."""
        broken = self.page.broken()
        if broken is not None and self.dataplane is not None:
            self._recover(gone=broken.reason == GONE)

    def _recover(self, gone: bool) -> None:
        if gone:
            super()._recover(gone)
        elif self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._reset())

    async def _reset(self) -> None:
        """Until it works, or is gone, or the dataplane is: a new one starts it anyway."""
        while self.dataplane is not None and self.page.broken() is not None:
            pause = self._backoff.pause(time.monotonic())
            self.say(f"will be reset in {pause:g} s")
            await self.adapters.sleep(pause)
            async with self.lock:
                if self.dataplane is None or not await self._try_reset(self.dataplane):
                    return

    async def _try_reset(self, dataplane: Dataplane) -> bool:
        """Under the lock.  Whether there is reason to look at it again."""
        try:
            await dataplane.nic_reset(self.port_id)
        except DataplaneGone:
            self.detach(dataplane)
            return False
        except DataplaneRefused as error:
            refused = self._explain(error)
            self.last_error = str(refused)
            if error.errno in (errno.ENODEV, errno.ENXIO):
                self.around.lost(self.port_id, str(refused))
                return False
            self.say(f"the reset failed: {refused}")
            return True
        self.last_error = ""
        self.say("was reset and works again")
        return True

    def _let_go_of_peer(self) -> None:
        self._forget_peer()

    def _forget_peer(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        self._device.close()


class XdpPort(UplinkPort):
    """A device of the kernel, by AF_XDP sockets that somebody with the right to do so opens."""

    def __init__(
        self, config: PortConfig, page: StatePage, around: Surroundings, adapters: Adapters
    ) -> None:
        super().__init__(config, page, around, adapters)
        self._sockets: tuple[int, ...] = ()  # only while a dataplane is told of them
        self._ifindex = 0

    def setup(self, queues: int) -> NicSetup:
        return replace(super().setup(queues), ifindex=self._ifindex)

    @classmethod
    def make(cls, config: PortConfig, around: Surroundings, adapters: Adapters) -> XdpPort:
        return cls(config, StatePage.make(config.port_id), around, adapters)

    @property
    def device_fds(self) -> tuple[int, ...]:
        return self._sockets

    async def _port_add(self, dataplane: Dataplane) -> None:
        try:
            self._sockets = await self._open()
            await self._add(dataplane, len(self._sockets))
        except DataplaneRefused as error:
            raise self._explain(error) from error
        finally:
            # A socket that we kept would hold its queue against the next dataplane.
            sockets, self._sockets = self._sockets, ()
            for fd in sockets:
                os.close(fd)

    async def _open(self) -> tuple[int, ...]:
        ifname, open_xdp = self.config.ifname, self.adapters.open_xdp
        if open_xdp is None:
            raise AdapterRefused(
                errno.ENOTSUP, "network device", ifname, "this uswitchd has no AF_XDP sockets",
                "Give the PCI address of an adapter: --pci",
            )  # fmt: skip
        try:
            self._ifindex = self.adapters.ifindex(ifname)
            return tuple(await asyncio.to_thread(open_xdp, ifname, self.config.queues))
        except USwitchError as error:
            raise AdapterRefused(
                errno.EACCES, error.what, error.value, error.why, error.todo
            ) from error
        except OSError as error:
            raise AdapterRefused(
                error.errno or errno.EIO, "network device", ifname,
                f"its AF_XDP sockets cannot be had: {error.strerror or error}",
                "See the log of the helper that opens them.",
            ) from error  # fmt: skip
