# SPDX-License-Identifier: Apache-2.0
"""A port as the fabric knows it: configuration, state page, and what a dataplane must be told.

``FabricPort`` is what all kinds have in common; ``vhost/port.py``,
``tap_port.py`` and ``uplink/port.py`` add what stands behind the port.  A port outlives dataplanes:
while there is none (``dataplane is None``) changes are only recorded, and
``attach()`` tells a new one everything.  ``lock`` makes the three parties take
turns: the control API, the peer's messages, and the coming of a new dataplane.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.model import Kind, Link, PortConfig, PortLive
from vif_uswitch.daemon.vhost.inotify import DirWatcher
from vif_uswitch.dataplane import layout
from vif_uswitch.dataplane.base import (
    Dataplane,
    DataplaneGone,
    DataplaneRefused,
    EscrowEntry,
    Event,
)
from vif_uswitch.dataplane.statepage import StatePage

LOG = logging.getLogger(__name__)

KINDS = {
    Kind.VHOST: layout.KIND_VHOST,
    Kind.TAP: layout.KIND_TAP,
    Kind.NIC: layout.KIND_NIC,
    Kind.XDP: layout.KIND_XDP,
}
SENTENCES_A_SECOND = 10  # of the log, a port


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What ports need of the fabric."""

    vhost_socket_dir: str  # canonical
    socket_mode: int
    socket_gid: int  # -1: leave it
    watcher: DirWatcher
    tell: Callable[[int, str], None]  # port id, sentence: for the log
    lost: Callable[[int, str], None]  # port id, why: it cannot go on, and shall be made anew
    pinned: Callable[[], int]  # bytes of memory that adapters can reach
    settled: Callable[[], Awaitable[None]]  # returns when no unreachable dataplane runs on


