# SPDX-License-Identifier: Apache-2.0
"""Messages of the dataplane link as bytes: uswitch.h's structs, packed and read.

Pure functions over the layouts that ``native.py`` provides; no sockets here.
``link.py`` sends what these return.  Integers are in host byte order, both
sides run on one host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from vif_uswitch.dataplane import native
from vif_uswitch.dataplane.base import (
    NO_LIMIT,
    NO_NIC,
    DirtyLog,
    Event,
    GuardPair,
    MemRegion,
    NicSetup,
    RateLimit,
    RingSetup,
)
from vif_uswitch.dataplane.native import constant, ffi

ABI_VERSION = constant("US_ABI_VERSION")
ANY = constant("US_ANY")
SLOT_ALL = constant("US_SLOT_ALL")
KIND_VHOST = constant("US_KIND_VHOST")
KIND_TAP = constant("US_KIND_TAP")
KIND_NIC = constant("US_KIND_NIC")
KIND_XDP = constant("US_KIND_XDP")
NIC_IOMMUFD = constant("US_NIC_IOMMUFD")
NIC_ZERO_COPY = constant("US_NIC_ZERO_COPY")
NIC_LRO = constant("US_NIC_LRO")
NIC_COUNTER_NONE = constant("US_NIC_COUNTER_NONE")
QUEUES_MAX = constant("US_QUEUES_MAX")
BASE_FROM_USED = constant("US_BASE_FROM_USED")
PORTS_MAX = constant("US_PORTS_MAX")
RINGS_MAX = constant("US_RINGS_MAX")
LINK_MSG_MAX = constant("US_LINK_MSG_MAX")
LINK_FDS_MAX = constant("US_LINK_FDS_MAX")

HELLO = constant("US_LINK_HELLO")
PORT_ADD = constant("US_LINK_PORT_ADD")
PORT_DEL = constant("US_LINK_PORT_DEL")
PORT_TAGS = constant("US_LINK_PORT_TAGS")
PORT_MACS = constant("US_LINK_PORT_MACS")
PORT_LIMITS = constant("US_LINK_PORT_LIMITS")
VHOST_MEM = constant("US_LINK_VHOST_MEM")
RING_START = constant("US_LINK_RING_START")
RING_STOP = constant("US_LINK_RING_STOP")
RING_CALL = constant("US_LINK_RING_CALL")
RING_ENABLE = constant("US_LINK_RING_ENABLE")
FDB_DUMP = constant("US_LINK_FDB_DUMP")
FDB_FLUSH = constant("US_LINK_FDB_FLUSH")
ESCROW_PUT = constant("US_LINK_ESCROW_PUT")
ESCROW_GET = constant("US_LINK_ESCROW_GET")
ESCROW_DROP = constant("US_LINK_ESCROW_DROP")
PING = constant("US_LINK_PING")
SHUTDOWN = constant("US_LINK_SHUTDOWN")
VHOST_LOG = constant("US_LINK_VHOST_LOG")
PORT_ANNOUNCE = constant("US_LINK_PORT_ANNOUNCE")
NIC_READ = constant("US_LINK_NIC_READ")
NIC_RESET = constant("US_LINK_NIC_RESET")
PORT_GUARD = constant("US_LINK_PORT_GUARD")
REPLY = constant("US_LINK_REPLY")
EVENT = constant("US_LINK_EVENT")

EVENT_PORT_BROKEN = constant("US_EVENT_PORT_BROKEN")
EVENT_LINK = constant("US_EVENT_LINK")


class Malformed(ValueError):
    """A message of the link does not have the shape it must have."""


@dataclass(frozen=True, slots=True)
class Head:
    kind: int
    length: int
    seq: int
    rc: int
    value: int


@dataclass(frozen=True, slots=True)
class Hello:
    abi: int
    pid: int
    n_ports: int
    n_escrow: int
    build_id: int


def size(struct: str) -> int:
    return int(ffi.sizeof(f"struct {struct}"))


def offset(struct: str, member: str) -> int:
    return int(ffi.offsetof(f"struct {struct}", member))


HEAD_SIZE = size("us_link_head")


def _pack(struct: str, values: Sequence[Any]) -> bytes:
    return bytes(ffi.buffer(ffi.new(f"struct {struct} *", tuple(values))))


def _pack_cut(struct: str, rows: str, values: Sequence[Any], row_size: int) -> bytes:
    """A struct that ends in an array, cut after its last row in use."""
    used = len(values[-1])
    return _pack(struct, values)[: offset(struct, rows) + used * row_size]


def _read(struct: str, data: bytes, at: int = 0) -> Any:
    need = size(struct)
    if len(data) - at < need:
        raise Malformed(f"{len(data) - at} bytes for struct {struct} of {need}")
    found = ffi.new(f"struct {struct} *")
    ffi.memmove(found, data[at : at + need], need)
    return found


# ---- head ----


def head(kind: int, seq: int, body_len: int, rc: int = 0, value: int = 0) -> bytes:
    return _pack("us_link_head", (kind, HEAD_SIZE + body_len, seq, rc, value))


def read_head(data: bytes) -> Head:
    found = _read("us_link_head", data)
    if found.len != len(data):
        raise Malformed(f"a message of {len(data)} bytes says it has {found.len}")
    return Head(found.type, found.len, found.seq, found.rc, found.value)


# ---- requests ----


def hello(pid: int) -> bytes:
    return _pack("us_link_hello", (ABI_VERSION, pid, 0, 0, native.build_id()))


def port_add(
    port_id: int, kind: int, flood_rate: int, flood_burst: int, fdb_quota: int, max_frame: int,
    rate: RateLimit = NO_LIMIT, nic: NicSetup = NO_NIC,
) -> bytes:  # fmt: skip
    limits = (flood_rate, flood_burst, fdb_quota, max_frame, *astuple(rate))
    return _pack("us_port_add", (port_id, kind, *limits, *astuple(nic)))


def port_del(port_id: int) -> bytes:
    return _pack("us_port_del", (port_id, 0))


def port_ref(port_id: int) -> bytes:
    return _pack("us_port_ref", (port_id, 0))


def port_tags(port_id: int, rows: Sequence[tuple[int, int]]) -> bytes:
    values = (port_id, len(rows), list(rows))
    return _pack_cut("us_port_tags", "row", values, size("us_tag_row"))


def port_macs(port_id: int, macs: Sequence[bytes]) -> bytes:
    return _pack_cut("us_port_macs", "mac", (port_id, len(macs), [list(mac) for mac in macs]), 6)


def port_guard(port_id: int, pairs: Sequence[GuardPair] | None) -> bytes:
    values = native.guard_values(port_id, pairs)
    return _pack_cut("us_port_guard", "pair", values, size("us_guard_pair"))


def port_limits(
    port_id: int, flood_rate: int, flood_burst: int, fdb_quota: int, max_frame: int,
    rate: RateLimit = NO_LIMIT,
) -> bytes:  # fmt: skip
    values = (port_id, flood_rate, flood_burst, fdb_quota, max_frame, *astuple(rate), 0)
    return _pack("us_port_limits", values)


def vhost_mem(port_id: int, regions: Sequence[MemRegion]) -> bytes:
    rows = [(r.gpa, r.size, r.uva, r.mmap_offset) for r in regions]
    return _pack_cut("us_vhost_mem", "region", (port_id, len(rows), rows), size("us_mem_region"))


def vhost_log(port_id: int, log: DirtyLog | None) -> bytes:
    if log is None:
        return _pack("us_vhost_log", (port_id, 0))
    used_gpa = [0] * RINGS_MAX
    for ring, gpa in log.used:
        used_gpa[ring] = gpa
    mask = sum(1 << ring for ring, _ in log.used)
    return _pack("us_vhost_log", (port_id, 1, log.size, log.offset, mask, used_gpa))


def port_announce(port_id: int, mac: bytes) -> bytes:
    return _pack("us_port_announce", (port_id, list(mac), 0))


def ring_start(port_id: int, setup: RingSetup) -> bytes:
    kick = constant("US_RING_KICK") if setup.kick_fd is not None else 0
    call = constant("US_RING_CALL") if setup.call_fd is not None else 0
    values = (
        port_id, setup.ring, setup.size, setup.base, setup.features, setup.desc_uva,
        setup.avail_uva, setup.used_uva, int(setup.enabled), int(setup.resume), kick | call, 0,
    )  # fmt: skip
    return _pack("us_vhost_ring", values)


def ring_ref(port_id: int, ring: int, enabled: bool = False) -> bytes:
    return _pack("us_vhost_ring_ref", (port_id, ring, int(enabled), 0))


def cursor(at: int) -> bytes:
    return _pack("us_link_cursor", (at,))


def fdb_flush(port_id: int | None, segment_id: int | None) -> bytes:
    port = ANY if port_id is None else port_id
    return _pack("us_link_fdb_flush", (port, ANY if segment_id is None else segment_id))


def escrow(port_id: int, slot: int, blob: bytes = b"", n_fds: int = 0) -> bytes:
    return _pack("us_link_escrow", (port_id, slot, len(blob), n_fds)) + blob


# ---- replies and events ----


def read_hello(body: bytes) -> Hello:
    found = _read("us_link_hello", body)
    return Hello(found.abi, found.pid, found.n_ports, found.n_escrow, found.build_id)


def read_fdb(body: bytes) -> list[tuple[bytes, int, int, int, bool]]:
    """(mac, segment, port, age in seconds, pinned) of each entry."""
    step = size("us_fdb_entry")
    if len(body) % step:
        raise Malformed(f"{len(body)} bytes of address table entries")
    entries = (_read("us_fdb_entry", body, at) for at in range(0, len(body), step))
    return [(bytes(e.mac), e.segment, e.port_id, e.age_s, bool(e.pinned)) for e in entries]


def read_escrow(body: bytes, n_fds: int) -> tuple[int, int, bytes]:
    """Port id, slot and blob."""
    found = _read("us_link_escrow", body)
    blob = body[size("us_link_escrow") :]
    if found.blob_len != len(blob) or found.n_fds != n_fds:
        raise Malformed("an escrow entry of another size than it says")
    return int(found.port_id), int(found.slot), blob


def read_event(body: bytes) -> Event:
    found = _read("us_event", body)
    return Event(
        found.kind, found.port_id, found.ring, native.break_name(found.reason), found.detail
    )
