# SPDX-License-Identifier: Apache-2.0
"""vhost-user messages as bytes: their shapes, checked on the way in, and the replies.

This module knows what a message may look like: sizes, numbers of file
descriptors, arithmetic that could overflow.  ``connection.py`` asks it for each
header and each payload; ``msg.py`` has what comes of them.  Everything here is
a pure function of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from vif_uswitch.daemon.vhost.msg import (
    Body,
    Log,
    Message,
    Nothing,
    Number,
    Opaque,
    Region,
    Request,
    Table,
    Violation,
    VringAddr,
    VringFd,
    VringState,
    check_apart,
    request_name,
)

HEADER = struct.Struct("=III")  # request, flags, size of the payload
PAYLOAD_MAX = 4096
FDS_MAX = 253  # the kernel's limit for one message

FLAG_VERSION = 0x1
FLAG_VERSION_MASK = 0x3
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8

VRING_NO_FD = 0x100
TABLE_REGIONS_MAX = 8  # of SET_MEM_TABLE; ADD_MEM_REG goes further

_U64 = struct.Struct("=Q")
_VRING_STATE = struct.Struct("=II")
_VRING_ADDR = struct.Struct("=IIQQQQ")
_TABLE_HEAD = struct.Struct("=II")
_REGION = struct.Struct("=QQQQ")
_LOG = struct.Struct("=QQ")
_ONE_REGION = struct.Struct("=QQQQQ")  # with the padding in front

_2_63 = 1 << 63
_2_64 = 1 << 64


@dataclass(frozen=True, slots=True)
class Rule:
    """Shape of one request.  ``own_reply``: the peer waits for an answer in any case."""

    body: type[Body]
    fds: tuple[int, int] = (0, 0)
    own_reply: bool = False


# What is not in here is not served; see UNSERVED.
RULES: dict[Request, Rule] = {
    Request.GET_FEATURES: Rule(Nothing, own_reply=True),
    Request.SET_FEATURES: Rule(Number),
    Request.SET_OWNER: Rule(Nothing),
    Request.RESET_OWNER: Rule(Nothing),
    Request.SET_MEM_TABLE: Rule(Table, fds=(0, TABLE_REGIONS_MAX)),  # exactly one a region
    Request.SET_LOG_BASE: Rule(Log, fds=(1, 1), own_reply=True),
    Request.SET_LOG_FD: Rule(Nothing, fds=(1, 1)),
    Request.SET_VRING_NUM: Rule(VringState),
    Request.SET_VRING_ADDR: Rule(VringAddr),
    Request.SET_VRING_BASE: Rule(VringState),
    Request.GET_VRING_BASE: Rule(VringState, own_reply=True),
    Request.SET_VRING_KICK: Rule(VringFd, fds=(0, 1)),
    Request.SET_VRING_CALL: Rule(VringFd, fds=(0, 1)),
    Request.SET_VRING_ERR: Rule(VringFd, fds=(0, 1)),
    Request.GET_PROTOCOL_FEATURES: Rule(Nothing, own_reply=True),
    Request.SET_PROTOCOL_FEATURES: Rule(Number),
    Request.GET_QUEUE_NUM: Rule(Nothing, own_reply=True),
    Request.SET_VRING_ENABLE: Rule(VringState),
    Request.SEND_RARP: Rule(Number),
    Request.NET_SET_MTU: Rule(Number),
    Request.RESET_DEVICE: Rule(Nothing),
    Request.GET_MAX_MEM_SLOTS: Rule(Nothing, own_reply=True),
    Request.ADD_MEM_REG: Rule(Region, fds=(1, 1)),
    Request.REM_MEM_REG: Rule(Region, fds=(0, 1)),  # the fd is allowed for old front-ends
    Request.SET_STATUS: Rule(Number),
    Request.GET_STATUS: Rule(Nothing, own_reply=True),
}

# Requests whose own reply a peer would wait for; refusing them ends the session.
UNSERVED_WITH_REPLY = frozenset(
    {
        Request.GET_CONFIG, Request.CREATE_CRYPTO_SESSION, Request.POSTCOPY_ADVISE,
        Request.GET_INFLIGHT_FD, Request.GET_SHARED_OBJECT, Request.SET_DEVICE_STATE_FD,
        Request.CHECK_DEVICE_STATE, Request.GET_SHMEM_CONFIG,
    }
)  # fmt: skip
UNSERVED = Rule(Opaque, fds=(0, FDS_MAX))
UNSERVED_OWN_REPLY = Rule(Opaque, fds=(0, FDS_MAX), own_reply=True)


@dataclass(frozen=True, slots=True)
class Header:
    request: int
    need_reply: bool
    size: int


def read_header(data: bytes) -> Header:
    """The first 12 bytes of a message."""
    request, flags, size = HEADER.unpack(data)
    if flags & FLAG_VERSION_MASK != FLAG_VERSION:
        raise Violation(f"{request_name(request)} of protocol version {flags & FLAG_VERSION_MASK}")
    if flags & ~(FLAG_VERSION_MASK | FLAG_NEED_REPLY):
        raise Violation(f"{request_name(request)} with flags {flags:#x}")
    if size > PAYLOAD_MAX:
        raise Violation(f"{request_name(request)} with a payload of {size} bytes")
    return Header(request, bool(flags & FLAG_NEED_REPLY), size)


def rule_of(request: int) -> Rule:
    try:
        known = Request(request)
    except ValueError:
        return UNSERVED
    if known in RULES:
        return RULES[known]
    return UNSERVED_OWN_REPLY if known in UNSERVED_WITH_REPLY else UNSERVED


def decode(header: Header, payload: bytes, n_fds: int) -> Message:
    """A message whose shape is right, or Violation."""
    rule = rule_of(header.request)
    name = request_name(header.request)
    if not rule.fds[0] <= n_fds <= rule.fds[1]:
        raise Violation(f"{name} with {n_fds} file descriptors")
    try:
        body = _DECODERS[rule.body](payload)
    except struct.error:
        raise Violation(f"{name} with a payload of {len(payload)} bytes") from None
    except Violation as error:
        raise Violation(f"{name}: {error}") from None
    if isinstance(body, Table) and n_fds != len(body.regions):
        raise Violation(f"{name} of {len(body.regions)} regions with {n_fds} file descriptors")
    if isinstance(body, VringFd) and body.has_fd != (n_fds == 1):
        raise Violation(f"{name} whose no-fd bit does not match its {n_fds} file descriptors")
    return Message(header.request, header.need_reply, rule.own_reply, body)


def _nothing(payload: bytes) -> Nothing:
    if payload:
        raise struct.error
    return Nothing()


def _number(payload: bytes) -> Number:
    return Number(*_U64.unpack(payload))


def _vring_fd(payload: bytes) -> VringFd:
    (value,) = _U64.unpack(payload)
    return VringFd(value & ~VRING_NO_FD, not value & VRING_NO_FD)


def _table(payload: bytes) -> Table:
    claimed_regions, _ = _TABLE_HEAD.unpack_from(payload)
    if claimed_regions > TABLE_REGIONS_MAX:
        raise Violation(f"{claimed_regions} regions")
    if len(payload) != _TABLE_HEAD.size + claimed_regions * _REGION.size:
        raise struct.error
    rows = _REGION.iter_unpack(payload[_TABLE_HEAD.size :])
    regions = tuple(_checked(*row) for row in rows)
    for i, region in enumerate(regions):
        check_apart(region, regions[:i])
    return Table(regions)


def _one_region(payload: bytes) -> Region:
    _, gpa, size, uva, mmap_offset = _ONE_REGION.unpack(payload)
    return _checked(gpa, size, uva, mmap_offset)


def _log(payload: bytes) -> Log:
    size, offset = _LOG.unpack(payload)
    if size == 0:
        raise Violation("a log without size")
    if offset + size > _2_63:
        raise Violation(f"a log that wraps: offset {offset:#x}, size {size:#x}")
    return Log(size, offset)


def _checked(gpa: int, size: int, uva: int, mmap_offset: int) -> Region:
    """Nothing of it may wrap: neither address range, nor the part of the file."""
    if size == 0:
        raise Violation("a memory region without size")
    if gpa + size > _2_64 or uva + size > _2_64 or mmap_offset + size > _2_63:
        raise Violation(
            f"a memory region that wraps: gpa {gpa:#x}, uva {uva:#x}, offset {mmap_offset:#x}, "
            f"size {size:#x}"
        )
    return Region(gpa, size, uva, mmap_offset)


_DECODERS: dict[type[Body], Callable[[bytes], Body]] = {
    Nothing: _nothing,
    Number: _number,
    VringState: lambda payload: VringState(*_VRING_STATE.unpack(payload)),
    VringAddr: lambda payload: VringAddr(*_VRING_ADDR.unpack(payload)),
    VringFd: _vring_fd,
    Region: _one_region,
    Table: _table,
    Log: _log,
    Opaque: lambda _: Opaque(),
}


def reply_number(request: int, value: int) -> bytes:
    """A reply with a u64: features, or 0 and 1 of REPLY_ACK."""
    return HEADER.pack(request, FLAG_VERSION | FLAG_REPLY, _U64.size) + _U64.pack(value)


def reply_vring(request: int, index: int, num: int) -> bytes:
    head = HEADER.pack(request, FLAG_VERSION | FLAG_REPLY, _VRING_STATE.size)
    return head + _VRING_STATE.pack(index, num)
