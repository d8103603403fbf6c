# SPDX-License-Identifier: Apache-2.0
"""Sees to it that there is a dataplane: adopts, starts, watches, buries, replaces.

A task of its own loops through the life of one process after the other.  It
knows nothing of ports: it tells the fabric when a dataplane is up and when it
is lost.  A process that crashes again and again is started more and more
slowly; one that lived for a while is replaced at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vif_uswitch.dataplane.base import DataplaneGone, DataplaneRefused
from vif_uswitch.dataplane.process import Launcher, Running
from vif_uswitch.exceptions import USwitchError

LOG = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
STEADY_S = 0.25  # who lived that long did not crash at its start
PAUSE_S = (0.1, 5.0)
SETTLE_POLL_S = 0.002


class Backoff:
    """How long to wait before the next start; nothing after a steady life."""

    def __init__(self) -> None:
        self._pause = 0.0

    def after(self, lived_s: float) -> float:
        if lived_s >= STEADY_S:
            self._pause = 0.0
        pause = self._pause
        self._pause = min(max(2 * self._pause, PAUSE_S[0]), PAUSE_S[1])
        return pause


class Supervisor:
    """``on_up`` and ``on_lost`` are the fabric's."""

    def __init__(
        self,
        launcher: Launcher,
        on_up: Callable[[Running], Awaitable[None]],
        on_lost: Callable[[Running, str], None],
    ) -> None:
        self._launcher = launcher
        self._on_up = on_up
        self._on_lost = on_lost
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self.running: Running | None = None  # until it is dead for certain
        self.starts = 0

    async def adopt(self) -> Running | None:
        """What an earlier uswitchd left; the caller looks through its escrow before ``run()``."""
        self.running = await self._launcher.adopt()
        return self.running

    async def discard(self) -> None:
        """Ends the adopted dataplane; ``run()`` starts another."""
        if self.running is not None:
            await self.running.shutdown()
            self.running = None

    async def run(self) -> None:
        """Returns when a dataplane is up for the first time; goes on in the background."""
        if self.running is None:
            await self._start()
        assert self.running is not None
        with suppress(DataplaneGone):
            await self._on_up(self.running)
        self._task = asyncio.create_task(self._loop())

    async def stop(self, keep: bool) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        running, self.running = self.running, None
        if running is None:
            return
        if keep:
            running.let_go()
        else:
            await running.shutdown()

    async def settled(self) -> None:
        """Returns when no process runs on that we have lost contact with."""
        while self.running is not None and self.running.gone:
            await asyncio.sleep(SETTLE_POLL_S)

    async def _start(self) -> None:
        self.running = await self._launcher.start()
        self.starts += 1
        LOG.info("dataplane started, pid %d", self.running.pid)

    async def _loop(self) -> None:
        while True:
            assert self.running is not None
            born = time.monotonic()
            reason = await self._watch(self.running)
            LOG.error("dataplane %d is lost: %s", self.running.pid, reason)
            self._on_lost(self.running, reason)
            await self._bury(self.running)
            self.running = None
            await self._replace(time.monotonic() - born)

    async def _watch(self, running: Running) -> str:
        """Until the link ends; asks from time to time, so that silence ends it, too."""
        lost = asyncio.ensure_future(running.wait_gone())
        try:
            while True:
                done, _ = await asyncio.wait({lost}, timeout=HEARTBEAT_S)
                if done:
                    return lost.result()
                with suppress(DataplaneGone, DataplaneRefused):
                    await running.dataplane.ping()
        finally:
            lost.cancel()

    async def _bury(self, running: Running) -> None:
        while True:
            try:
                await running.bury()
            except USwitchError as error:
                LOG.error("%s", error)
            else:
                return

    async def _replace(self, lived_s: float) -> None:
        """Until one runs: whatever is wrong may be put right meanwhile."""
        while True:
            await asyncio.sleep(self._backoff.after(lived_s))
            lived_s = 0.0
            try:
                await self._start()
            except USwitchError as error:
                LOG.error("%s", error)
                continue
            assert self.running is not None
            # If it dies meanwhile, _watch() sees it at once.
            with suppress(DataplaneGone):
                await self._on_up(self.running)
            return
