# SPDX-License-Identifier: Apache-2.0
"""Pinned addresses of a guest that leaves by live migration, over a real socket (L6)."""

from __future__ import annotations

import os

import pytest

from tests.unit.daemon import vhost_peer as wire
from tests.unit.daemon.fabric_rig import Rig, run, until
from tests.unit.daemon.vhost_peer import Peer
from vif_uswitch.daemon.model import Link
from vif_uswitch.daemon.vhost import features as virtio

PINNED = bytes.fromhex("525400123456")
COPIED = 1 << 32 | 1 << 30 | 1 << 26  # VHOST_F_LOG_ALL


async def copy_away(peer: Peer, made: list[int]) -> None:
    """As QEMU does it that migrates its guest, up to the stop of the rings."""
    log = wire.ram(4096)
    made.append(log)
    assert await peer.ack(16, wire.number(virtio.PROTOCOL_OFFERED)) == 0
    assert await peer.ask(6, wire.log(wire.RAM // 4096 // 8), [log]) == 0
    assert await peer.ack(2, wire.number(COPIED)) == 0
    for ring in (0, 1):
        await peer.ask(11, wire.vring(ring, 0))


def test_a_guest_that_migrated_leaves_its_address_to_be_learned_elsewhere() -> None:
    """Until a guest runs behind the port again, whoever is connected meanwhile."""

    async def test(rig: Rig) -> None:
        async with rig.fabric(1, macs=(PINNED,)) as fabric:
            macs, made = rig.fake.ports[1].macs, [wire.ram()]
            assert macs == [PINNED]
            peer = await rig.connect()
            made += (await wire.set_up(peer, made[0])).values()
            await peer.ask(11, wire.vring(0, 0))
            assert rig.fake.ports[1].macs == [PINNED], "one that only pauses"
            made += (await wire.set_up(peer, made[0])).values()
            await copy_away(peer, made)
            assert rig.fake.ports[1].macs == []
            await fabric.ensure_port(rig.config(1, macs=(PINNED,), mtu=1400))
            assert rig.fake.ports[1].macs == [], "another change brings it back"
            peer.close()
            await until(lambda: fabric.port_live(1).link is Link.WAITING)
            assert rig.fake.ports[1].macs == []
            peer = await rig.connect()
            assert rig.fake.ports[1].macs == []
            made += (await wire.set_up(peer, made[0])).values()
            assert rig.fake.ports[1].macs == [PINNED]
            peer.close()
        for fd in made:
            os.close(fd)

    run(test)


def test_a_migration_that_is_given_up_has_the_address_back() -> None:
    async def test(rig: Rig) -> None:
        async with rig.fabric(1, macs=(PINNED,)):
            made = [wire.ram()]
            peer = await rig.connect()
            made += (await wire.set_up(peer, made[0])).values()
            await copy_away(peer, made)
            assert rig.fake.ports[1].macs == []
            kick = wire.eventfd()
            assert await peer.ack(12, wire.number(0), [kick]) == 0
            assert rig.fake.ports[1].macs == [PINNED]
            peer.close()
        for fd in (*made, kick):
            os.close(fd)

    run(test)


@pytest.mark.parametrize("stays", [True, False])
def test_a_new_dataplane_and_a_new_uswitchd_know_that_it_left(stays: bool) -> None:
    """If nobody is connected any more, a new uswitchd pins the address again."""

    async def test(rig: Rig) -> None:
        fabric = await rig.start()
        await fabric.ensure_port(rig.config(1, macs=(PINNED,)))
        made = [wire.ram()]
        peer = await rig.connect()
        made += (await wire.set_up(peer, made[0])).values()
        await copy_away(peer, made)
        if not stays:
            peer.close()
            await until(lambda: fabric.port_live(1).link is Link.WAITING)
        await fabric.stop(keep_dataplane=True)
        fabric = await rig.start()
        await fabric.ensure_port(rig.config(1, macs=(PINNED,)))
        assert rig.fake.ports[1].macs == ([] if stays else [PINNED])
        rig.fake.kill()
        await until(lambda: 1 in rig.fake.ports and rig.fake.ports[1].tags)
        assert rig.fake.ports[1].macs == ([] if stays else [PINNED])
        peer.close()
        await fabric.stop(keep_dataplane=False)
        for fd in made:
            os.close(fd)

    run(test)
