# SPDX-License-Identifier: Apache-2.0
"""Escrow blobs survive the trip, and damaged ones are refused."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.model import Kind, Mode, PortConfig, TagRow
from vif_uswitch.dataplane.fake import FakeDataplane
from vif_uswitch.dataplane.native import constant

CONFIG = PortConfig(
    port_id=3, name="a", kind=Kind.VHOST, path="/run/a.sock", mode=Mode.CLIENT,
    tags=(TagRow(4096, 5), TagRow(7, 9)), macs=(b"\x52\x54\0\0\xff\1",), features_off=1 << 32,
)  # fmt: skip

RECORDS = [
    escrow.PortRecord.of(CONFIG),
    escrow.ListenerRecord(1, (1 << 64) - 1),
    escrow.SessionRecord((1 << 64) - 1, True, 5, 15, 4711),
    escrow.MemoryRecord((escrow.RegionRecord(1, 2, 1 << 63, 4),)),
    escrow.RingRecord(size=256, desc_uva=(1 << 64) - 16, enabled=True, has_kick=True),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_round_trip(record: escrow.Record) -> None:
    if isinstance(record, escrow.PortRecord):
        assert record.restore() == CONFIG
    blob = escrow.encode(record)
    assert escrow.decode(type(record), blob) == record
    assert len(blob) < constant("US_BLOB_MAX")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_any_damage_is_a_bad_blob_or_a_valid_record(record: escrow.Record) -> None:
    @given(at=st.integers(0, 400), value=st.integers(0, 255), cut=st.booleans())
    def flip(at: int, value: int, cut: bool) -> None:
        blob = bytearray(escrow.encode(record))
        at %= len(blob)
        blob[at] = value
        try:
            found = escrow.decode(type(record), bytes(blob[:at] if cut else blob))
        except escrow.BadBlob:
            return
        assert type(found) is type(record)

    flip()


@pytest.mark.parametrize(
    "blob", [b"", b"\x02{}", b'\x01{"size":-1}', b'\x01{"size":4294967296}', b'\x01{"new":1}']
)
def test_refused(blob: bytes) -> None:
    with pytest.raises(escrow.BadBlob):
        escrow.decode(escrow.RingRecord, blob)


def test_the_largest_port_fits() -> None:
    tags = tuple(TagRow(vid, 4095) for vid in range(1, 4098))
    macs = tuple(bytes([2, 0, 0, 0, 0, i]) for i in range(64))
    path = "/" + "x" * 106
    config = PortConfig(1, "x" * 200, Kind.VHOST, path, tags=tags, macs=macs)
    blob = escrow.encode(escrow.PortRecord.of(config))
    assert len(blob) < constant("US_BLOB_MAX")
    assert escrow.decode(escrow.PortRecord, blob).restore() == config


def test_read_all() -> None:
    async def test() -> None:
        fake = FakeDataplane()
        before = len(os.listdir("/proc/self/fd"))
        fd = os.eventfd(0)
        assert await escrow.read_all(fake) == {}
        for port, slot in ((1, 0), (1, 16), (2, 0)):
            await fake.escrow_put(port, slot, b"b", [fd] * slot)
        found = await escrow.read_all(fake)
        assert {port: sorted(slots) for port, slots in found.items()} == {1: [0, 16], 2: [0]}
        assert len(found[1][16].fds) == 16
        escrow.close_entries(found)
        fake.kill()
        os.close(fd)
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(test())
