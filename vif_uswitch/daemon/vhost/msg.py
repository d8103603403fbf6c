# SPDX-License-Identifier: Apache-2.0
"""vhost-user messages as values: what a peer may ask for, frozen and free of bytes.

The protocol is QEMU's docs/interop/vhost-user.rst.  ``codec.py`` makes these
out of bytes and has checked their shape; what they mean, and whether they are
in order now, is ``dispatch.py``'s business.

A ``Violation`` may come of either: the peer does not speak the protocol, and
its session ends.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

VRING_F_LOG = 0x1  # of SET_VRING_ADDR: writes to the used ring are logged
LOG_PAGE = 4096  # bytes of guest memory that one bit of the log stands for


class Violation(Exception):
    """The peer broke the protocol; the text is for the operator."""


class Request(enum.IntEnum):
    """Every request of the specification, served here or not."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    GET_SHARED_OBJECT = 41
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43
    GET_SHMEM_CONFIG = 44


@dataclass(frozen=True, slots=True)
class Nothing:
    """No payload."""


@dataclass(frozen=True, slots=True)
class Number:
    """A u64: features, an MTU, a status."""

    value: int


@dataclass(frozen=True, slots=True)
class VringState:
    """``index`` is the whole u32 as sent; whoever uses it compares it first."""

    index: int
    num: int


@dataclass(frozen=True, slots=True)
class VringAddr:
    index: int
    flags: int
    desc: int
    used: int
    avail: int
    log: int


@dataclass(frozen=True, slots=True)
class VringFd:
    """Kick, call or err: ``index`` is all bits of the u64 but the no-fd bit."""

    index: int
    has_fd: bool


@dataclass(frozen=True, slots=True)
class Region:
    """One memory region whose sums are known to fit."""

    gpa: int
    size: int
    uva: int
    mmap_offset: int


@dataclass(frozen=True, slots=True)
class Table:
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """Where the log of dirty pages lies in its file; the sum is known to fit."""

    size: int
    offset: int

    @property
    def end(self) -> int:
        """The first guest physical address whose page has no bit."""
        return self.size * 8 * LOG_PAGE


@dataclass(frozen=True, slots=True)
class Opaque:
    """The payload of a request that is not served; nobody looks into it."""


Body = Nothing | Number | VringState | VringAddr | VringFd | Region | Table | Log | Opaque


@dataclass(frozen=True, slots=True)
class Message:
    request: int
    need_reply: bool
    own_reply: bool
    body: Body

    @property
    def name(self) -> str:
        return request_name(self.request)


def request_name(request: int) -> str:
    try:
        return Request(request).name
    except ValueError:
        return f"request {request}"


def check_apart(region: Region, others: tuple[Region, ...]) -> None:
    """No address may mean two places, in either address space."""
    for other in others:
        if _overlap(region.gpa, region.size, other.gpa, other.size) or _overlap(
            region.uva, region.size, other.uva, other.size
        ):
            raise Violation(f"memory regions overlap at gpa {region.gpa:#x}, uva {region.uva:#x}")


def _overlap(a: int, a_size: int, b: int, b_size: int) -> bool:
    return a < b + b_size and b < a + a_size
