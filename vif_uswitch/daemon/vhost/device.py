# SPDX-License-Identifier: Apache-2.0
"""The vhost-user messages about a device as a whole: features, MTU, device status, resets.

Called by ``dispatch.py``.  Rings run with the features they were started
with, so other features stop them and start them again.
"""

from __future__ import annotations

from vif_uswitch.daemon.escrow import RingRecord
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import Part, Refused
from vif_uswitch.daemon.vhost.migration import record_as
from vif_uswitch.daemon.vhost.ring_start import start_those_ready, stop, stop_all
from vif_uswitch.daemon.vhost.session import Session

MTU_MIN = 68


def set_features(session: Session, value: int) -> Part:
    if value & ~session.offered:
        raise Refused(f"features {value & ~session.offered:#x} were not offered")
    if session.record.features_set and value == session.record.features:
        return
    yield from record_as(session, value, session.log)  # may refuse: before anything else changes
    changed = session.record.features ^ value
    stopped = [r for r in session.rings if r.record.active] if changed & ~virtio.LOG_ALL else []
    for ring in stopped:
        yield from stop(session, ring)
    session.set_record(features=value, features_set=True)
    waiting = session.rings if changed & virtio.LOG_ALL else stopped
    yield from start_those_ready(session, waiting)


def set_protocol_features(session: Session, value: int) -> Part:
    if value & ~virtio.PROTOCOL_OFFERED:
        extra = value & ~virtio.PROTOCOL_OFFERED
        raise Refused(f"protocol features {extra:#x} were not offered")
    session.set_record(protocol_features=value)
    yield from ()


def set_mtu(session: Session, value: int) -> Part:
    if not MTU_MIN <= value <= session.mtu:
        raise Refused(f"MTU {value}: the port's is {session.mtu}, see uswitchctl port set")
    yield from ()


def set_status(session: Session, value: int) -> Part:
    if value > 0xFF:
        raise Refused(f"device status {value:#x}")
    if value == 0:  # virtio 1.2 §2.1: reset
        yield from stop_all(session)
    if value & virtio.STATUS_FEATURES_OK and not session.record.features_set:
        value &= ~virtio.STATUS_FEATURES_OK
    if value != session.record.status:
        session.set_record(status=value)


def reset(session: Session) -> Part:
    """Back to the start, but for memory and protocol features: the front-end keeps those."""
    yield from stop_all(session)
    for ring in session.rings_used:
        ring.close()
        ring.record = RingRecord()
        session.mark_ring(ring)
    session.set_record(features=0, features_set=False, status=0)
    yield from record_as(session, 0, session.log)
