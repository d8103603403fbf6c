# SPDX-License-Identifier: Apache-2.0
"""The vhost-user messages of live migration: the log of dirty pages, and the announcement.

Called by ``dispatch.py``; features and ring addresses have a say in what is
recorded too.  What follows from all three, and what a log must cover, is
``dirty.py``'s.
"""

from __future__ import annotations

import sys

from vif_uswitch.daemon.vhost import codec, msg
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import Announce, Part, Refused, SetLog, Steps, Tolerable
from vif_uswitch.daemon.vhost.dirty import LogFile, check_covers, claim_log, in_force
from vif_uswitch.daemon.vhost.fds import Fds, check_eventfd
from vif_uswitch.daemon.vhost.msg import Request
from vif_uswitch.daemon.vhost.ring import Ring
from vif_uswitch.daemon.vhost.ring_start import start_those_ready
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.base import DataplaneRefused


def record_as(session: Session, features: int, log: LogFile | None) -> Part:
    """Has the dataplane record dirty pages as these demand; Refused leaves it as it was."""
    wanted = in_force(features, log, session.rings)
    if wanted == session.recording:
        return
    if wanted is not None:
        check_covers(wanted, session.memory, session.rings)
    yield SetLog(wanted)
    session.recording = wanted


def set_log_base(session: Session, area: msg.Log, fds: Fds) -> Steps:
    if not session.record.protocol_features & virtio.LOG_SHMFD:
        raise Refused("the protocol feature LOG_SHMFD was not negotiated")
    log = claim_log(area, fds)
    try:
        yield from record_as(session, session.record.features, log)
    except BaseException:
        log.close()
        raise
    session.replace_log(log)
    yield from start_those_ready(session, session.rings)
    return codec.reply_number(Request.SET_LOG_BASE, 0)


def log_ring(session: Session, ring: Ring, logged: bool, gpa: int) -> Part:
    """Whether and where writes to a used ring are recorded; the ring itself does not stop."""
    before = ring.record
    ring.update(log_used=logged, log_gpa=gpa if logged else 0)
    if ring.record == before:
        return
    try:
        yield from record_as(session, session.record.features, session.log)
    except BaseException:
        ring.record = before
        raise
    session.mark_ring(ring)


def check_log_fd(fds: Fds) -> None:
    """An eventfd to say that the log changed.  Optional, and QEMU looks by itself: not kept."""
    for fd in fds:
        check_eventfd(fd)


def send_rarp(session: Session, value: int) -> Part:
    """QEMU asks for an announcement of its guest (see ``arrival.py``)."""
    mac = value.to_bytes(8, sys.byteorder)[:6]
    if not session.record.protocol_features & virtio.RARP:
        raise Tolerable("the protocol feature RARP was not negotiated")
    if mac[0] & 1 or not any(mac):
        raise Tolerable(f"{mac.hex(':')} is no address of a single station")
    if session.stopped:
        session.arrival.ask(mac)  # nothing can come from the port yet
        return
    try:
        yield Announce(mac)
    except DataplaneRefused as error:
        raise Tolerable(f"{mac.hex(':')} is not announced: {error}") from error
