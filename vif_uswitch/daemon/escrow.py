# SPDX-License-Identifier: Apache-2.0
"""What uswitchd leaves with the dataplane for the next uswitchd: slots, blobs, their format.

Each port has a few slots, so that one vhost-user message changes one of them:

====================  =====================================  ==========================
slot                  blob                                   file descriptors
====================  =====================================  ==========================
SLOT_PORT             the port's configuration               state page, tap device
SLOT_DEVICE           how an adapter was opened              container, device, group;
                                                             or iommufd, device
SLOT_LISTENER         which socket file is ours              listening socket
SLOT_SESSION          what was negotiated                    the peer's connection
SLOT_MEMORY           the memory table                       one a region
SLOT_LOG              the log of dirty pages, if any         its file
SLOT_RING + ring      one virtqueue                          kick, call, err, if any
====================  =====================================  ==========================

A blob is a version byte and JSON, checked against the types below when it is
read: the reader may be of another version than the writer.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from typing import Annotated, TypeVar

import msgspec

from vif_uswitch.daemon.model import PortConfig, TagRow
from vif_uswitch.dataplane.base import Dataplane, EscrowEntry

SLOT_PORT = 0
SLOT_LISTENER = 1
SLOT_SESSION = 2
SLOT_MEMORY = 3
SLOT_LOG = 4
SLOT_DEVICE = 5
SLOT_RING = 16

VERSION = b"\x01"
_ROW = struct.Struct("<HH")

U64 = Annotated[int, msgspec.Meta(ge=0)]
U32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
QueuePairs = Annotated[int, msgspec.Meta(ge=1, le=8)]


class BadBlob(ValueError):
    """A blob that this version cannot use."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all blobs."""


class PortRecord(Record, frozen=True):
    """The tag table is packed: a full one has 4097 rows, and must fit into a blob."""

    config: PortConfig  # without its rows
    rows: bytes

    @classmethod
    def of(cls, config: PortConfig) -> PortRecord:
        rows = b"".join(_ROW.pack(row.vid, row.segment_id) for row in config.tags)
        return cls(replace(config, tags=()), rows)

    def restore(self) -> PortConfig:
        if len(self.rows) % _ROW.size:
            raise BadBlob(f"a tag table of {len(self.rows)} bytes")
        tags = tuple(TagRow(*row) for row in _ROW.iter_unpack(self.rows))
        return replace(self.config, tags=tags)


class DeviceRecord(Record, frozen=True):
    iommufd: bool


class ListenerRecord(Record, frozen=True):
    device: U64
    inode: U64


class SessionRecord(Record, frozen=True):
    """What a vhost-user session has agreed on."""

    features: U64 = 0
    features_set: bool = False
    protocol_features: U64 = 0
    status: Annotated[int, msgspec.Meta(ge=0, lt=256)] = 0
    peer_pid: int | None = None
    queue_pairs: QueuePairs = 1  # what GET_QUEUE_NUM says; earlier releases had one


class RegionRecord(Record, frozen=True):
    gpa: U64
    size: U64
    uva: U64
    mmap_offset: U64


class MemoryRecord(Record, frozen=True):
    regions: tuple[RegionRecord, ...] = ()


class LogRecord(Record, frozen=True):
    """Where dirty pages are recorded; size 0: there is no log."""

    size: U64 = 0
    offset: U64 = 0


class RingRecord(Record, frozen=True):
    """One virtqueue, as the front-end described it."""

    size: U32 = 0
    base: U32 = 0
    addressed: bool = False
    desc_uva: U64 = 0
    avail_uva: U64 = 0
    used_uva: U64 = 0
    log_used: bool = False  # writes to the used ring are recorded, as at log_gpa
    log_gpa: U64 = 0
    kicked: bool = False  # SET_VRING_KICK was seen: the ring may run
    enabled: bool | None = None  # None: never told, see Session
    active: bool = False  # the dataplane shall serve it
    has_kick: bool = False
    has_call: bool = False
    has_err: bool = False


T = TypeVar("T", bound=Record)


def encode(record: Record) -> bytes:
    return VERSION + msgspec.json.encode(record)


def decode(kind: type[T], blob: bytes) -> T:
    if blob[:1] != VERSION:
        raise BadBlob(f"version {blob[:1]!r}")
    try:
        return msgspec.json.decode(blob[1:], type=kind)
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: no UTF-8
        raise BadBlob(f"{kind.__name__}: {error}") from error


async def read_all(dataplane: Dataplane) -> dict[int, dict[int, EscrowEntry]]:
    """Everything in escrow, by port and slot; the caller owns all file descriptors."""
    found: dict[int, dict[int, EscrowEntry]] = {}
    cursor = 0
    try:
        while True:
            cursor, entry = await dataplane.escrow_get(cursor)
            if entry is not None:
                found.setdefault(entry.port_id, {})[entry.slot] = entry
            if cursor == 0:
                return found
    except BaseException:
        close_entries(found)
        raise


def close_entries(found: dict[int, dict[int, EscrowEntry]]) -> None:
    for slots in found.values():
        for entry in slots.values():
            for fd in entry.fds:
                os.close(fd)
