# SPDX-License-Identifier: Apache-2.0
"""What an earlier uswitchd left of a vhost-user port in escrow: its listening socket, its session.

``port.py`` asks for both when the port is adopted, and serves what it gets.
The escrow is not to be trusted: what does not fit is closed, and the peer,
which sees a clean end, comes again.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass

from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.fabric_port import Slots, close_entries
from vif_uswitch.daemon.model import PortConfig
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.endpoint import Listener, Taker
from vif_uswitch.daemon.vhost.fds import Fds
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.base import EscrowEntry


@dataclass(frozen=True, slots=True)
class Adopted:
    """A session and the connection to its peer; the receiver owns both."""

    session: Session
    sock: socket.socket
    reason: str  # why the peer was let go, or ""


def adopt_session(config: PortConfig, busy: bool, slots: Slots) -> Adopted | None:
    """Takes all fds of ``slots``.  None if nobody was connected.

    ``busy``: that uswitchd died while it worked on a request, so what it left may be half done.
    """
    entry = slots.pop(escrow.SLOT_SESSION, None)
    if entry is None or len(entry.fds) != 1:
        close_entries([*slots.values(), *([entry] if entry else [])])
        return None
    sock = socket.socket(fileno=entry.fds[0])
    session = Session(0, config.mtu)
    reason = ""
    try:
        if busy:
            close_entries(list(slots.values()))
            reason = "uswitchd died while it worked on a request"
        else:
            _restore(session, entry, slots)
            pairs = session.record.queue_pairs  # as its peer was told
            session.offered = virtio.offered(config.features_off, pairs)
    except (ValueError, escrow.BadBlob) as error:
        reason = f"what an earlier uswitchd left is damaged: {error}"
    if reason:
        session.claim_all()
        # The peer sees a clean end and comes again; what it asked for last is lost.
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    return Adopted(session, sock, reason)


def _restore(session: Session, entry: EscrowEntry, others: Slots) -> None:
    """Fills a session from escrow.  Every fd of ``others`` ends up in the session or closed."""
    waiting = {slot: Fds(other.fds) for slot, other in others.items()}
    try:
        session.record = escrow.decode(escrow.SessionRecord, entry.blob)
        for slot, other in others.items():
            if slot == escrow.SLOT_MEMORY:
                memory = escrow.decode(escrow.MemoryRecord, other.blob)
                session.restore_memory(memory, waiting[slot])
            elif slot == escrow.SLOT_LOG:
                log = escrow.decode(escrow.LogRecord, other.blob)
                session.restore_log(log, waiting[slot])
            elif slot >= escrow.SLOT_RING:
                ring = escrow.decode(escrow.RingRecord, other.blob)
                session.restore_ring(slot - escrow.SLOT_RING, ring, waiting[slot])
        session.restored()
    finally:
        for fds in waiting.values():
            fds.close()


def adopt_listener(path: str, entry: EscrowEntry, take: Taker) -> Listener | None:
    """Takes the fds of ``entry``.  None if nobody can reach that socket by ``path`` any more."""
    fds = Fds(entry.fds)
    try:
        record = escrow.decode(escrow.ListenerRecord, entry.blob)
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) != (record.device, record.inode) or len(fds) != 1:
            raise escrow.BadBlob("another socket file")
        sock = socket.socket(fileno=fds.take_one())
    except (OSError, escrow.BadBlob):
        fds.close()
        return None
    return Listener(path, sock, (record.device, record.inode), take)
