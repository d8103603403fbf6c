# SPDX-License-Identifier: Apache-2.0
"""The fake's adapters: started, read, reset, broken, pulled from the wire, made to fail."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import DataplaneRefused, Event, NicSetup
from vif_uswitch.dataplane.fake import FakeDataplane
from vif_uswitch.dataplane.statepage import StatePage

LIMITS: dict[str, Any] = {"flood_rate": 0, "flood_burst": 0, "fdb_quota": 256, "max_frame": 1514}


@pytest.fixture
def page() -> Iterator[StatePage]:
    before = len(os.listdir("/proc/self/fd"))
    made = StatePage.make(7)
    yield made
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_adapters_life(page: StatePage) -> None:
    events: list[Event] = []
    fake = FakeDataplane(events.append)

    async def main() -> None:
        await fake.port_add(
            7, layout.KIND_NIC, **LIMITS, nic=NicSetup(n_queues=4), state_fd=page.fd,
            device_fds=(page.fd, page.fd),
        )  # fmt: skip
        nic = page.nic()
        assert nic is not None
        assert (nic.driver, nic.queues, nic.link_up, nic.resets) == ("fake", 4, True, 0)
        await fake.nic_read(7)
        fake.break_port(7, 1)
        await fake.nic_reset(7)
        fake.set_link(7, up=False)
        nic = page.nic()
        assert nic is not None
        assert (nic.counters["rx_packets"], nic.resets, nic.link_up) == (1, 1, False)
        assert page.broken() is None
        await fake.port_del(7)

    asyncio.run(main())
    assert [(event.kind, event.ring, event.detail) for event in events] == [
        (layout.EVENT_PORT_BROKEN, 0, 0), (layout.EVENT_LINK, 0, 0)
    ]  # fmt: skip


def test_refusals(page: StatePage) -> None:
    fake = FakeDataplane()

    async def refused(call: object) -> int:
        with pytest.raises(DataplaneRefused) as caught:
            await call  # type: ignore[misc]
        return caught.value.errno

    async def main() -> None:
        add = fake.port_add(7, layout.KIND_NIC, **LIMITS, state_fd=page.fd, device_fds=[page.fd])
        assert await refused(add) == errno.EINVAL
        assert await refused(fake.nic_read(7)) == errno.ENOENT
        await fake.port_add(7, layout.KIND_VHOST, **LIMITS, state_fd=page.fd)
        assert await refused(fake.nic_reset(7)) == errno.ENOTSUP
        fake.refuse = {"nic_reset": errno.EIO}
        assert await refused(fake.nic_reset(7)) == errno.EIO
        await fake.port_del(7)

    asyncio.run(main())
