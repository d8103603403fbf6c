# SPDX-License-Identifier: Apache-2.0
"""The supervisor's own decisions: how long to wait, what silence means, what comes first."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.daemon.fabric_rig import Rig, run, until
from vif_uswitch.daemon import supervisor as module
from vif_uswitch.daemon.supervisor import Backoff, Supervisor
from vif_uswitch.dataplane.base import DataplaneGone
from vif_uswitch.dataplane.fake import FakeDataplane, FakeLauncher
from vif_uswitch.dataplane.process import Running


def test_backoff_grows_to_a_bound_and_forgets_after_a_steady_life() -> None:
    backoff = Backoff()
    assert [backoff.after(0.0) for _ in range(8)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert backoff.after(0.0) == 5.0
    assert backoff.after(0.3) == 0.0
    assert backoff.after(0.1) == 0.1


class Silent(FakeDataplane):
    """Answers nothing, like a stopped process: the link's deadline ends it."""

    async def ping(self) -> None:
        self.calls.append(("ping",))
        await asyncio.sleep(0.05)
        self.lose_contact()
        raise DataplaneGone("ping", why="no answer")

    def lose_contact(self) -> None:
        for tell in self._on_death:
            tell()


def test_a_silent_dataplane_is_buried_before_the_next_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)

    async def test(rig: Rig) -> None:
        launcher = FakeLauncher()
        launcher(lambda event: None)
        order: list[str] = []

        async def up(running: Running) -> None:
            order.append("up")
            dead = [bool(fake.dead) for fake in launcher.made[:-1]]
            assert all(dead), "two dataplanes at once"

        supervisor = Supervisor(launcher, up, lambda running, reason: order.append("lost"))
        silent = Silent()
        original = launcher.start

        async def start() -> object:
            running = await original()
            if len(launcher.made) == 1:
                launcher.made[0] = silent
                running.fake = silent
                silent._on_death.append(running._on_death)
            return running

        launcher.start = start  # type: ignore[assignment, method-assign]
        await supervisor.run()
        await until(lambda: order == ["up", "lost", "up"])
        assert silent.dead
        assert supervisor.starts == 2
        await supervisor.stop(keep=False)
        assert launcher.fake.dead

    run(test)


def test_settled_waits_for_the_burial() -> None:
    async def test(rig: Rig) -> None:
        launcher = FakeLauncher()
        launcher(lambda event: None)

        async def up(running: Running) -> None:
            return

        supervisor = Supervisor(launcher, up, lambda running, reason: None)
        await supervisor.run()
        await asyncio.wait_for(supervisor.settled(), 0.1)
        buried = asyncio.Event()
        running = supervisor.running
        assert running is not None

        async def bury() -> None:
            await buried.wait()

        running.bury = bury  # type: ignore[method-assign]
        launcher.fake.kill()
        waiting = asyncio.ensure_future(supervisor.settled())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        buried.set()
        await asyncio.wait_for(waiting, 1)
        await supervisor.stop(keep=False)

    run(test)
