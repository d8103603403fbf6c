# SPDX-License-Identifier: Apache-2.0
"""A fabric over fakes, for unit tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from tests.unit.daemon.vhost_peer import Peer
from vif_uswitch.daemon.fabric import Fabric, FabricSettings
from vif_uswitch.daemon.model import Kind, Mode, PortConfig, TagRow
from vif_uswitch.daemon.uplink.port import Adapters
from vif_uswitch.dataplane.fake import FakeDataplane, FakeLauncher


class Rig:
    """A directory, a launcher that survives fabrics, and the news."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.launcher = FakeLauncher()
        self.news: list[tuple[int, str]] = []
        self.lost: list[tuple[int, str]] = []
        self.adapters = Adapters()

    @property
    def fake(self) -> FakeDataplane:
        return self.launcher.fake

    def path(self, port_id: int = 1) -> str:
        return os.path.join(self.directory, f"port{port_id}.sock")

    def config(self, port_id: int = 1, **changes: Any) -> PortConfig:
        values: dict[str, Any] = {
            "port_id": port_id, "name": f"port{port_id}", "kind": Kind.VHOST,
            "path": self.path(port_id), "mode": Mode.CLIENT, "tags": (TagRow(4096, 5),),
        }  # fmt: skip
        return PortConfig(**{**values, **changes})

    async def start(self) -> Fabric:
        fabric = Fabric(
            FabricSettings(
                run_dir=self.directory,
                dataplane_binary="",
                vhost_socket_dir=self.directory,
                dataplane_factory=self.launcher,
                adapters=self.adapters,
            )
        )
        fabric.on_event = lambda port_id, sentence: self.news.append((port_id, sentence))
        fabric.on_lost_port = lambda port_id, why: self.lost.append((port_id, why))
        await fabric.start()
        return fabric

    @contextlib.asynccontextmanager
    async def fabric(self, *port_ids: int, **changes: Any) -> AsyncIterator[Fabric]:
        fabric = await self.start()
        try:
            for port_id in port_ids:
                await fabric.ensure_port(self.config(port_id, **changes))
            yield fabric
        finally:
            await fabric.stop(keep_dataplane=False)

    async def connect(self, port_id: int = 1, greet: bool = True) -> Peer:
        """A peer whose session has begun; with ``greet=False``, one that only connected."""
        peer = await Peer.connect(self.path(port_id))
        assert not greet or await peer.ask(1)
        return peer


def run(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    """Runs a test with a rig, in a loop that reports what went wrong unnoticed."""
    complaints: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        with tempfile.TemporaryDirectory(prefix="uswitch-") as directory:
            await test(Rig(directory))

    asyncio.run(main())
    assert not complaints, complaints


async def until(true: Callable[[], object], timeout: float = 30.0) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.002)
