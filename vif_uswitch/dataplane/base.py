# SPDX-License-Identifier: Apache-2.0
"""What the daemon may ask of a dataplane, whichever it is.

``link.py`` speaks to the real process over its socket, ``fake.py`` is the
in-memory twin for tests.  All values have been validated by the caller; the
dataplane checks them again.  File descriptors are borrowed: the callee
duplicates what it keeps.  Every method belongs to the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vif_uswitch.exceptions import USwitchError


class DataplaneGone(USwitchError):
    """The dataplane process died or does not answer; what was asked may or may not have happened.

    Nobody needs to repeat the request: when a new process is up, the fabric
    replays everything from its own records.
    """


class DataplaneRefused(USwitchError):
    """The dataplane checked a request and said no."""

    def __init__(self, what: str, errno_: int) -> None:
        super().__init__(f"the dataplane refused {what}: errno {errno_}")
        self.errno = errno_


@dataclass(frozen=True, slots=True)
class MemRegion:
    """One region of guest memory; ``fd`` is borrowed."""

    gpa: int
    size: int
    uva: int
    mmap_offset: int
    fd: int


@dataclass(frozen=True, slots=True)
class RingSetup:
    """Everything needed to start one virtqueue; see struct us_vhost_ring."""

    ring: int
    size: int
    base: int  # avail index, or BASE_FROM_USED
    features: int
    desc_uva: int
    avail_uva: int
    used_uva: int
    enabled: bool
    resume: bool
    kick_fd: int | None
    call_fd: int | None


@dataclass(frozen=True, slots=True)
class DirtyLog:
    """Where writes to guest memory are recorded, one bit a page; ``fd`` is borrowed."""

    size: int
    offset: int
    fd: int
    used: tuple[tuple[int, int], ...] = ()  # rings whose used ring is recorded, and as which gpa


@dataclass(frozen=True, slots=True)
class EscrowEntry:
    """Something the dataplane keeps for the next uswitchd; the receiver owns ``fds``."""

    port_id: int  # ANY: the daemon as a whole
    slot: int
    blob: bytes
    fds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """News from the dataplane."""

    kind: int
    port_id: int
    ring: int
    reason: str
    detail: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much a port may send into the switch; see struct us_port_add.  A rate of 0: no limit."""

    max_kbps: int = 0  # kilobits a second
    burst_kbit: int = 0  # at once after a silence
    max_kpps: int = 0  # thousands of frames a second
    burst_kpkt: int = 0


NO_LIMIT = RateLimit()


@dataclass(frozen=True, slots=True)
class NicSetup:
    """How an adapter is driven; see struct us_port_add.  Other kinds of ports have all zeros."""

    n_queues: int = 0  # 1 .. 8
    ring_size: int = 0  # descriptors; 0: the driver's choice
    irq_us: int = 0  # at most one interrupt a queue in so many microseconds
    flags: int = 0  # layout.NIC_IOMMUFD, NIC_ZERO_COPY, NIC_LRO
    ifindex: int = 0  # AF_XDP: the kernel's device


NO_NIC = NicSetup()


@dataclass(frozen=True, slots=True)
class GuardPair:
    """One thing that a guarded port may claim to be; see struct us_guard_pair."""

    mac: bytes  # 6, of one station
    ip: bytes = b""  # 4 or 16 as on the wire, host bits 0; empty: the MAC address alone
    prefix_len: int = 0


class Dataplane(Protocol):
    """One dataplane process; raises DataplaneGone or DataplaneRefused."""

    async def port_add(
        self, port_id: int, kind: int, *, flood_rate: int, flood_burst: int, fdb_quota: int,
        max_frame: int, rate: RateLimit = NO_LIMIT, nic: NicSetup = NO_NIC, state_fd: int,
        device_fds: Sequence[int] = (),
    ) -> None: ...
    async def port_del(self, port_id: int) -> None: ...
    async def port_tags(self, port_id: int, rows: Sequence[tuple[int, int]]) -> None: ...
    async def port_macs(self, port_id: int, macs: Sequence[bytes]) -> None: ...
    async def port_guard(self, port_id: int, pairs: Sequence[GuardPair] | None) -> None:
        """What the port may send from now on; None: anything.  A port begins unguarded."""

    async def port_limits(
        self, port_id: int, *, flood_rate: int, flood_burst: int, fdb_quota: int, max_frame: int,
        rate: RateLimit = NO_LIMIT,
    ) -> None: ...
    async def nic_read(self, port_id: int) -> None: ...
    async def nic_reset(self, port_id: int) -> None: ...
    async def vhost_mem(self, port_id: int, regions: Sequence[MemRegion]) -> None: ...
    async def vhost_log(self, port_id: int, log: DirtyLog | None) -> None: ...
    async def ring_start(self, port_id: int, setup: RingSetup) -> None: ...
    async def ring_stop(self, port_id: int, ring: int) -> int: ...
    async def ring_call(self, port_id: int, ring: int, call_fd: int | None) -> None: ...
    async def ring_enable(self, port_id: int, ring: int, enabled: bool) -> None: ...
    async def port_announce(self, port_id: int, mac: bytes) -> None: ...
    async def fdb_dump(
        self, cursor: int
    ) -> tuple[int, list[tuple[bytes, int, int, int, bool]]]: ...
    async def fdb_flush(self, port_id: int | None, segment_id: int | None) -> int: ...
    async def escrow_put(
        self, port_id: int, slot: int, blob: bytes, fds: Sequence[int]
    ) -> None: ...
    async def escrow_get(self, cursor: int) -> tuple[int, EscrowEntry | None]: ...
    async def escrow_drop(self, port_id: int, slot: int | None) -> None: ...
    async def ping(self) -> None: ...
