# SPDX-License-Identifier: Apache-2.0
"""When the rings of a vhost-user session start and stop, and how a new dataplane goes on with them.

A ring starts when it has a size, addresses and a kick, and guest memory holds
it; by whichever message came last.  A ring that cannot run leaves the session
and the other rings as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import (
    Announce,
    Note,
    Part,
    SetLog,
    SetMemory,
    StartRing,
    StopRing,
    Tolerable,
)
from vif_uswitch.daemon.vhost.ring import Ring, covers
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.base import DataplaneRefused, RingSetup

BASE_FROM_USED = 0x10000  # US_BASE_FROM_USED


def replay(session: Session) -> Iterator[SetMemory | SetLog | StartRing]:
    """What a new dataplane has to do.  Rings go on where the guest saw the last one end."""
    if session.memory:
        yield SetMemory(session.memory)
    if session.recording is not None:
        yield SetLog(session.recording)
    for ring in session.rings:
        if ring.record.active:
            yield StartRing(_setup(session, ring, BASE_FROM_USED))


def _setup(session: Session, ring: Ring, base: int) -> RingSetup:
    """Whoever served the ring before, in another session even, may have died before it told
    the guest what it had done, and a guest that waits for that is told of nothing later."""
    r = ring.record
    return RingSetup(
        ring=ring.index, size=r.size, base=base,
        features=session.record.features & ~virtio.LOG_ALL,
        desc_uva=r.desc_uva, avail_uva=r.avail_uva, used_uva=r.used_uva,
        enabled=session.enabled(ring), resume=True, kick_fd=ring.kick, call_fd=ring.call,
    )  # fmt: skip


def start_if_ready(session: Session, ring: Ring) -> Part:
    """Starts a ring that has all it needs; Tolerable if it cannot run as it is."""
    if ring.record.active or not ring.ready or not session.memory:
        return
    if session.record.features & virtio.LOG_ALL and session.log is None:
        # A front-end that connects again in the middle of a migration says so before it brings
        # the log: what went into the guest until then would be lost on the other host.
        yield Note(f"ring {ring.index} waits for the dirty log")
        return
    if not covers(session.memory, ring.record, session.packed):
        raise Tolerable(f"ring {ring.index} lies outside of guest memory")
    try:
        yield StartRing(_setup(session, ring, ring.record.base))
    except DataplaneRefused as error:
        raise Tolerable(f"ring {ring.index} does not start: {error}") from error
    ring.update(active=True)
    session.mark_ring(ring)
    session.arrival.ring_starts(ring.record.base, session.packed)
    yield from announce_arrival(session)


def start_those_ready(session: Session, rings: Iterable[Ring]) -> Part:
    """After a change of something else, whose success does not depend on the rings."""
    for ring in rings:
        try:
            yield from start_if_ready(session, ring)
        except Tolerable as error:
            yield Note(str(error))


def announce_arrival(session: Session) -> Part:
    """Once frames can flow.  Whether it can be announced is not the rings' concern."""
    for mac in session.arrival.take() if session.running else ():
        try:
            yield Announce(mac)
        except DataplaneRefused as error:
            yield Note(f"{mac.hex(':')} is not announced: {error}")


def stop(session: Session, ring: Ring) -> Part:
    if not ring.record.active:
        return
    base = yield StopRing(ring.index)
    ring.update(active=False, base=base)
    session.mark_ring(ring)


def unkick(session: Session, ring: Ring) -> Part:
    """The ring stays down until the next SET_VRING_KICK."""
    if ring.record.kicked:
        ring.swap("kick", None)
        ring.update(kicked=False)
        session.mark_ring(ring)
    yield from ()


def stop_all(session: Session) -> Part:
    for ring in session.rings:
        yield from stop(session, ring)
        yield from unkick(session, ring)
