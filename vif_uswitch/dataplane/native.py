# SPDX-License-Identifier: Apache-2.0
"""The only importer of the cffi extension: struct layouts, names, the in-process switch.

Everything cffi hands out is untyped; this module is where that ends.  It has
two kinds of users: ``layout.py`` and ``statepage.py`` take the layouts of
uswitch.h from here, tests and tools drive a whole switch in their own process
through ``NativeSwitch``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import astuple
from types import TracebackType
from typing import Any

from vif_uswitch.dataplane.base import (
    NO_LIMIT,
    NO_NIC,
    DataplaneRefused,
    DirtyLog,
    Event,
    GuardPair,
    MemRegion,
    NicSetup,
    RateLimit,
    RingSetup,
)

try:
    _extension = importlib.import_module("vif_uswitch.dataplane._native")
except ModuleNotFoundError as missing:
    raise ImportError(
        "vif_uswitch.dataplane._native is not compiled: run make build, or pip install"
    ) from missing

ffi: Any = _extension.ffi
lib: Any = _extension.lib


def constant(name: str) -> int:
    """A ``#define`` of uswitch.h."""
    return int(getattr(lib, name))


def build_id() -> int:
    """Hash of all layouts, as compiled."""
    return int(lib.us_build_id())


def _text(found: Any, index: int) -> str:
    return ffi.string(found).decode() if found != ffi.NULL else f"reason-{index}"


def drop_name(index: int) -> str:
    return _text(lib.us_drop_name(index), index)


def break_name(index: int) -> str:
    return _text(lib.us_break_name(index), index)


def break_text(index: int) -> str:
    return _text(lib.us_break_text(index), index)


def nic_counter_names() -> tuple[str, ...]:
    """The hardware counters, in the order of struct us_nic_state."""
    found = (lib.us_nic_counter_name(i) for i in range(constant("US_NIC_COUNTERS_MAX")))
    return tuple(ffi.string(name).decode() for name in found if name != ffi.NULL)


def guard_values(port_id: int, pairs: Sequence[GuardPair] | None) -> tuple[Any, ...]:
    """What a struct us_port_guard is made of, its rows last."""
    family = {
        0: constant("US_GUARD_MAC"), 4: constant("US_GUARD_IPV4"), 16: constant("US_GUARD_IPV6"),
    }  # fmt: skip
    rows = [
        (list(pair.mac), family[len(pair.ip)], pair.prefix_len, list(pair.ip))
        for pair in pairs or ()
    ]
    return port_id, int(pairs is not None), len(rows), 0, rows


def _check(rc: int, what: str) -> int:
    if rc < 0:
        raise DataplaneRefused(what, -rc)
    return int(rc)


