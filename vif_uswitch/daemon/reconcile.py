# SPDX-License-Identifier: Apache-2.0
"""Makes the desired state real and keeps it so: decide, save, act, in this order.

``service.py`` asks for changes, ``main.py`` for the replay at start and for
``heal()`` now and then, at once when ``wake`` is set.  Changes run one at a
time.  When the fabric refuses what was just saved, the former state is saved
again and the caller gets the reason.  A dataplane that dies meanwhile is no
refusal: the fabric replays everything into its successor.

An uplink whose adapter is absent, or went away, or a TAP port without its device,
is such a failure: it waits, with the reason, and is tried again when its device
appears, else after a pause that grows from one attempt to the next.

Runs in the event loop's thread, except writing the file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from vif_uswitch.api import types as api
from vif_uswitch.daemon import ports
from vif_uswitch.daemon.defaults import PortDefaults, config_of
from vif_uswitch.daemon.model import FdbEntry, Kind, Link, Mode, PortConfig, PortLive
from vif_uswitch.daemon.paths import check_socket_path
from vif_uswitch.daemon.ports import Desired, Port, Segment
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink import rows
from vif_uswitch.daemon.uplink.backoff import Backoff
from vif_uswitch.daemon.uplink.watch import DeviceNews
from vif_uswitch.daemon.vhost.stale import remove_stale
from vif_uswitch.dataplane.base import DataplaneGone
from vif_uswitch.dataplane.live import DataplaneLive, QueueLive
from vif_uswitch.exceptions import Conflict, Unavailable, USwitchError

LOG = logging.getLogger(__name__)


class Fabric(Protocol):
    """What is asked of ``fabric.Fabric``; everything is idempotent."""

    async def ensure_port(self, cfg: PortConfig) -> None: ...
    async def remove_port(self, port_id: int, keep_counters: bool = False) -> None: ...
    def adopted_ports(self) -> list[int]: ...
    def port_live(self, port_id: int) -> PortLive: ...
    def port_queues(self, port_id: int) -> tuple[QueueLive, ...]: ...
    async def read_adapters(self, port_ids: Iterable[int]) -> None: ...
    def dataplane_live(self) -> DataplaneLive: ...
    async def fdb_dump(self) -> list[FdbEntry]: ...
    async def fdb_flush(self, port_id: int | None, segment_id: int | None) -> int: ...


class Reconciler:
    """Owns the desired state."""

    def __init__(
        self,
        vhost_socket_dir: str,
        defaults: PortDefaults,
        store: StateStore,
        desired: Desired,
        fabric: Fabric,
    ) -> None:
        self.desired = desired
        self.revision = time.time_ns() // 1000  # of it; a process before had another
        self.defaults = defaults
        self.fabric = fabric
        self.vhost_socket_dir = os.path.realpath(vhost_socket_dir)  # as paths of ports begin
        self._store = store
        self._change = asyncio.Lock()
        self._failures: dict[str, str] = {}  # port name: why the fabric does not have it
        self._leftovers: set[int] = set()  # ids of deleted ports the fabric could not remove
        self._lost: dict[int, str] = {}  # ids of ports that the fabric has given up, and why
        self._backoffs: dict[str, Backoff] = {}  # ports with a device that failed, by name
        self._not_before: dict[str, float] = {}  # when to try those again
        self._changed_links: set[int] = set()  # ids of uplinks to look at
        self._created_us = max((port.created_us for port in desired.ports.values()), default=0)
        self._looking: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()  # heal() has something to do

    def live(self, port: Port) -> PortLive:
        failure = self._failures.get(port.name)
        if failure is not None and port.kind.has_device:
            counted = self.fabric.port_live(port.port_id)
            return PortLive(link=Link.WAITING, last_error=failure,
                            incoming=counted.incoming, outgoing=counted.outgoing)  # fmt: skip
        if failure is not None:
            return PortLive(link=Link.BROKEN, broken_reason="refused", broken_text=failure)
        return self.fabric.port_live(port.port_id)

    async def replay(self) -> None:
        """Makes the fabric have what is desired, and nothing else.  No port hinders another."""
        async with self._change:
            for port in self.desired.ports.values():
                await self._try_apply(port)
            wanted = {port.port_id for port in self.desired.ports.values()}
            for port_id in self.fabric.adopted_ports():
                if port_id not in wanted:
                    LOG.info("removing port id %d: it is not desired any more", port_id)
                    await self._remove(port_id)

    async def heal(self) -> None:
        """Tries again what the fabric refused at a moment when nobody could be told."""
        async with self._change:
            await self._bury_lost()
            for name in list(self._failures):
                port = self.desired.ports.get(name)
                if port and self._not_before.get(name, 0.0) <= time.monotonic():
                    await self._try_apply(port)
            for port_id in list(self._leftovers):
                await self._remove(port_id)

    async def _bury_lost(self) -> None:
        for port_id, why in list(self._lost.items()):
            await self._remove(port_id, keep_counters=True)
            for port in self.desired.ports.values():
                if port.port_id == port_id and port.name not in self._failures:
                    self._failed(port, why)

    async def _try_apply(self, port: Port) -> None:
        try:
            await self._apply(port)
            if self._failures.pop(port.name, None):
                LOG.info("port %s works now", port.name)
        except Exception as error:
            text = str(error) if isinstance(error, USwitchError | OSError) else repr(error)
            if self._failures.get(port.name) != text:
                LOG.error("port %s does not work: %s", port.name, text)
            self._failed(port, text)

    def _failed(self, port: Port, text: str) -> None:
        self._failures[port.name] = text
        if port.kind.has_device:
            now = time.monotonic()
            backoff = self._backoffs.setdefault(port.name, Backoff())
            self._not_before[port.name] = now + backoff.pause(now)

    def _forget_failure(self, name: str) -> None:
        self._failures.pop(name, None)
        self._backoffs.pop(name, None)
        self._not_before.pop(name, None)

    def port_lost(self, port_id: int, why: str) -> None:
        """The fabric cannot go on with a device: it is taken away now, and made anew later."""
        for port in self.desired.ports.values():
            if port.port_id == port_id:
                LOG.error("port %s is lost: %s", port.name, why)
                self._failed(port, why)
                self._lost[port_id] = why
                self.wake.set()

    def device_news(self, news: DeviceNews) -> None:
        """A device appeared or changed hands: whoever waits for it need not wait any longer."""
        for name in self._failures:
            port = self.desired.ports.get(name)
            if port and port.kind.has_device and news.concerns(port.pci or port.ifname):
                self._not_before.pop(name, None)
                self.wake.set()

    def link_changed(self, ifname: str) -> None:
        """A network device of the kernel ("": any) is not as it was: the dataplane shall look."""
        self._changed_links |= {
            port.port_id for port in self.desired.ports.values()
            if port.kind is Kind.XDP and ifname in ("", port.ifname)
        }  # fmt: skip
        if self._changed_links and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while self._changed_links:
            port_ids, self._changed_links = self._changed_links, set()
            for _ in range(2):  # a look that was under way already may have come too early
                await self.fabric.read_adapters(port_ids)

    async def _remove(self, port_id: int, keep_counters: bool = False) -> None:
        self._lost.pop(port_id, None)
        try:
            await self.fabric.remove_port(port_id, keep_counters)
            self._leftovers.discard(port_id)
        except DataplaneGone:
            self._leftovers.discard(port_id)
        except Exception as error:
            if port_id not in self._leftovers:
                LOG.error("port id %d cannot be removed, will try again: %r", port_id, error)
            self._leftovers.add(port_id)

    def port_event(self, port_id: int, text: str) -> None:
        """News from the fabric, for the log."""
        for port in self.desired.ports.values():
            if port.port_id == port_id:
                LOG.info("port %s: %s", port.name, text)
                return
        LOG.info("port id %d: %s", port_id, text)

    async def _commit(self, desired: Desired) -> None:
        await asyncio.to_thread(self._store.save, desired)
        self.desired = desired
        self.revision += 1

    async def _apply(self, port: Port) -> None:
        config = config_of(self.desired, port, self.defaults)
        if port.port_id in self._lost:
            await self._remove(port.port_id, keep_counters=True)
        try:
            await self.fabric.ensure_port(config)
        except DataplaneGone as error:
            LOG.warning("port %s will be there when the dataplane is back: %s", port.name, error)
        except OSError as error:
            raise Unavailable("port", port.name, f"the system refused it: {error}") from error

    async def _put(self, port: Port, create_segments: bool) -> None:
        """Makes ``port``, new or changed, desired and real; or raises, and all is as before."""
        before = self.desired
        former = before.ports.get(port.name)
        ports.check_size(port)
        await self._commit(ports.put_port(before, port, create_segments))
        try:
            await self._apply(port)
        except Exception:
            await self._take_back(before, port, former)
            raise
        self._forget_failure(port.name)

    async def _take_back(self, before: Desired, port: Port, former: Port | None) -> None:
        try:
            await self._commit(before)
        except USwitchError as error:
            LOG.error("port %s was refused, but stays in the state file: %s", port.name, error)
        if former is None:
            await self._remove(port.port_id)
        else:
            await self._try_apply(former)

    def _socket_path(self, spec: ports.Spec) -> str:
        if isinstance(spec, api.UplinkSpec):
            return ""
        if spec.type == Kind.TAP.value:
            return spec.path
        directory = self.vhost_socket_dir
        return check_socket_path(spec.path or f"{directory}/{spec.name}.sock", directory)

    async def _new(self, spec: ports.Spec, create_segments: bool) -> Port:
        path = self._socket_path(spec)
        # Even if the clock was set back: no port has the time of another.
        self._created_us = max(time.time_ns() // 1000, self._created_us + 1)
        port = ports.new_port(self.desired, spec, path, self._leftovers, self._created_us)
        await self._put(port, create_segments)
        where = port.path or port.ifname or port.pci
        LOG.info("port %s added: %s %s", port.name, port.kind.value, where)
        return port

    async def add_port(self, spec: api.PortSpec, create_segments: bool) -> Port:
        async with self._change:
            if spec.name in self.desired.ports:
                raise Conflict(
                    "port", spec.name, "exists already",
                    f"Change it (uswitchctl port set {spec.name} ...), or delete it first.",
                )  # fmt: skip
            return await self._new(spec, create_segments)

    async def ensure_port(
        self, spec: ports.Spec, create_segments: bool
    ) -> tuple[Port, Port | None]:
        """The port, and what it was before."""
        async with self._change:
            former = self.desired.ports.get(spec.name)
            if former is None:
                return await self._new(spec, create_segments), None
            ports.refuse_other(former, spec, self._socket_path(spec))
            port = ports.changed(former, spec)
            ports.refuse_static(former, port)
            await self._replace(former, port, create_segments)
            return port, former

    async def change_port(
        self, name: str, changes: api.PortChanges, create_segments: bool
    ) -> tuple[Port, Port]:
        """The port, and what it was before."""
        async with self._change:
            former = self.desired.port(name)
            port = ports.changed(former, changes)
            ports.refuse_static(former, port)
            await self._replace(former, port, create_segments)
            return port, former

    async def map_row(
        self, name: str, vid: int, segment: str | None, create_segments: bool
    ) -> tuple[Port, Port]:
        """One row of an uplink; the uplink, and what it was before."""
        async with self._change:
            former = ports.uplink(self.desired, name)
            port = rows.with_row(former, vid, segment)
            if port != former and name in self._failures:
                # Its adapter is away; who brings a row need not wait for it.
                ports.check_size(port)
                await self._commit(ports.put_port(self.desired, port, create_segments))
            else:
                await self._replace(former, port, create_segments)
            return port, former

    async def _replace(self, former: Port, port: Port, create_segments: bool) -> None:
        if port != former:
            await self._put(port, create_segments)
            LOG.info("port %s changed", port.name)
        elif port.name in self._failures:
            await self._try_apply(port)

    async def delete_port(self, name: str, only: Mapping[str, str] | None = None) -> bool:
        """Whether there was one with these external ids, now gone: at once, with no change between
        the look and the end."""
        async with self._change:
            port = self.desired.ports.get(name)
            if port is None:
                await self._remove_stale(f"{self.vhost_socket_dir}/{name}.sock")
                return False
            if only and not set(only.items()) <= set(port.external_ids):
                return False
            ports.refuse_static(port)
            await self._commit(ports.delete_port(self.desired, name))
            self._forget_failure(name)
            await self._remove(port.port_id)
            LOG.info("port %s deleted", name)
            if port.kind is Kind.VHOST and port.mode is Mode.SERVER:
                await self._remove_stale(port.path)
            return True

    async def _remove_stale(self, path: str) -> None:
        """What a QEMU left that is not there any more, unless another port waits for it there."""
        if all(port.path != path for port in self.desired.ports.values()):
            await remove_stale(path, self.vhost_socket_dir)

    async def add_segment(self, name: str, description: str) -> Segment:
        async with self._change:
            await self._commit(ports.add_segment(self.desired, name, description))
            LOG.info("segment %s added", name)
            return self.desired.segments[name]

    async def delete_segment(self, name: str) -> bool:
        """Whether it existed."""
        async with self._change:
            segment = self.desired.segments.get(name)
            if segment is None:
                return False
            await self._commit(ports.delete_segment(self.desired, name))
            try:
                # Its id may be given to another segment, which must not inherit addresses.
                await self.fabric.fdb_flush(None, segment.segment_id)
            except USwitchError as error:
                LOG.warning("segment %s: addresses not flushed: %s", name, error)
            LOG.info("segment %s deleted", name)
            return True
