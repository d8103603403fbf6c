# SPDX-License-Identifier: Apache-2.0
"""vhost-user messages as a front-end writes them (QEMU docs/interop/vhost-user).

Header: request u32, flags u32 (version 1; bit 2 reply; bit 3 reply wanted), payload size u32.
"""

from __future__ import annotations

import enum
import struct

VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3
HEADER = struct.Struct("<III")


class Req(enum.IntEnum):
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


# Virtio feature bits (virtio 1.2, 5.1.3 and 6) and vhost-user's own.
F_CSUM = 1 << 0
F_GUEST_CSUM = 1 << 1
F_MTU = 1 << 3
F_GUEST_TSO4 = 1 << 7
F_GUEST_TSO6 = 1 << 8
F_HOST_TSO4 = 1 << 11
F_HOST_TSO6 = 1 << 12
F_GUEST_USO4 = 1 << 54
F_GUEST_USO6 = 1 << 55
F_HOST_USO = 1 << 56
F_MRG_RXBUF = 1 << 15
F_MQ = 1 << 22
F_LOG_ALL = 1 << 26
F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_PROTOCOL_FEATURES = 1 << 30
F_VERSION_1 = 1 << 32
F_RING_PACKED = 1 << 34
F_RING_RESET = 1 << 40

PF_MQ = 1 << 0
PF_LOG_SHMFD = 1 << 1
PF_RARP = 1 << 2
PF_REPLY_ACK = 1 << 3
PF_MTU = 1 << 4
PF_RESET_DEVICE = 1 << 13
PF_CONFIGURE_MEM_SLOTS = 1 << 15
PF_STATUS = 1 << 16

STATUS_DRIVER_OK = 1 | 2 | 4 | 8  # acknowledge, driver, driver ok, features ok (virtio 1.2, 2.1)


def pack(
    request: int,
    payload: bytes = b"",
    *,
    need_reply: bool = False,
    flags: int | None = None,
    size: int | None = None,
) -> bytes:
    """One message; ``flags`` and ``size`` override what would be right."""
    if flags is None:
        flags = VERSION | (NEED_REPLY if need_reply else 0)
    return HEADER.pack(request, flags, len(payload) if size is None else size) + payload


def pack_state(index: int, num: int) -> bytes:
    return struct.pack("<II", index & 0xFFFFFFFF, num & 0xFFFFFFFF)


def pack_ring_addr(
    index: int, desc: int, used: int, avail: int, flags: int = 0, log: int = 0
) -> bytes:
    return struct.pack("<IIQQQQ", index & 0xFFFFFFFF, flags, desc, used, avail, log)


def pack_region(gpa: int, size: int, uva: int, offset: int) -> bytes:
    return struct.pack("<QQQQ", gpa, size, uva, offset)