class FabricPort:
    """Owns ``page``.  Methods without "under the lock" in their text take the lock themselves."""

    def __init__(self, config: PortConfig, page: StatePage, around: Surroundings) -> None:
        self.config = config
        self.page = page
        self.around = around
        self.lock = asyncio.Lock()
        self.dataplane: Dataplane | None = None
        self.last_error = ""
        self._said: list[float] = []
        self._unsaid = 0

    @property
    def port_id(self) -> int:
        return self.config.port_id

    @property
    def pins(self) -> tuple[bytes, ...]:
        """The addresses that nobody else of this switch may have, as they are in force."""
        return self.config.macs

    def news(self, event: Event) -> None:
        """The dataplane tells something about the port."""
        if event.kind == layout.EVENT_PORT_BROKEN:
            self.fenced(event)
        elif event.kind == layout.EVENT_LINK:
            self.link_changed(up=bool(event.ring), speed_mbps=event.detail)

    def link_changed(self, up: bool, speed_mbps: int) -> None:
        """An adapter's link; a speed of 0 is unknown."""
        speed = f" at {speed_mbps} Mbit/s" if speed_mbps else ""
        self.say(f"link up{speed}" if up else "link down")

    def fenced(self, event: Event) -> None:
        """The port's peer broke it."""
        self.say(f"fenced: {event.reason} (ring {event.ring}, value {event.detail:#x})")

    @property
    def device_fds(self) -> tuple[int, ...]:
        """What travels beside PORT_ADD after the state page."""
        return ()

    # ---- the dataplane comes and goes ----

    async def attach(self, dataplane: Dataplane) -> None:
        """Tells a new dataplane everything about the port."""
        async with self.lock:
            if self.dataplane is dataplane:
                return
            try:
                await self._introduce(dataplane)
            except DataplaneRefused:
                # All or nothing: what the next uswitchd finds must be true.
                await self._drop_escrow(dataplane)
                await self._port_del(dataplane)
                raise
            self.dataplane = dataplane

    def detach(self, dataplane: Dataplane | None = None) -> None:
        """The dataplane is gone; from here on changes are recorded only."""
        if dataplane is None or self.dataplane is dataplane:
            self.dataplane = None

    async def _introduce(self, dataplane: Dataplane) -> None:
        """Under the lock.  Escrow first: a uswitchd that dies in between must find the port."""
        config = self.config
        await self._put(dataplane, escrow.SLOT_PORT)
        try:
            await self._port_add(dataplane)
        except DataplaneRefused as error:
            if error.errno != errno.EEXIST:
                raise
            # Left by a uswitchd that died between two steps; nobody is connected to it.
            await dataplane.port_del(self.port_id)
            await self._port_add(dataplane)
        if config.guard is not None:  # before anything can reach or leave the port
            await dataplane.port_guard(self.port_id, config.guard)
        if config.tags:
            await dataplane.port_tags(self.port_id, rows(config))
        if self.pins:
            await dataplane.port_macs(self.port_id, self.pins)
        await self._replay(dataplane)

    async def _port_add(self, dataplane: Dataplane) -> None:
        config = self.config
        await dataplane.port_add(
            self.port_id, KINDS[config.kind], flood_rate=config.flood_rate,
            flood_burst=config.flood_burst, fdb_quota=config.fdb_quota,
            max_frame=config.max_frame, rate=config.rate, state_fd=self.page.fd,
            device_fds=self.device_fds,
        )  # fmt: skip

    async def _replay(self, dataplane: Dataplane) -> None:
        """Under the lock.  What the kind of port adds to ``_introduce()``."""

    async def ask(self, call: Callable[[Dataplane], Awaitable[None]]) -> None:
        """Under the lock.  Asks the dataplane, if there is one; a new one learns it by replay."""
        dataplane = self.dataplane
        if dataplane is None:
            return
        try:
            await call(dataplane)
        except DataplaneGone:
            self.detach(dataplane)

    # ---- configuration ----

    async def change(self, config: PortConfig) -> None:
        """Applies the difference to another configuration of the same port."""
        async with self.lock:
            old, self.config = self.config, config
            try:
                await self.ask(lambda dataplane: self._tell_difference(dataplane, old))
                await self.save(escrow.SLOT_PORT)
            except DataplaneRefused:
                self.config = old
                await self._take_back(config)
                raise
            self._configured(old)

    async def _take_back(self, refused: PortConfig) -> None:
        """Under the lock.  A change that went half-way must not stay so: least of all a guard."""
        try:
            await self.ask(lambda dataplane: self._tell_difference(dataplane, refused))
        except DataplaneRefused as error:
            self.say(f"is between two configurations: {error}")

    async def _tell_difference(self, dataplane: Dataplane, old: PortConfig) -> None:
        config = self.config
        if limits(config) != limits(old):
            await dataplane.port_limits(
                self.port_id, flood_rate=config.flood_rate, flood_burst=config.flood_burst,
                fdb_quota=config.fdb_quota, max_frame=config.max_frame, rate=config.rate,
            )  # fmt: skip
        if config.guard != old.guard:
            await self._tell_guard(dataplane, old)
        elif config.tags != old.tags:
            await dataplane.port_tags(self.port_id, rows(config))
        if config.macs != old.macs:
            await dataplane.port_macs(self.port_id, self.pins)

    async def confirm(self) -> None:
        """After an adoption: a port that shall have a guard has it, if it is there at all, and has
        its addresses, which whoever was there before may have taken back (see ``VhostPort``)."""
        guard = self.config.guard
        async with self.lock:
            if guard is not None:
                await self.ask(lambda dataplane: dataplane.port_guard(self.port_id, guard))
            await self._tell_pins()

    async def _tell_pins(self) -> None:
        """Under the lock."""
        if not self.config.macs:
            return
        try:
            await self.ask(lambda dataplane: dataplane.port_macs(self.port_id, self.pins))
        except DataplaneRefused as error:
            self.say(f"its pinned addresses are not as they should be: {error}")

    async def _tell_guard(self, dataplane: Dataplane, old: PortConfig) -> None:
        """A guard and rows that change together: no segment ever sees the other one's guard."""
        config = self.config
        both = [row for row in rows(old) if row in rows(config)]
        if both != rows(old):
            await dataplane.port_tags(self.port_id, both)
        await dataplane.port_guard(self.port_id, config.guard)
        if both != rows(config):
            await dataplane.port_tags(self.port_id, rows(config))

    async def heal(self) -> None:
        """Tries again what failed when nobody could be told; raises what the API shall answer."""

    def _configured(self, old: PortConfig) -> None:
        """Under the lock.  The kind of port learns that ``config`` changed."""

    async def remove(self, keep_page: bool = False) -> None:
        """Ends the port for good: peer, dataplane, escrow, own files.

        ``keep_page``: the caller takes ``page``, for a port that goes on counting.
        """
        async with self.lock:
            self._let_go_of_peer()
            try:
                await self.ask(self._drop_escrow)
                await self.ask(self._port_del)
            finally:
                if not keep_page:
                    self.page.close()

    async def _drop_escrow(self, dataplane: Dataplane) -> None:
        await dataplane.escrow_drop(self.port_id, None)

    async def _port_del(self, dataplane: Dataplane) -> None:
        try:
            await dataplane.port_del(self.port_id)
        except DataplaneRefused as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise

    def _let_go_of_peer(self) -> None:
        """Under the lock.  Closes what stands behind the port, for the peer as well."""

    async def forget(self) -> None:
        """uswitchd ends: closes our copies only, in between two messages of the peer."""
        async with self.lock:
            self._forget_peer()
        self.page.close()

    def _forget_peer(self) -> None:
        """Under the lock."""

    # ---- escrow ----

    def entry(self, slot: int) -> tuple[escrow.Record, tuple[int, ...]]:
        """What a slot holds now; file descriptors are borrowed."""
        return escrow.PortRecord.of(self.config), (self.page.fd, *self.device_fds)

    async def save(self, *slots: int) -> None:
        """Under the lock.  A full escrow costs the next uswitchd this port's session, not ours."""

        async def put(dataplane: Dataplane) -> None:
            for slot in slots:
                await self._put(dataplane, slot)

        try:
            await self.ask(put)
        except DataplaneRefused as error:
            self.say(f"will lose its peer when uswitchd restarts: {error}")

    async def _put(self, dataplane: Dataplane, slot: int) -> None:
        record, fds = self.entry(slot)
        await dataplane.escrow_put(self.port_id, slot, escrow.encode(record), fds)

    # ---- what is true ----

    def live(self) -> PortLive:
        broken = self.page.broken()
        found = replace(
            self._live(),
            last_error=self.last_error,
            incoming=self.page.incoming(),
            outgoing=self.page.outgoing(),
        )
        if broken is None:
            return found
        text = f"{broken.text} (ring {broken.ring}, value {broken.detail:#x})"
        return replace(found, link=Link.BROKEN, broken_reason=broken.reason, broken_text=text)

    def _live(self) -> PortLive:
        """Link, peer and rings, as far as they are the kind's to say."""
        return PortLive(link=Link.UP if self.dataplane is not None else Link.WAITING)

    def say(self, sentence: str) -> None:
        """News for the log, at most some a second."""
        now = time.monotonic()
        self._said = [then for then in self._said if now - then < 1.0]
        if len(self._said) >= SENTENCES_A_SECOND:
            self._unsaid += 1
            return
        self._said.append(now)
        if self._unsaid:
            sentence, self._unsaid = f"{sentence} (and {self._unsaid} not shown)", 0
        self.around.tell(self.port_id, sentence)


