# SPDX-License-Identifier: Apache-2.0
"""News of devices: what concerns whom, and a monitor that never blocks the loop."""

from __future__ import annotations

import asyncio
import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.daemon.fabric_rig import until
from vif_uswitch.daemon.uplink.watch import EVENTS_A_TURN, DeviceNews, DeviceWatcher

NIC = "0000:05:00.0"


@pytest.mark.parametrize(
    ("action", "subsystem", "name", "concerned"),
    [
        ("add", "pci", NIC, True),
        ("bind", "pci", NIC, True),
        ("remove", "pci", NIC, False),
        ("unbind", "pci", NIC, False),
        ("add", "pci", "0000:06:00.0", False),
        ("add", "vfio", "7", True),
        ("change", "vfio-dev", "vfio0", True),
        ("add", "net", "eth7", False),
    ],
)
def test_who_waits_for_it(action: str, subsystem: str, name: str, concerned: bool) -> None:
    assert DeviceNews(action, subsystem, name).concerns(NIC) == concerned


def test_a_network_device_by_name() -> None:
    assert DeviceNews("add", "net", "eth7").concerns("eth7")
    assert not DeviceNews("add", "net", "eth8").concerns("eth7")


class Monitor:
    """Has a pipe that is readable while there are events."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.events: list[Any] = []

    def fileno(self) -> int:
        return self.read_end

    def put(self, *events: Any) -> None:
        self.events += events
        os.write(self.write_end, b"x" * len(events))

    def poll(self, timeout: float) -> Any:
        assert timeout == 0
        if not self.events:
            return None
        os.read(self.read_end, 1)
        event = self.events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event


def device(action: str | None, name: str) -> Any:
    return SimpleNamespace(action=action, subsystem="pci", sys_name=name)


def test_news_arrive_a_few_at_a_time_and_a_lost_one_ends_nothing() -> None:
    async def main() -> None:
        monitor = Monitor()
        news: list[DeviceNews] = []
        watcher = DeviceWatcher(news.append, lambda: monitor)
        watcher.start()
        monitor.put(device("add", NIC), OSError("no buffer space"), device(None, NIC))
        await until(lambda: len(news) == 2)
        assert news == [DeviceNews("add", "pci", NIC), DeviceNews("", "pci", NIC)]
        monitor.put(*[device("add", NIC)] * (EVENTS_A_TURN + 5))
        watcher._on_readable()
        assert len(news) == 2 + EVENTS_A_TURN
        await until(lambda: len(news) == 2 + EVENTS_A_TURN + 5)
        watcher.stop()
        watcher.stop()
        monitor.put(device("add", NIC))
        await asyncio.sleep(0)
        assert len(news) == 2 + EVENTS_A_TURN + 5
        os.close(monitor.read_end)
        os.close(monitor.write_end)

    asyncio.run(main())


def test_a_host_without_udev(caplog: pytest.LogCaptureFixture) -> None:
    def none() -> Any:
        raise ImportError("No library named udev")

    async def main() -> None:
        watcher = DeviceWatcher(lambda _: None, none)
        watcher.start()
        watcher.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "noticed later: No library named udev" in caplog.text


def test_the_real_monitor_if_there_is_one() -> None:
    pytest.importorskip("pyudev")

    async def main() -> None:
        watcher = DeviceWatcher(lambda _: None)
        watcher.start()
        await asyncio.sleep(0)
        watcher.stop()

    asyncio.run(main())
