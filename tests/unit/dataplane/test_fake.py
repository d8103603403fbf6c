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
from vif_uswitch.dataplane.base import DataplaneRefused, Event, GuardPair, NicSetup
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


MAC = b"\2\0\0\0\0\1"


def test_a_guard_is_kept_and_replaced(page: StatePage) -> None:
    fake = FakeDataplane()
    pairs = [
        GuardPair(MAC), GuardPair(MAC, bytes([10, 0, 0, 0]), 24), GuardPair(MAC, bytes(16), 0),
    ]  # fmt: skip

    async def main() -> None:
        await fake.port_add(7, layout.KIND_VHOST, **LIMITS, state_fd=page.fd)
        kept = [fake.ports[7].guard]
        for wanted in (pairs, [], None):
            await fake.port_guard(7, wanted)
            kept.append(fake.ports[7].guard)
        assert kept == [None, tuple(pairs), (), None]
        await fake.port_del(7)

    asyncio.run(main())
    assert fake.calls[1:4] == [
        ("port_guard", 7, tuple(pairs)), ("port_guard", 7, ()), ("port_guard", 7, None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "refusal"),
    [
        (GuardPair(b"\1\0\0\0\0\1"), errno.EINVAL),
        (GuardPair(bytes(6)), errno.EINVAL),
        (GuardPair(MAC, b"", 1), errno.EINVAL),
        (GuardPair(MAC, bytes(4), 33), errno.EINVAL),
        (GuardPair(MAC, bytes([10, 0, 0, 1]), 24), errno.EINVAL),
        (GuardPair(MAC, bytes(5), 0), errno.EINVAL),
    ],
)
def test_a_guard_that_cannot_be_is_refused(page: StatePage, pair: GuardPair, refusal: int) -> None:
    fake = FakeDataplane()

    async def main() -> None:
        await fake.port_add(7, layout.KIND_VHOST, **LIMITS, state_fd=page.fd)
        with pytest.raises(DataplaneRefused) as refused:
            await fake.port_guard(7, [pair])
        assert refused.value.errno == refusal
        with pytest.raises(DataplaneRefused) as refused:
            await fake.port_guard(7, [GuardPair(MAC)] * 257)
        assert refused.value.errno == errno.E2BIG
        with pytest.raises(DataplaneRefused) as refused:
            await fake.port_guard(8, None)
        assert refused.value.errno == errno.ENOENT
        assert fake.ports[7].guard is None
        fake.kill()

    asyncio.run(main())