def rows(config: PortConfig) -> list[tuple[int, int]]:
    return [(row.vid, row.segment_id) for row in config.tags]


def limits(config: PortConfig) -> tuple[object, ...]:
    """What one call of ``port_limits()`` tells."""
    return (
        config.flood_rate, config.flood_burst, config.fdb_quota, config.max_frame, config.rate,
    )  # fmt: skip


def adopted_config(
    entry: EscrowEntry, spare_page: bool
) -> tuple[PortConfig, StatePage, tuple[int, ...]]:
    """Configuration, page and device fds of a port found in escrow; takes ``entry.fds``.

    ``spare_page``: the page is of another build, so the port gets a new one.
    """
    try:
        config = escrow.decode(escrow.PortRecord, entry.blob).restore()
        if config.port_id != entry.port_id or not entry.fds:
            raise escrow.BadBlob(f"port {config.port_id} with {len(entry.fds)} fds")
    except escrow.BadBlob:
        for fd in entry.fds:
            os.close(fd)
        raise
    if spare_page:
        os.close(entry.fds[0])
        return config, StatePage.make(config.port_id), entry.fds[1:]
    try:
        return config, StatePage(entry.fds[0], config.port_id), entry.fds[1:]
    except BaseException:
        for fd in entry.fds[1:]:
            os.close(fd)
        raise


def is_same_port(a: PortConfig, b: PortConfig) -> bool:
    """Whether a change from one to the other keeps the peer."""
    return _never_changes(a) == _never_changes(b)


def _never_changes(config: PortConfig) -> tuple[object, ...]:
    peer = (
        config.kind, config.path, config.mode, config.ifname, config.netns, config.pci,
    )  # fmt: skip
    if not config.kind.is_uplink:
        return peer
    # An adapter's rings and buffers are laid out when it is started.
    rings = (config.queues, config.ring_size, config.irq_us, config.mtu)
    return (*peer, *rings, config.zero_copy, config.lro)


Slots = dict[int, EscrowEntry]
"""Escrow entries of one port."""


def close_entries(entries: Sequence[EscrowEntry]) -> None:
    for entry in entries:
        for fd in entry.fds:
            os.close(fd)
