# SPDX-License-Identifier: Apache-2.0
"""A whole control plane in one process: real state file, service and socket, a make-believe fabric.

Tests speak to it from their own thread, as the blocking clients do.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.daemon.control.server import ControlServer, Limits
from vif_uswitch.daemon.control.service import Service
from vif_uswitch.daemon.defaults import PortDefaults
from vif_uswitch.daemon.model import FdbEntry, Link, PortConfig, PortLive
from vif_uswitch.daemon.reconcile import Reconciler
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.dataplane.live import DataplaneLive, QueueCounters, QueueLive, WorkerLive

DEFAULTS = PortDefaults(flood_rate=1000, flood_burst=100, fdb_quota=256, mtu=1500)


class FakeFabric:
    """Remembers what it was told; ``fail`` and ``fail_remove`` are raised if set."""

    def __init__(self) -> None:
        self.ports: dict[int, PortConfig] = {}
        self.lives: dict[int, PortLive] = {}
        self.calls: list[tuple[str, Any]] = []
        self.fail: dict[str, Exception] = {}  # by port name
        self.fail_remove: Exception | None = None
        self.adopted: list[int] = []
        self.fdb: list[FdbEntry] = []
        self.queues: dict[int, tuple[QueueLive, ...]] = {}
        self.dataplane = DataplaneLive(
            pid=4242, starts=1, tsc_khz=2_000_000, fdb_entries=2, fdb_capacity=80,
            workers=(WorkerLive(0, 4243, -1, 2, 100, 10, 1000, 250, 5, 3, 3),),
        )  # fmt: skip

    async def ensure_port(self, cfg: PortConfig) -> None:
        self.calls.append(("ensure", cfg.name))
        if cfg.name in self.fail:
            raise self.fail[cfg.name]
        self.ports[cfg.port_id] = cfg

    async def remove_port(self, port_id: int, keep_counters: bool = False) -> None:
        self.calls.append(("remove", port_id))
        if self.fail_remove:
            raise self.fail_remove
        self.ports.pop(port_id, None)

    def adopted_ports(self) -> list[int]:
        return self.adopted

    def port_live(self, port_id: int) -> PortLive:
        return self.lives.get(port_id, PortLive())

    def port_queues(self, port_id: int) -> tuple[QueueLive, ...]:
        return self.queues.get(port_id, ())

    async def read_adapters(self, port_ids: Iterable[int]) -> None:
        self.calls.append(("read", tuple(port_ids)))

    def dataplane_live(self) -> DataplaneLive:
        return self.dataplane

    async def fdb_dump(self) -> list[FdbEntry]:
        return list(self.fdb)

    async def fdb_flush(self, port_id: int | None, segment_id: int | None) -> int:
        self.calls.append(("flush", (port_id, segment_id)))
        before = len(self.fdb)
        self.fdb = [
            entry
            for entry in self.fdb
            if entry.pinned
            or port_id not in (None, entry.port_id)
            or segment_id not in (None, entry.segment_id)
        ]
        return before - len(self.fdb)

    def set_live(self, port_id: int, **values: Any) -> None:
        self.lives[port_id] = replace(self.lives.get(port_id, PortLive()), **values)


UP = PortLive(
    link=Link.UP,
    peer_pid=77,
    virtio_features=1 << 32 | 1 << 15 | 1 << 41,
    protocol_features=1 << 3,
    memory_regions=2,
    memory_bytes=1 << 28,
    sessions=1,
    incoming=QueueCounters(frames=10, bytes=1000, drops={"no_receiver": 3}),
    outgoing=QueueCounters(frames=7, bytes=700, drops={"ring_full": 5, "link_down": 1}),
)


class Control:
    """The control plane of one directory; ``path`` is its socket."""

    def __init__(self, directory: pathlib.Path, limits: Limits | None = None) -> None:
        self.directory = directory
        self.vhost = directory / "vhost"
        self.vhost.mkdir(exist_ok=True)
        self.path = str(directory / "control.sock")
        self.fabric = FakeFabric()
        self.store = StateStore(str(directory))
        self.gid: int | None = None
        self.limits = limits
        self.call: Callable[..., Any] | None = None  # instead of the service's
        self.loop = asyncio.new_event_loop()

    def reconciler(self) -> Reconciler:
        return Reconciler(str(self.vhost), DEFAULTS, self.store, self.store.load(), self.fabric)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Control]:
        ready = threading.Event()
        failures: list[BaseException] = []

        async def serve() -> None:
            self.stopped = asyncio.Event()
            self.rec = self.reconciler()
            await self.rec.replay()
            service = Service(self.rec, poll_us=50)
            self.server = ControlServer(self.path, self.call or service.call, self.gid, self.limits)
            await self.server.start()
            ready.set()
            await self.stopped.wait()
            await self.server.stop()

        def run() -> None:
            try:
                self.loop.run_until_complete(serve())
            except BaseException as error:
                failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            if failures:
                raise failures[0]
            yield self
        finally:
            if not failures:
                self.loop.call_soon_threadsafe(self.stopped.set)
            thread.join(10)
            assert not thread.is_alive()
            self.loop.close()

    def client(self, timeout_s: float = 10) -> Client:
        return Client(self.path, timeout_s)

    def raw(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self.path)  # blocking: it waits while the backlog is full
        connection.settimeout(10)
        return connection

    def on_loop(self, function: Callable[[], Any]) -> Any:
        """Runs a coroutine function in the daemon's loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(function(), self.loop).result(10)
