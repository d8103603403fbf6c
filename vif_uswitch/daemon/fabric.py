# SPDX-License-Identifier: Apache-2.0
"""The fabric: ports as they are, over whichever dataplane runs.

``reconcile.py`` says which ports shall be (``ensure_port``, ``remove_port``)
and reads what is true of them.  The fabric holds for every port all that a
dataplane must know, so that one can die at any instant: the supervisor starts
another, ``_on_up`` tells it everything, and the guests' rings go on.  At start
it looks for a dataplane that outlived an earlier uswitchd and takes its ports,
sockets and sessions over as they are.

Everything belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.fabric_port import (
    FabricPort,
    Slots,
    Surroundings,
    adopted_config,
    close_entries,
    is_same_port,
)
from vif_uswitch.daemon.model import FdbEntry, Kind, PortConfig, PortLive
from vif_uswitch.daemon.supervisor import Supervisor
from vif_uswitch.daemon.tap_port import TapPort
from vif_uswitch.daemon.uplink.port import Adapters, NicPort, UplinkPort, XdpPort
from vif_uswitch.daemon.vhost.inotify import DirWatcher
from vif_uswitch.daemon.vhost.port import VhostPort
from vif_uswitch.dataplane.base import Dataplane, DataplaneGone, DataplaneRefused, Event
from vif_uswitch.dataplane.layout import PORTS_MAX
from vif_uswitch.dataplane.live import DataplaneLive, QueueLive
from vif_uswitch.dataplane.process import Command, Launcher, ProcessLauncher, Running
from vif_uswitch.dataplane.statepage import BadPage, StatePage, SwitchPage
from vif_uswitch.exceptions import InvalidInput, NotFound, Unavailable, USwitchError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FabricSettings:
    """What the configuration says about the dataplane and the vhost-user sockets."""

    run_dir: str
    dataplane_binary: str
    vhost_socket_dir: str
    workers: int = 1
    poll_us: int = 50
    cpus: tuple[int, ...] = ()
    fdb_buckets: int = 8192
    fdb_age_s: int = 300
    rebalance_ms: int = 1000
    socket_mode: int = 0o660
    socket_group: str = ""
    dataplane_log: str = ""  # file for the dataplane's stderr; empty: ours
    dataplane_factory: Callable[[Callable[[Event], None]], Launcher] | None = None  # for tests
    adapters: Adapters = field(default_factory=Adapters)


class Fabric:
    def __init__(self, settings: FabricSettings) -> None:
        self.on_event: Callable[[int, str], None] | None = None
        self.on_lost_port: Callable[[int, str], None] | None = None
        self._settings = settings
        self._ports: dict[int, FabricPort] = {}
        self._adopted: list[int] = []
        self._kept: dict[int, StatePage] = {}  # counters of uplinks that are away
        self._watcher = DirWatcher()
        self._dataplane: Dataplane | None = None
        self._switch_page: SwitchPage | None = None
        self._running_adopted = False
        self._supervisor = Supervisor(self._launcher(), self._on_up, self._on_lost)
        self._around = Surroundings(
            vhost_socket_dir=os.path.realpath(settings.vhost_socket_dir),
            socket_mode=settings.socket_mode,
            socket_gid=_gid(settings.socket_group),
            watcher=self._watcher,
            tell=self._tell,
            lost=self._lost,
            pinned=self._pinned,
            settled=self._supervisor.settled,
        )

    def _launcher(self) -> Launcher:
        s = self._settings
        if s.dataplane_factory is not None:
            return s.dataplane_factory(self._on_dataplane_event)
        command = Command(
            s.dataplane_binary, s.workers, s.poll_us, s.cpus, s.fdb_buckets, s.fdb_age_s,
            s.rebalance_ms,
        )  # fmt: skip
        return ProcessLauncher(
            s.run_dir, command, self._on_dataplane_event, s.dataplane_log or None
        )

    # ---- start and stop ----

    async def start(self) -> None:
        """Adopts a running dataplane with all its ports, or starts one."""
        running = await self._supervisor.adopt()
        if running is not None:
            try:
                await self._adopt(running)
            except DataplaneGone as error:
                self._on_lost(running, str(error))
                await self._supervisor.discard()
        await self._supervisor.run()

    async def stop(self, keep_dataplane: bool) -> None:
        """Ends uswitchd's part; with ``keep_dataplane`` packets and peers notice nothing."""
        ports = list(self._ports.values())
        self._ports.clear()
        for port in ports:
            if keep_dataplane:
                # Before the link goes: a message answered now must have reached the escrow.
                await port.forget()
            else:
                with suppress(DataplaneRefused):
                    await port.remove()
        await self._supervisor.stop(keep_dataplane)
        self._dataplane = None
        self._close_switch_page()
        self._watcher.close()
        for port_id in list(self._kept):
            self._kept.pop(port_id).close()

    # ---- ports ----

    async def ensure_port(self, config: PortConfig) -> None:
        port = self._ports.get(config.port_id)
        if port is not None and not is_same_port(port.config, config):
            same_adapter = (port.config.pci, port.config.ifname) == (config.pci, config.ifname)
            await self.remove_port(config.port_id, config.kind.is_uplink and same_adapter)
            port = None
        if port is None:
            await self._add_port(config)
            return
        await port.heal()
        if port.dataplane is None and self._dataplane is not None:
            with suppress(DataplaneGone):
                await port.attach(self._dataplane)
        if port.config != config:
            await port.change(config)

    async def _add_port(self, config: PortConfig) -> None:
        if not 0 <= config.port_id < PORTS_MAX:
            raise InvalidInput("port id", config.port_id, f"not in 0..{PORTS_MAX - 1}")
        port = await self._make_port(config)
        if config.port_id in self._kept:
            port.page.close()
            port.page = self._kept.pop(config.port_id)
        self._ports[config.port_id] = port
        if self._dataplane is None:
            return  # _on_up() will introduce it
        try:
            await port.attach(self._dataplane)
        except DataplaneGone:
            return
        except DataplaneRefused:
            await self.remove_port(config.port_id, config.kind.is_uplink)
            raise

    async def _make_port(self, config: PortConfig) -> FabricPort:
        adapters = self._settings.adapters
        if config.kind is Kind.VHOST:
            return VhostPort.make(config, self._around)
        if config.kind is Kind.TAP:
            return await TapPort.make(config, self._around, adapters)
        if config.kind is Kind.XDP:
            return XdpPort.make(config, self._around, adapters)
        return await NicPort.make(config, self._around, adapters)

    async def remove_port(self, port_id: int, keep_counters: bool = False) -> None:
        """``keep_counters``: an uplink of this id will be there again, and go on counting."""
        port = self._ports.pop(port_id, None)
        kept = None if keep_counters else self._kept.pop(port_id, None)
        if kept is not None:
            kept.close()
        if port_id in self._adopted:
            self._adopted.remove(port_id)
        if port is None:
            return
        if keep_counters:
            self._kept[port_id] = port.page
        await port.remove(keep_counters)

    def adopted_ports(self) -> list[int]:
        """Ports found in a running dataplane."""
        return list(self._adopted)

    def port_live(self, port_id: int) -> PortLive:
        port = self._ports.get(port_id)
        if port is None and port_id in self._kept:
            page = self._kept[port_id]
            return PortLive(incoming=page.incoming(), outgoing=page.outgoing())
        return port.live() if port is not None else PortLive()

    def port_queues(self, port_id: int) -> tuple[QueueLive, ...]:
        port = self._ports.get(port_id)
        return port.page.queues() if port is not None else ()

    async def read_adapters(self, port_ids: Iterable[int]) -> None:
        """Brings what ``port_live()`` says of adapters up to date, as far as that is quick."""
        found = [self._ports.get(port_id) for port_id in port_ids]
        await asyncio.gather(*(port.read() for port in found if isinstance(port, UplinkPort)))

    def _pinned(self) -> int:
        return sum(port.pinned for port in self._ports.values() if isinstance(port, NicPort))

    # ---- the switch as a whole ----

    def dataplane_live(self) -> DataplaneLive:
        starts = self._supervisor.starts
        if self._switch_page is None or self._dataplane is None:
            return DataplaneLive(starts=starts)
        return self._switch_page.live(starts, self._running_adopted)

    async def fdb_dump(self) -> list[FdbEntry]:
        dataplane = self._need_dataplane()
        found: list[FdbEntry] = []
        cursor = 0
        while True:
            cursor, entries = await dataplane.fdb_dump(cursor)
            found += [FdbEntry(*entry) for entry in entries]
            if not cursor:
                return found

    async def fdb_flush(self, port_id: int | None, segment_id: int | None) -> int:
        return await self._need_dataplane().fdb_flush(port_id, segment_id)

    def _need_dataplane(self) -> Dataplane:
        if self._dataplane is None:
            raise Unavailable("the dataplane", None, "it is being restarted", "try again")
        return self._dataplane

    # ---- news ----

    def _tell(self, port_id: int, sentence: str) -> None:
        if self.on_event is not None:
            self.on_event(port_id, sentence)

    def _lost(self, port_id: int, why: str) -> None:
        if self.on_lost_port is not None:
            self.on_lost_port(port_id, why)

    def _on_dataplane_event(self, event: Event) -> None:
        port = self._ports.get(event.port_id)
        if port is not None:
            port.news(event)

    async def _on_up(self, running: Running) -> None:
        """A dataplane answers.  An adopted one knows its ports, a new one learns them now."""
        self._dataplane = running.dataplane
        self._running_adopted = running.adopted
        self._close_switch_page()
        if running.page_fd is not None:
            try:
                self._switch_page = SwitchPage(running.page_fd)
            except BadPage as error:
                LOG.error("the switch page is unusable: %s", error)
        # An adapter may still read guests' memory for a dead process: it is silenced before a
        # guest gets a buffer back.
        for first in (True, False):
            attaching = [
                self._attach(port, running.dataplane)
                for port in self._ports.values()
                if _reads_guests(port) is first
            ]
            await asyncio.gather(*attaching)

    async def _attach(self, port: FabricPort, dataplane: Dataplane) -> None:
        """One port's trouble is not another's."""
        try:
            await port.attach(dataplane)
        except DataplaneRefused as error:
            port.last_error = str(error)
            port.say(f"a new dataplane does not take it: {error}")
            if port.config.kind.has_device:
                self._lost(port.port_id, str(error))
        except DataplaneGone:
            return

    def _on_lost(self, running: Running, reason: str) -> None:
        self._dataplane = None
        self._close_switch_page()
        for port in self._ports.values():
            port.detach()

    def _close_switch_page(self) -> None:
        if self._switch_page is not None:
            self._switch_page.close()
            self._switch_page = None

    # ---- adoption ----

    async def _adopt(self, running: Running) -> None:
        """Ports, sockets and sessions out of escrow; a port whose entry is damaged is dropped."""
        found = await escrow.read_all(running.dataplane)
        dataplane = running.dataplane if running.usable else None
        if dataplane is None:
            LOG.warning("dataplane %d is of another build, it is replaced", running.pid)
            await self._supervisor.discard()
        for port_id, slots in found.items():
            try:
                self._ports[port_id] = self._adopt_port(slots, dataplane)
            except (escrow.BadBlob, BadPage, OSError) as error:
                LOG.error("port %d is not taken over: %s", port_id, error)
        self._adopted = sorted(self._ports)
        if dataplane is not None:
            for port_id in found.keys() - self._ports.keys():
                await dataplane.escrow_drop(port_id, None)
            if running.n_ports != len(self._ports):
                await self._sweep(dataplane)
            for port in self._ports.values():
                await self._confirm(port, dataplane)
        for port in self._ports.values():
            await self._reopen(port)
        LOG.info("took over %d ports of dataplane %d", len(self._ports), running.pid)

    async def _confirm(self, port: FabricPort, dataplane: Dataplane) -> None:
        """The last uswitchd may have died before it said what escrow has already."""
        try:
            await port.confirm()
        except DataplaneRefused as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                port.say(str(error))
            port.detach()
            await self._attach(port, dataplane)

    def _adopt_port(self, slots: Slots, dataplane: Dataplane | None) -> FabricPort:
        """Takes all fds of ``slots``.  ``dataplane``: the one that has the port, if it goes on."""
        entry = slots.pop(escrow.SLOT_PORT, None)
        if entry is None:
            close_entries(list(slots.values()))
            raise escrow.BadBlob("its configuration is missing")
        try:
            config, page, devices = adopted_config(entry, spare_page=dataplane is None)
        except BaseException:
            close_entries(list(slots.values()))
            raise
        if config.kind is Kind.TAP and len(devices) == 1:
            tap = TapPort(config, page, self._around, devices[0])
            tap.dataplane = dataplane
            return tap
        for fd in devices:
            os.close(fd)
        if config.kind is Kind.TAP:
            page.close()
            raise escrow.BadBlob("its TAP device is missing")
        if config.kind.is_uplink:
            uplink = self._adopt_uplink(config, page, slots)
            uplink.dataplane = dataplane
            return uplink
        port = VhostPort(config, page, self._around)
        port.dataplane = dataplane
        reason = port.adopt(slots)
        if reason:
            port.say(f"its peer has to connect again: {reason}")
        return port

    def _adopt_uplink(self, config: PortConfig, page: StatePage, slots: Slots) -> UplinkPort:
        adapters = self._settings.adapters
        device = slots.pop(escrow.SLOT_DEVICE, None)
        close_entries(list(slots.values()))
        if config.kind is Kind.NIC:
            return NicPort.adopt(config, page, self._around, adapters, device)
        close_entries([device] if device is not None else [])
        return XdpPort(config, page, self._around, adapters)

    async def _reopen(self, port: FabricPort) -> None:
        """The sockets of an adopted port: kept, or made anew where they were lost."""
        try:
            await port.heal()
        except USwitchError as error:
            port.last_error = str(error)
            port.say(str(error))

    async def _sweep(self, dataplane: Dataplane) -> None:
        """Ports of the dataplane that nobody knows: left by a uswitchd that died half-way."""
        for port_id in range(PORTS_MAX):
            if port_id not in self._ports:
                try:
                    await dataplane.port_del(port_id)
                except DataplaneRefused as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        raise


def _reads_guests(port: FabricPort) -> bool:
    """Whether an adapter sends from guests' memory."""
    return port.config.kind is Kind.NIC and port.config.zero_copy


def _gid(group: str) -> int:
    if not group:
        return -1
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise NotFound("the group of vhost-user sockets", group, "no such group") from None
