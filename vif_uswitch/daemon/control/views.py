# SPDX-License-Identifier: Apache-2.0
"""From what the daemon knows to what the API answers.  Functions only, no state, no I/O.

``service.py`` calls these with the desired port and what the fabric reads from
its state pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from vif_uswitch.api import names, workers
from vif_uswitch.api import types as api
from vif_uswitch.daemon import guard
from vif_uswitch.daemon.addresses import format_mac
from vif_uswitch.daemon.defaults import PortDefaults, config_of
from vif_uswitch.daemon.model import Link, PortLive
from vif_uswitch.daemon.ports import Desired, Port, Segment
from vif_uswitch.dataplane.live import DataplaneLive, NicLive, QueueCounters, WorkerLive


def port_view(desired: Desired, port: Port, defaults: PortDefaults, live: PortLive) -> api.Port:
    config = config_of(desired, port, defaults)
    return api.Port(
        id=port.port_id,
        name=port.name,
        type=port.kind.value,
        path=port.path,
        mode=port.mode.value,
        ifname=port.ifname,
        netns=port.netns,
        pci=port.pci,
        physnet=port.physnet,
        segment=port.segment,
        trunk=tuple(api.TrunkRow(vid=vid, segment=name) for vid, name in port.trunk),
        macs=tuple(format_mac(mac) for mac in port.macs),
        mtu=config.mtu,
        flood_rate=config.flood_rate,
        flood_burst=config.flood_burst,
        fdb_quota=config.fdb_quota,
        queues=config.queues,
        max_kbps=config.rate.max_kbps,
        max_burst_kbps=config.rate.burst_kbit,
        max_kpps=config.rate.max_kpps,
        max_burst_kpps=config.rate.burst_kpkt,
        admin_up=port.admin_up,
        description=port.description,
        external_ids=dict(port.external_ids),
        guard=guard.view(port.guard),
        created_us=port.created_us,
        link=link_of(port, live).value,
        reason=live.broken_text or live.broken_reason or live.last_error,
        peer_pid=live.peer_pid,
    )


def link_of(port: Port, live: PortLive) -> Link:
    """A fence is news even for a port that is administratively down."""
    if live.link is not Link.BROKEN and not port.admin_up:
        return Link.DOWN
    return live.link


def detail_view(
    desired: Desired, port: Port, defaults: PortDefaults, live: PortLive
) -> api.PortDetail:
    return api.PortDetail(
        port=port_view(desired, port, defaults, live),
        sessions=live.sessions,
        virtio_features=hex(live.virtio_features),
        protocol_features=hex(live.protocol_features),
        memory_regions=live.memory_regions,
        memory_bytes=live.memory_bytes,
        rings=tuple(
            api.Ring(
                index=ring.index,
                active=ring.active,
                enabled=ring.enabled,
                size=ring.size,
                last_avail=ring.last_avail,
                used_idx=ring.used_idx,
                frames=ring.frames,
                bytes=ring.bytes,
                dropped=ring.dropped,
            )
            for ring in live.rings
        ),
        incoming=counters_view([live.incoming]),
        outgoing=counters_view([live.outgoing]),
        drops=tuple(drop_views(port.name, live)),
    )


def uplink_view(
    desired: Desired, port: Port, defaults: PortDefaults, live: PortLive, at_ns: int
) -> api.Uplink:
    config = config_of(desired, port, defaults)
    return api.Uplink(
        port=port_view(desired, port, defaults, live),
        origin="config" if port.static else "api",
        ring_size=config.ring_size,
        irq_us=config.irq_us,
        zero_copy=config.zero_copy,
        lro=config.lro,
        at_ns=at_ns,
        adapter=None if live.nic is None else adapter_view(live.nic),
        incoming=counters_view([live.incoming]),
        outgoing=counters_view([live.outgoing]),
    )


def adapter_view(nic: NicLive) -> api.Adapter:
    vendor, device = nic.pci_id
    return api.Adapter(
        driver=nic.driver,
        device_id=f"{vendor:04x}:{device:04x}" if vendor else "",
        mac=format_mac(nic.mac),
        link_up=nic.link_up,
        speed_mbps=nic.speed_mbps,
        full_duplex=nic.full_duplex,
        queues=nic.queues,
        resets=nic.resets,
        link_changes=nic.link_changes,
        pool_bytes=nic.pool_bytes,
        counters=dict(nic.counters),
    )


def segment_view(desired: Desired, segment: Segment, n_ports: int | None = None) -> api.Segment:
    count = len(desired.ports_in(segment.name)) if n_ports is None else n_ports
    return api.Segment(
        id=segment.segment_id,
        name=segment.name,
        description=segment.description,
        n_ports=count,
    )


def counters_view(parts: Iterable[QueueCounters]) -> api.Counters:
    """The sum of ``parts``."""
    every = list(parts)
    return api.Counters(
        frames=sum(part.frames for part in every),
        bytes=sum(part.bytes for part in every),
        flooded=sum(part.flooded for part in every),
        gso=sum(part.gso for part in every),
        csum_fixed=sum(part.csum_fixed for part in every),
        gso_fixed=sum(part.gso_fixed for part in every),
        bursts=sum(part.bursts for part in every),
        signals=sum(part.signals for part in every),
        dropped=sum(sum(part.drops.values()) for part in every),
    )


def drop_views(name: str, live: PortLive) -> list[api.Drop]:
    """The drops of one port, most frequent first."""
    incoming = [("in", reason, count) for reason, count in live.incoming.drops.items()]
    outgoing = [("out", reason, count) for reason, count in live.outgoing.drops.items()]
    found = sorted(incoming + outgoing, key=lambda row: -row[2])
    return [
        api.Drop(
            port=name,
            direction="in" if direction == "in" else "out",
            reason=reason,
            frames=count,
            text=names.drop_text(reason),
        )
        for direction, reason, count in found
        if count
    ]


def worker_view(worker: WorkerLive) -> workers.Worker:
    return workers.Worker(
        index=worker.index,
        tid=worker.tid,
        cpu=worker.cpu,
        queues=worker.queues,
        passes=worker.passes,
        busy_passes=worker.busy_passes,
        cycles=worker.cycles,
        busy_cycles=worker.busy_cycles,
        frames=worker.frames,
        sleeps=worker.sleeps,
        wakeups=worker.wakeups,
    )


def dataplane_view(live: DataplaneLive) -> api.Dataplane:
    return api.Dataplane(
        running=live.pid != 0,
        pid=live.pid,
        starts=live.starts,
        adopted=live.adopted,
        fdb_entries=live.fdb_entries,
        fdb_capacity=live.fdb_capacity,
        fdb_moves=live.fdb_moves,
        fdb_evicted=live.fdb_evicted,
        fdb_refused=live.fdb_refused,
        workers=len(live.workers),
    )
