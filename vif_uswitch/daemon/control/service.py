# SPDX-License-Identifier: Apache-2.0
"""The verbs of the control API, one method each.

``server.py`` calls ``call()`` with a decoded request.  A verb looks things up
and shows them; what changes something is done by ``reconcile.py``.  Verbs that
go through all ports run one at a time, and give way to the event loop as they
go: guests' sessions come first.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from vif_uswitch.api import names, schema, wire, workers
from vif_uswitch.api import types as api
from vif_uswitch.api.base import Nothing, Result
from vif_uswitch.daemon import ports
from vif_uswitch.daemon.addresses import format_mac, parse_mac
from vif_uswitch.daemon.control import views
from vif_uswitch.daemon.control.paging import Pace, Snapshots, by_name
from vif_uswitch.daemon.control.params import convert
from vif_uswitch.daemon.model import VID_UNTAGGED, FdbEntry
from vif_uswitch.daemon.ports import Desired, Port
from vif_uswitch.daemon.reconcile import Reconciler
from vif_uswitch.dataplane.live import QueueCounters
from vif_uswitch.exceptions import NotFound, UnknownMethod
from vif_uswitch.version import version

SHOWN_PORTS = 500  # names in the answer to segment.show; they fit in one line
SHOWN_QUEUES = 400  # likewise of worker.show
TOP_DROPS = 10
LONG = {
    wire.PREFIX + verb
    for verb in (
        "show",
        "schema",
        "port.list",
        "uplink.list",
        "segment.list",
        "fdb.list",
        "drops",
        "stats",
        "worker.show",
    )
}


class Service:
    def __init__(self, reconciler: Reconciler, poll_us: int = 0) -> None:
        self._reconciler = reconciler
        self._fabric = reconciler.fabric
        self._poll_us = poll_us
        self._long = asyncio.Lock()
        self._fdb: Snapshots[FdbEntry] = Snapshots()
        self._started = time.monotonic()
        self._verbs: dict[str, Callable[[Any], Coroutine[Any, Any, Result]]] = {
            method: getattr(self, method.removeprefix(wire.PREFIX).replace(".", "_"))
            for method in wire.METHODS
        }

    @property
    def desired(self) -> Desired:
        return self._reconciler.desired

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """The result of one request, made of what JSON knows; raises USwitchError."""
        verb = self._verbs.get(method)
        if verb is None:
            raise UnknownMethod(
                "method", method, "is unknown", f"'{wire.PREFIX}schema' lists those of this daemon."
            )
        if method not in LONG:
            return msgspec.to_builtins(await verb(convert(method, params)))
        # One after the other: many at once would take the event loop from the guests' sessions.
        async with self._long:
            return msgspec.to_builtins(await verb(convert(method, params)))

    # ---- ports ----

    def _changed_view(self, port: Port, former: Port | None) -> api.PortChanged:
        return api.PortChanged(
            port=self._port_view(port), created=former is None, changed=port != former
        )

    async def port_add(self, params: api.PortAdd) -> api.PortChanged:
        port = await self._reconciler.add_port(params.port, params.create_segments)
        return self._changed_view(port, None)

    async def port_ensure(self, params: api.PortAdd) -> api.PortChanged:
        return self._changed_view(
            *await self._reconciler.ensure_port(params.port, params.create_segments)
        )

    async def port_set(self, params: api.PortSet) -> api.PortChanged:
        return self._changed_view(
            *await self._reconciler.change_port(params.name, params.changes, params.create_segments)
        )

    async def port_delete(self, params: api.PortDelete) -> api.Deleted:
        only = params.external_ids or None
        return api.Deleted(existed=await self._reconciler.delete_port(params.name, only))

    def _port_view(self, port: Port) -> api.Port:
        live = self._reconciler.live(port)
        return views.port_view(self.desired, port, self._reconciler.defaults, live)

    async def port_list(self, params: api.PortListing) -> api.PortPage:
        found = set(self.desired.ports)
        if params.segment is not None:
            found = set(self.desired.ports_in(self.desired.segment(params.segment).name))
        if params.external_id is not None:
            pair = (params.external_id.key, params.external_id.value)
            found = {name for name in found if pair in self.desired.ports[name].external_ids}

        def view(name: str) -> list[api.Port]:
            port = self.desired.ports.get(name)
            return [] if port is None else [self._port_view(port)]

        page, following = await by_name(found, params.cursor, view)
        return api.PortPage(ports=page, next=following)

    async def port_show(self, params: api.PortRef) -> api.PortDetail:
        port = self.desired.port(params.name)
        live = self._reconciler.live(port)
        return views.detail_view(self.desired, port, self._reconciler.defaults, live)

    # ---- uplinks ----

    def _uplink_view(self, port: Port) -> api.Uplink:
        live = self._reconciler.live(port)
        now = time.monotonic_ns()
        return views.uplink_view(self.desired, port, self._reconciler.defaults, live, now)

    async def uplink_ensure(self, params: api.UplinkEnsure) -> api.UplinkChanged:
        return self._uplink_changed(
            *await self._reconciler.ensure_port(params.uplink, params.create_segments)
        )

    async def uplink_map(self, params: api.UplinkMap) -> api.UplinkChanged:
        vid = VID_UNTAGGED if params.vid is None else params.vid
        return self._uplink_changed(
            *await self._reconciler.map_row(
                params.name, vid, params.segment, params.create_segments
            )
        )

    def _uplink_changed(self, port: Port, former: Port | None) -> api.UplinkChanged:
        return api.UplinkChanged(
            uplink=self._uplink_view(port), created=former is None, changed=port != former
        )

    async def uplink_delete(self, params: api.PortRef) -> api.Deleted:
        if params.name not in self.desired.ports:
            return api.Deleted(existed=False)
        ports.uplink(self.desired, params.name)
        return api.Deleted(existed=await self._reconciler.delete_port(params.name))

    async def uplink_list(self, params: api.Paging) -> api.UplinkPage:
        found = ports.uplinks(self.desired)
        if not params.cursor:
            await self._fabric.read_adapters([self.desired.ports[name].port_id for name in found])

        def view(name: str) -> list[api.Uplink]:
            port = self.desired.ports.get(name)
            return [] if port is None or not port.kind.is_uplink else [self._uplink_view(port)]

        page, following = await by_name(found, params.cursor, view)
        return api.UplinkPage(uplinks=page, next=following)

    async def uplink_show(self, params: api.PortRef) -> api.UplinkDetail:
        port = ports.uplink(self.desired, params.name)
        await self._fabric.read_adapters([port.port_id])
        port = ports.uplink(self.desired, params.name)
        return api.UplinkDetail(
            uplink=self._uplink_view(port),
            drops=tuple(views.drop_views(port.name, self._reconciler.live(port))),
        )

    # ---- counters of ports ----

    async def stats(self, params: api.Paging) -> api.StatsPage:
        def view(name: str) -> list[api.PortStats]:
            port = self.desired.ports.get(name)
            if port is None:
                return []
            live = self._reconciler.live(port)
            return [
                api.PortStats(
                    port=name,
                    link=views.link_of(port, live).value,
                    at_ns=time.monotonic_ns(),
                    incoming=views.counters_view([live.incoming]),
                    outgoing=views.counters_view([live.outgoing]),
                )
            ]

        page, following = await by_name(self.desired.ports, params.cursor, view)
        return api.StatsPage(ports=page, next=following)

    async def drops(self, params: api.Paging) -> api.DropPage:
        def view(name: str) -> list[api.Drop]:
            port = self.desired.ports.get(name)
            return [] if port is None else views.drop_views(name, self._reconciler.live(port))

        page, following = await by_name(self.desired.ports, params.cursor, view)
        return api.DropPage(drops=page, next=following)

    # ---- segments ----

    async def segment_add(self, params: api.SegmentAdd) -> api.Segment:
        segment = await self._reconciler.add_segment(params.name, params.description)
        return views.segment_view(self.desired, segment)

    async def segment_delete(self, params: api.SegmentRef) -> api.Deleted:
        return api.Deleted(existed=await self._reconciler.delete_segment(params.name))

    async def segment_list(self, params: api.Paging) -> api.SegmentPage:
        members = Counter(name for port in self.desired.ports.values() for name in port.segments())

        def view(name: str) -> list[api.Segment]:
            segment = self.desired.segments.get(name)
            if segment is None:
                return []
            return [views.segment_view(self.desired, segment, members[name])]

        page, following = await by_name(self.desired.segments, params.cursor, view)
        return api.SegmentPage(segments=page, next=following)

    async def segment_show(self, params: api.SegmentRef) -> api.SegmentDetail:
        segment = self.desired.segment(params.name)
        found = self.desired.ports_in(segment.name)
        return api.SegmentDetail(
            segment=views.segment_view(self.desired, segment, len(found)),
            ports=tuple(found[:SHOWN_PORTS]),
        )

    # ---- FDB ----

    async def fdb_list(self, params: api.FdbListing) -> api.FdbPage:
        cursor = params.cursor
        if not cursor:
            cursor = self._fdb.first(await self._filtered_fdb(params))
        port_names = {port.port_id: port.name for port in self.desired.ports.values()}
        segment_names = {seg.segment_id: seg.name for seg in self.desired.segments.values()}

        def view(entry: FdbEntry) -> api.FdbEntry:
            return api.FdbEntry(
                mac=format_mac(entry.mac),
                segment=segment_names.get(entry.segment_id, f"(id {entry.segment_id})"),
                port=port_names.get(entry.port_id, f"(id {entry.port_id})"),
                age_s=entry.age_s,
                pinned=entry.pinned,
            )

        page, following = self._fdb.page(cursor, view)
        return api.FdbPage(entries=tuple(page), next=following)

    async def _filtered_fdb(self, params: api.FdbListing) -> list[FdbEntry]:
        port_id = None if params.port is None else self.desired.port(params.port).port_id
        segment_id = (
            None if params.segment is None else self.desired.segment(params.segment).segment_id
        )
        mac = None if params.mac is None else parse_mac(params.mac)
        found = []
        pace = Pace()
        for entry in await self._fabric.fdb_dump():
            if (
                port_id in (None, entry.port_id)
                and segment_id in (None, entry.segment_id)
                and mac in (None, entry.mac)
            ):
                found.append(entry)
            await pace.rest()
        return found

    async def fdb_flush(self, params: api.FdbFlush) -> api.FdbFlushed:
        port_id = None if params.port is None else self.desired.port(params.port).port_id
        segment_id = (
            None if params.segment is None else self.desired.segment(params.segment).segment_id
        )
        removed = await self._fabric.fdb_flush(port_id, segment_id)
        return api.FdbFlushed(removed=removed)

    # ---- the whole ----

    async def show(self, params: Nothing) -> api.Host:
        links: Counter[str] = Counter()
        incoming: list[QueueCounters] = []
        outgoing: list[QueueCounters] = []
        frames: Counter[str] = Counter()
        users: Counter[str] = Counter()
        pace = Pace()
        for port in list(self.desired.ports.values()):
            live = self._reconciler.live(port)
            links[views.link_of(port, live).value] += 1
            incoming.append(live.incoming)
            outgoing.append(live.outgoing)
            mine = Counter(live.incoming.drops) + Counter(live.outgoing.drops)
            frames.update(mine)
            users.update(mine.keys())
            await pace.rest()
        return api.Host(
            daemon=api.Daemon(
                pid=os.getpid(),
                version=version(),
                api=wire.API_VERSION,
                uptime_s=int(time.monotonic() - self._started),
                poll_us=self._poll_us,
                vhost_socket_dir=self._reconciler.vhost_socket_dir,
            ),
            dataplane=views.dataplane_view(self._fabric.dataplane_live()),
            n_ports=len(self.desired.ports),
            n_segments=len(self.desired.segments),
            links=dict(links),
            incoming=views.counters_view(incoming),
            outgoing=views.counters_view(outgoing),
            drops=tuple(
                api.DropTotal(
                    reason=reason, frames=count, ports=users[reason], text=names.drop_text(reason)
                )
                for reason, count in frames.most_common(TOP_DROPS)
            ),
        )

    async def worker_list(self, params: Nothing) -> workers.WorkerList:
        live = self._fabric.dataplane_live()
        return workers.WorkerList(
            tsc_khz=live.tsc_khz,
            at_ns=time.monotonic_ns(),
            workers=tuple(views.worker_view(worker) for worker in live.workers),
        )

    async def worker_show(self, params: workers.WorkerRef) -> workers.WorkerDetail:
        live = self._fabric.dataplane_live()
        if params.index >= len(live.workers):
            raise NotFound(
                "worker", params.index, f"does not exist; there are {len(live.workers)}",
                "See: uswitchctl worker list",
            )  # fmt: skip
        queues: list[workers.WorkerQueue] = []
        pace = Pace()
        for port in list(self.desired.ports.values()):
            for queue in self._fabric.port_queues(port.port_id):
                if queue.worker == params.index:
                    queues.append(
                        workers.WorkerQueue(
                            port=port.name, queue=queue.index, frames=queue.frames,
                            cycles=queue.cycles,
                        )
                    )  # fmt: skip
            await pace.rest()
        queues.sort(key=lambda queue: -queue.cycles)
        return workers.WorkerDetail(
            tsc_khz=live.tsc_khz,
            at_ns=time.monotonic_ns(),
            worker=views.worker_view(live.workers[params.index]),
            queues=tuple(queues[:SHOWN_QUEUES]),
        )

    async def version(self, params: Nothing) -> api.Version:
        return api.Version(
            version=version(), api=wire.API_VERSION, pid=os.getpid(),
            revision=self._reconciler.revision,
        )  # fmt: skip

    async def schema(self, params: Nothing) -> api.Schema:
        return api.Schema(catalogue=schema.catalogue())