class NativeSwitch:
    """A whole switch in this process.  With ``workers=0`` no thread runs and ``poll()`` drives it.

    Belongs to the thread and the process that made it; close it, or use it as
    a context manager.
    """

    def __init__(
        self, *, workers: int = 0, poll_us: int = 0, fdb_buckets: int = 1024, fdb_age_s: int = 300,
        rebalance_ms: int = 0,
    ) -> None:  # fmt: skip
        config = ffi.new(
            "struct us_config *",
            {
                "n_workers": workers, "poll_us": poll_us, "fdb_buckets": fdb_buckets,
                "fdb_age_s": fdb_age_s, "cpu": [-1] * constant("US_WORKERS_MAX"),
                "rebalance_ms": rebalance_ms,
            },
        )  # fmt: skip
        out = ffi.new("struct uswitch **")
        create = lib.uswitch_create
        _check(create(config, out), "to create a switch")
        self._pid = os.getpid()
        # The destructor only catches what close() was not called for.
        self._us = ffi.gc(out[0], self._destroy)

    def _destroy(self, us: Any) -> None:
        if os.getpid() == self._pid:  # a fork's copy has no worker threads to stop
            lib.uswitch_destroy(us)

    def close(self) -> None:
        if self._us is not None:
            us, self._us = self._us, None
            ffi.release(us)

    def __enter__(self) -> NativeSwitch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def _open(self) -> Any:
        if self._us is None:
            raise ValueError("the switch is closed")
        if os.getpid() != self._pid:
            raise ValueError("the switch belongs to another process")
        return self._us

    # ---- ports ----

    def state_page(self, port_id: int) -> int:
        """A new sealed state page; the caller owns the fd."""
        return _check(lib.us_state_page_create(port_id), "a state page")

    def port_add(
        self, port_id: int, kind: int, *, state_fd: int, device_fds: Sequence[int] = (),
        flood_rate: int = 0, flood_burst: int = 0, fdb_quota: int = 256, max_frame: int = 1514,
        rate: RateLimit = NO_LIMIT, nic: NicSetup = NO_NIC,
    ) -> None:  # fmt: skip
        limits = (flood_rate, flood_burst, fdb_quota, max_frame, *astuple(rate))
        add = ffi.new("struct us_port_add *", (port_id, kind, *limits, *astuple(nic)))
        fds = ffi.new("int[]", list(device_fds) or [-1])
        rc = lib.uswitch_port_add(self._open(), add, state_fd, fds, len(device_fds))
        _check(rc, "to add a port")

    def port_del(self, port_id: int) -> None:
        _check(lib.uswitch_port_del(self._open(), port_id), "to delete a port")

    def port_tags(self, port_id: int, rows: Sequence[tuple[int, int]]) -> None:
        tags = ffi.new("struct us_port_tags *", (port_id, len(rows), list(rows)))
        _check(lib.uswitch_port_tags(self._open(), tags), "a tag table")

    def port_macs(self, port_id: int, macs: Sequence[bytes]) -> None:
        pinned = ffi.new("struct us_port_macs *", (port_id, len(macs), [list(mac) for mac in macs]))
        _check(lib.uswitch_port_macs(self._open(), pinned), "pinned addresses")

    def port_guard(self, port_id: int, pairs: Sequence[GuardPair] | None) -> None:
        guard = ffi.new("struct us_port_guard *", guard_values(port_id, pairs))
        _check(lib.uswitch_port_guard(self._open(), guard), "a guard")

    def port_limits(
        self, port_id: int, *, flood_rate: int = 0, flood_burst: int = 0, fdb_quota: int = 256,
        max_frame: int = 1514, rate: RateLimit = NO_LIMIT,
    ) -> None:  # fmt: skip
        values = (port_id, flood_rate, flood_burst, fdb_quota, max_frame, *astuple(rate), 0)
        limits = ffi.new("struct us_port_limits *", values)
        _check(lib.uswitch_port_limits(self._open(), limits), "a port's limits")

    # ---- adapters ----

    def nic_read(self, port_id: int) -> None:
        """Brings link and hardware counters of the state page up to date."""
        _check(lib.uswitch_nic_read(self._open(), port_id), "to read an adapter")

    def nic_reset(self, port_id: int) -> None:
        _check(lib.uswitch_nic_reset(self._open(), port_id), "to reset an adapter")

    # ---- workers ----

    def queue_move(self, port_id: int, queue: int, worker: int) -> None:
        """Gives a queue that is served to another worker."""
        _check(lib.uswitch_queue_move(self._open(), port_id, queue, worker), "to move a queue")

    def balance(self) -> int | None:
        """Spreads the queues by load.  In how many ms again; None: ``balance_fd()`` will say."""
        again = int(lib.uswitch_balance(self._open()))
        return again if again >= 0 else None

    def balance_fd(self) -> int:
        return int(lib.uswitch_balance_fd(self._open()))

    # ---- vhost ----

    def vhost_mem(self, port_id: int, regions: Sequence[MemRegion]) -> None:
        rows = [(r.gpa, r.size, r.uva, r.mmap_offset) for r in regions]
        mem = ffi.new("struct us_vhost_mem *", (port_id, len(rows), rows))
        fds = ffi.new("int[]", [r.fd for r in regions] or [-1])
        _check(lib.uswitch_vhost_mem(self._open(), mem, fds), "a memory table")

    def vhost_log(self, port_id: int, log: DirtyLog | None) -> None:
        wanted = ffi.new("struct us_vhost_log *", {"port_id": port_id})
        if log is not None:
            wanted.on, wanted.size, wanted.offset = 1, log.size, log.offset
            for ring, gpa in log.used:
                wanted.used |= 1 << ring
                wanted.used_gpa[ring] = gpa
        fd = -1 if log is None else log.fd
        _check(lib.uswitch_vhost_log(self._open(), wanted, fd), "a dirty log")

    def ring_start(self, port_id: int, setup: RingSetup) -> None:
        kick = -1 if setup.kick_fd is None else setup.kick_fd
        call = -1 if setup.call_fd is None else setup.call_fd
        present = (kick >= 0) * lib.US_RING_KICK | (call >= 0) * lib.US_RING_CALL
        ring = ffi.new(
            "struct us_vhost_ring *",
            (
                port_id, setup.ring, setup.size, setup.base, setup.features, setup.desc_uva,
                setup.avail_uva, setup.used_uva, int(setup.enabled), int(setup.resume), present, 0,
            ),
        )  # fmt: skip
        _check(lib.uswitch_ring_start(self._open(), ring, kick, call), "to start a ring")

    def ring_stop(self, port_id: int, ring: int) -> int:
        """Next avail index; when this returns, nobody touches the ring."""
        return _check(lib.uswitch_ring_stop(self._open(), port_id, ring), "to stop a ring")

    def ring_call(self, port_id: int, ring: int, call_fd: int | None) -> None:
        fd = -1 if call_fd is None else call_fd
        _check(lib.uswitch_ring_call(self._open(), port_id, ring, fd), "a call fd")

    def ring_enable(self, port_id: int, ring: int, enabled: bool) -> None:
        rc = lib.uswitch_ring_enable(self._open(), port_id, ring, int(enabled))
        _check(rc, "to enable a ring")

    # ---- addresses, news, packets ----

    def port_announce(self, port_id: int, mac: bytes) -> None:
        """As if the port had sent a RARP request; the next turn of its worker does it."""
        wanted = ffi.new("struct us_port_announce *", (port_id, list(mac), 0))
        _check(lib.uswitch_port_announce(self._open(), wanted), "to announce an address")

    def fdb_dump(self) -> list[tuple[bytes, int, int, int, bool]]:
        """(mac, segment, port, age, pinned) of every entry."""
        cursor, room = ffi.new("uint64_t *", 0), 256
        out = ffi.new("struct us_fdb_entry[]", room)
        found = []
        while True:
            n = _check(lib.uswitch_fdb_dump(self._open(), cursor, out, room), "to list the FDB")
            found += [
                (bytes(e.mac), e.segment, e.port_id, e.age_s, bool(e.pinned)) for e in out[0:n]
            ]
            if not cursor[0]:
                return found

    def fdb_flush(self, port_id: int | None = None, segment: int | None = None) -> int:
        anything = constant("US_ANY")
        port = anything if port_id is None else port_id
        seg = anything if segment is None else segment
        return _check(lib.uswitch_fdb_flush(self._open(), port, seg), "to flush the FDB")

    def page_fd(self) -> int:
        """The switch page's memfd, owned by the switch."""
        return int(lib.uswitch_page_fd(self._open()))

    def event_fd(self) -> int:
        return int(lib.uswitch_event_fd(self._open()))

    def events(self) -> list[Event]:
        out, found = ffi.new("struct us_event *"), []
        while _check(lib.uswitch_event_next(self._open(), out), "the next event"):
            reason = break_name(out.reason)
            found.append(Event(out.kind, out.port_id, out.ring, reason, out.detail))
        return found

    def poll(self) -> int:
        """One turn of the worker loop; frames taken in."""
        return _check(lib.uswitch_poll(self._open()), "to poll")
