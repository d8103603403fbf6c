# SPDX-License-Identifier: Apache-2.0
"""A dataplane in memory that moves no packets, for tests of everything above it.

It keeps what it is told like the real one (file descriptors duplicated,
arguments checked), writes plausible state pages, and can be made to fail:
``die_at`` ends it at the nth call, before or after the call took effect,
``refuse`` answers a method with an errno, ``delay_s`` and ``hang`` are slow.
``FakeLauncher`` stands in for the program: a fake that was let go of lives on
and is adopted by the next fabric, as a process would be.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vif_uswitch.dataplane import layout, statepage
from vif_uswitch.dataplane.base import (
    NO_LIMIT,
    NO_NIC,
    Dataplane,
    DataplaneGone,
    DataplaneRefused,
    DirtyLog,
    EscrowEntry,
    Event,
    GuardPair,
    MemRegion,
    NicSetup,
    RateLimit,
    RingSetup,
)
from vif_uswitch.dataplane.native import constant, ffi


@dataclass(slots=True)
class FakePort:
    """One port as the fake was told.  Owns its file descriptors."""

    kind: int
    limits: dict[str, object]
    state_fd: int
    device_fds: tuple[int, ...] = ()
    nic: NicSetup = NO_NIC
    tags: list[tuple[int, int]] = field(default_factory=list)
    macs: list[bytes] = field(default_factory=list)
    guard: tuple[GuardPair, ...] | None = None
    memory: tuple[MemRegion, ...] = ()
    rings: dict[int, RingSetup] = field(default_factory=dict)
    log: DirtyLog | None = None
    announced: list[bytes] = field(default_factory=list)

    def close(self) -> None:
        fds: list[int | None] = [self.state_fd, *self.device_fds]
        fds += (region.fd for region in self.memory)
        fds.append(self.log.fd if self.log is not None else None)
        for ring in self.rings.values():
            fds += [ring.kick_fd, ring.call_fd]
        for fd in fds:
            if fd is not None:
                os.close(fd)


def _dup(fd: int | None) -> int | None:
    return None if fd is None else os.dup(fd)


def _close(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)


def _is_guard_pair(pair: GuardPair) -> bool:
    """What the real one checks: an address of one station, no host bits behind the prefix."""
    bits = 8 * len(pair.ip)
    host = int.from_bytes(pair.ip, "big") & ((1 << max(bits - pair.prefix_len, 0)) - 1)
    return (
        len(pair.mac) == 6 and not pair.mac[0] & 1 and any(pair.mac)
        and bits in (0, 32, 128) and 0 <= pair.prefix_len <= bits and not host
    )  # fmt: skip


class FakeDataplane:
    """Implements ``base.Dataplane``."""

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self.ports: dict[int, FakePort] = {}
        self.escrow: dict[tuple[int, int], tuple[bytes, tuple[int, ...]]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.on_event = on_event
        self.dead = ""
        # Faults.
        self.die_at: int | None = None
        self.die_after_effect = False
        self.refuse: dict[str, int] = {}
        self.delay_s = 0.0
        self.hang = False
        self._on_death: list[Callable[[], None]] = []

    def kill(self, reason: str = "killed") -> None:
        """Ends it at once: everything it held is closed, as the kernel would."""
        if self.dead:
            return
        self.dead = reason
        for port in self.ports.values():
            port.close()
        for _, fds in self.escrow.values():
            for fd in fds:
                os.close(fd)
        self.ports.clear()
        self.escrow.clear()
        for tell in self._on_death:
            tell()

    async def _enter(self, name: str, *what: Any) -> None:
        """Every call comes through here, and may not come out."""
        self.calls.append((name, *what))
        if self.delay_s or self.hang:
            await asyncio.sleep(3600 if self.hang else self.delay_s)
        if not self.dead and self.die_at == len(self.calls) and not self.die_after_effect:
            self.kill("died as it was told to")
        if self.dead:
            raise DataplaneGone(name, why=self.dead)
        if name in self.refuse:
            raise DataplaneRefused(name, self.refuse[name])

    def _leave(self, name: str) -> None:
        if self.die_at is not None and self.die_at <= len(self.calls) and self.die_after_effect:
            self.kill("died as it was told to")
            raise DataplaneGone(name, why=self.dead)

    def _port(self, name: str, port_id: int) -> FakePort:
        if port_id not in self.ports:
            raise DataplaneRefused(name, errno.ENOENT)
        return self.ports[port_id]

    # ---- ports ----

    async def port_add(
        self, port_id: int, kind: int, *, flood_rate: int, flood_burst: int, fdb_quota: int,
        max_frame: int, rate: RateLimit = NO_LIMIT, nic: NicSetup = NO_NIC, state_fd: int,
        device_fds: Sequence[int] = (),
    ) -> None:  # fmt: skip
        await self._enter("port_add", port_id, kind)
        if port_id in self.ports:
            raise DataplaneRefused("port_add", errno.EEXIST)
        wanted = {layout.KIND_TAP: 1, layout.KIND_NIC: 2, layout.KIND_XDP: nic.n_queues}
        if len(device_fds) != wanted.get(kind, 0):
            raise DataplaneRefused("port_add", errno.EINVAL)
        statepage.StatePage(os.dup(state_fd), port_id).close()  # what the real one checks
        limits: dict[str, object] = {
            "flood_rate": flood_rate, "flood_burst": flood_burst, "fdb_quota": fdb_quota,
            "max_frame": max_frame, "rate": rate,
        }  # fmt: skip
        device = tuple(os.dup(fd) for fd in device_fds)
        self.ports[port_id] = FakePort(kind, limits, os.dup(state_fd), device, nic)
        self.break_port(port_id, 0)
        if kind in (layout.KIND_NIC, layout.KIND_XDP):
            self._start_adapter(self.ports[port_id])
        self._leave("port_add")

    async def port_del(self, port_id: int) -> None:
        await self._enter("port_del", port_id)
        self._port("port_del", port_id).close()
        del self.ports[port_id]
        self._leave("port_del")

    async def port_tags(self, port_id: int, rows: Sequence[tuple[int, int]]) -> None:
        await self._enter("port_tags", port_id, tuple(rows))
        self._port("port_tags", port_id).tags = list(rows)
        self._leave("port_tags")

    async def port_macs(self, port_id: int, macs: Sequence[bytes]) -> None:
        await self._enter("port_macs", port_id, tuple(macs))
        self._port("port_macs", port_id).macs = list(macs)
        self._leave("port_macs")

    async def port_guard(self, port_id: int, pairs: Sequence[GuardPair] | None) -> None:
        await self._enter("port_guard", port_id, None if pairs is None else tuple(pairs))
        port = self._port("port_guard", port_id)
        if pairs is not None and len(pairs) > constant("US_GUARD_PAIRS_MAX"):
            raise DataplaneRefused("port_guard", errno.E2BIG)
        if not all(_is_guard_pair(pair) for pair in pairs or ()):
            raise DataplaneRefused("port_guard", errno.EINVAL)
        port.guard = None if pairs is None else tuple(pairs)
        self._leave("port_guard")

    async def port_limits(
        self, port_id: int, *, flood_rate: int, flood_burst: int, fdb_quota: int, max_frame: int,
        rate: RateLimit = NO_LIMIT,
    ) -> None:  # fmt: skip
        await self._enter("port_limits", port_id)
        self._port("port_limits", port_id).limits = {
            "flood_rate": flood_rate, "flood_burst": flood_burst, "fdb_quota": fdb_quota,
            "max_frame": max_frame, "rate": rate,
        }  # fmt: skip
        self._leave("port_limits")

    # ---- adapters ----

    def _adapter(self, name: str, port_id: int) -> FakePort:
        port = self._port(name, port_id)
        if port.kind not in (layout.KIND_NIC, layout.KIND_XDP):
            raise DataplaneRefused(name, errno.ENOTSUP)
        return port

    def _start_adapter(self, port: FakePort) -> None:
        def write(page: Any) -> None:
            page.nic.driver = b"fake"
            page.nic.mac = b"\x02fake\x01"
            page.nic.n_queues = port.nic.n_queues
            page.nic.link_up, page.nic.speed_mbps, page.nic.full_duplex = 1, 1000, 1
            page.nic.counter = [0, 0] + [layout.NIC_COUNTER_NONE] * (len(page.nic.counter) - 2)

        self._with_page(port, write)

    async def nic_read(self, port_id: int) -> None:
        """What the page says is up to date already; one more frame shows that it was read."""
        await self._enter("nic_read", port_id)

        def count(page: Any) -> None:
            page.nic.counter[0] += 1

        self._with_page(self._adapter("nic_read", port_id), count)
        self._leave("nic_read")

    async def nic_reset(self, port_id: int) -> None:
        await self._enter("nic_reset", port_id)

        def count(page: Any) -> None:
            page.nic.resets += 1

        self._with_page(self._adapter("nic_reset", port_id), count)
        self.break_port(port_id, 0)
        self._leave("nic_reset")

    def set_link(self, port_id: int, up: bool, speed_mbps: int = 1000) -> None:
        """As if somebody had pulled the cable, or plugged it in."""
        speed = speed_mbps if up else 0

        def write(page: Any) -> None:
            page.nic.link_up, page.nic.speed_mbps = int(up), speed
            page.nic.link_changes += 1

        self._with_page(self.ports[port_id], write)
        if self.on_event is not None:
            self.on_event(Event(layout.EVENT_LINK, port_id, int(up), "none", speed))

    # ---- vhost ----

    async def vhost_mem(self, port_id: int, regions: Sequence[MemRegion]) -> None:
        await self._enter("vhost_mem", port_id, len(regions))
        port = self._port("vhost_mem", port_id)
        if port.rings and not regions:
            raise DataplaneRefused("vhost_mem", errno.EBUSY)
        old = port.memory
        port.memory = tuple(replace(region, fd=os.dup(region.fd)) for region in regions)
        for region in old:
            os.close(region.fd)
        self._leave("vhost_mem")

    async def vhost_log(self, port_id: int, log: DirtyLog | None) -> None:
        await self._enter("vhost_log", port_id, log is not None)
        port = self._port("vhost_log", port_id)
        old = port.log
        port.log = None if log is None else replace(log, fd=os.dup(log.fd))
        _close(old.fd if old is not None else None)
        self._leave("vhost_log")

    async def ring_start(self, port_id: int, setup: RingSetup) -> None:
        await self._enter("ring_start", port_id, setup.ring, setup.base, setup.resume)
        port = self._port("ring_start", port_id)
        if setup.ring in port.rings:
            raise DataplaneRefused("ring_start", errno.EBUSY)
        if not port.memory:
            raise DataplaneRefused("ring_start", errno.EFAULT)
        kept = replace(setup, kick_fd=_dup(setup.kick_fd), call_fd=_dup(setup.call_fd))
        port.rings[setup.ring] = kept
        base = 0 if setup.base == layout.BASE_FROM_USED else setup.base
        self._write_ring(port, setup.ring, base, base, 1, setup.size)
        self._leave("ring_start")

    async def ring_stop(self, port_id: int, ring: int) -> int:
        await self._enter("ring_stop", port_id, ring)
        port = self._port("ring_stop", port_id)
        if ring not in port.rings:
            raise DataplaneRefused("ring_stop", errno.EINVAL)
        setup = port.rings.pop(ring)
        _close(setup.kick_fd)
        _close(setup.call_fd)
        base = self.next_avail(port_id, ring)
        self._write_ring(port, ring, base, base, 0, setup.size)
        self._leave("ring_stop")
        return base

    async def ring_call(self, port_id: int, ring: int, call_fd: int | None) -> None:
        await self._enter("ring_call", port_id, ring)
        port = self._port("ring_call", port_id)
        if ring not in port.rings:
            raise DataplaneRefused("ring_call", errno.EINVAL)
        _close(port.rings[ring].call_fd)
        port.rings[ring] = replace(port.rings[ring], call_fd=_dup(call_fd))
        self._leave("ring_call")

    async def ring_enable(self, port_id: int, ring: int, enabled: bool) -> None:
        await self._enter("ring_enable", port_id, ring, enabled)
        port = self._port("ring_enable", port_id)
        if ring not in port.rings:
            raise DataplaneRefused("ring_enable", errno.EINVAL)
        port.rings[ring] = replace(port.rings[ring], enabled=enabled)
        self._leave("ring_enable")

    # ---- the rest ----

    async def port_announce(self, port_id: int, mac: bytes) -> None:
        await self._enter("port_announce", port_id, mac)
        port = self._port("port_announce", port_id)
        if mac[0] & 1 or not any(mac):
            raise DataplaneRefused("port_announce", errno.EINVAL)
        port.announced.append(mac)
        self._leave("port_announce")

    async def fdb_dump(self, cursor: int) -> tuple[int, list[tuple[bytes, int, int, int, bool]]]:
        await self._enter("fdb_dump", cursor)
        found = [
            (mac, segment, port_id, 0, True)
            for port_id, port in sorted(self.ports.items())
            for mac in port.macs
            for _, segment in port.tags
        ]
        self._leave("fdb_dump")
        return 0, found

    async def fdb_flush(self, port_id: int | None, segment_id: int | None) -> int:
        await self._enter("fdb_flush", port_id, segment_id)
        self._leave("fdb_flush")
        return 0

    async def escrow_put(self, port_id: int, slot: int, blob: bytes, fds: Sequence[int]) -> None:
        await self._enter("escrow_put", port_id, slot)
        if len(fds) > layout.LINK_FDS_MAX or len(blob) > constant("US_BLOB_MAX"):
            raise DataplaneRefused("escrow_put", errno.E2BIG)
        old = self.escrow.get((port_id, slot), (b"", ()))[1]
        self.escrow[port_id, slot] = (blob, tuple(os.dup(fd) for fd in fds))
        for fd in old:
            os.close(fd)
        self._leave("escrow_put")

    async def escrow_get(self, cursor: int) -> tuple[int, EscrowEntry | None]:
        await self._enter("escrow_get", cursor)
        keys = sorted(self.escrow)
        if cursor >= len(keys):
            return 0, None
        blob, fds = self.escrow[keys[cursor]]
        port_id, slot = keys[cursor]
        entry = EscrowEntry(port_id, slot, blob, tuple(os.dup(fd) for fd in fds))
        return (cursor + 1) % len(keys), entry

    async def escrow_drop(self, port_id: int, slot: int | None) -> None:
        await self._enter("escrow_drop", port_id, slot)
        for key in [k for k in self.escrow if k[0] == port_id and slot in (None, k[1])]:
            for fd in self.escrow.pop(key)[1]:
                os.close(fd)
        self._leave("escrow_drop")

    async def ping(self) -> None:
        await self._enter("ping")
        self._leave("ping")

    # ---- what a guest's traffic would do to the state page ----

    def next_avail(self, port_id: int, ring: int) -> int:
        return int(self._with_page(self.ports[port_id], lambda page: page.ring[ring].last_avail))

    def move(self, port_id: int, ring: int, frames: int) -> None:
        """As if so many frames had gone through a ring."""
        port = self.ports[port_id]
        at = (self.next_avail(port_id, ring) + frames) & 0xFFFF
        self._write_ring(port, ring, at, at, 1, port.rings[ring].size)

        def count(page: Any) -> None:
            queue = (page.out if ring % 2 == 0 else getattr(page, "in"))[ring // 2]
            queue.frames += frames
            queue.bytes += 64 * frames

        self._with_page(port, count)

    def break_port(self, port_id: int, reason: int) -> None:
        """As if the guest had done something that fences its port."""

        def write(page: Any) -> None:
            page.broken = reason

        self._with_page(self.ports[port_id], write)
        if reason and self.on_event is not None:
            self.on_event(Event(layout.EVENT_PORT_BROKEN, port_id, 0, f"reason-{reason}", 0))

    def _write_ring(
        self, port: FakePort, ring: int, last_avail: int, used_idx: int, active: int, size: int
    ) -> None:
        def write(page: Any) -> None:
            row = page.ring[ring]
            row.last_avail, row.used_idx, row.active, row.size = last_avail, used_idx, active, size

        self._with_page(port, write)

    def _with_page(self, port: FakePort, what: Callable[[Any], Any]) -> Any:
        with mmap.mmap(port.state_fd, statepage.PAGE_SIZE) as memory:
            view = ffi.from_buffer("char[]", memory, require_writable=True)
            try:
                return what(ffi.cast("struct us_state_page *", view))
            finally:
                ffi.release(view)


class FakeRunning:
    """Implements ``process.Running`` over a fake."""

    def __init__(self, fake: FakeDataplane, pid: int, adopted: bool) -> None:
        self.fake = fake
        self.pid = pid
        self.adopted = adopted
        self.usable = True
        self.n_ports = len(fake.ports)
        self.page_fd: int | None = None
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        fake._on_death.append(self._on_death)

    def _on_death(self) -> None:
        if not self._lost.done():
            self._lost.set_result(self.fake.dead)

    @property
    def dataplane(self) -> Dataplane:
        return self.fake

    @property
    def gone(self) -> bool:
        return self._lost.done()

    async def wait_gone(self) -> str:
        return await asyncio.shield(self._lost)

    async def bury(self) -> None:
        self.fake.kill()

    async def shutdown(self) -> None:
        self.fake.kill("shutdown")

    def let_go(self) -> None:
        self.fake._on_death.remove(self._on_death)


class FakeLauncher:
    """Implements ``process.Launcher``.  ``survivor`` is what a next uswitchd finds running."""

    def __init__(self, configure: Callable[[FakeDataplane], None] | None = None) -> None:
        self.made: list[FakeDataplane] = []
        self.usable = True
        self.fail_starts = 0
        self._configure = configure
        self._on_event: Callable[[Event], None] | None = None

    def __call__(self, on_event: Callable[[Event], None]) -> FakeLauncher:
        """What FabricSettings.dataplane_factory is."""
        self._on_event = on_event
        return self

    @property
    def fake(self) -> FakeDataplane:
        return self.made[-1]

    async def adopt(self) -> FakeRunning | None:
        if not self.made or self.fake.dead:
            return None
        self.fake.on_event = self._on_event
        running = FakeRunning(self.fake, 1000 + len(self.made), adopted=True)
        running.usable = self.usable
        return running

    async def start(self) -> FakeRunning:
        if self.fail_starts:
            self.fail_starts -= 1
            raise DataplaneGone("start", why="told to fail")
        fake = FakeDataplane(self._on_event)
        if self._configure is not None:
            self._configure(fake)
        self.made.append(fake)
        return FakeRunning(fake, 1000 + len(self.made), adopted=False)
