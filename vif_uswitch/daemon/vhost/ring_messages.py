# SPDX-License-Identifier: Apache-2.0
"""The vhost-user messages about one ring: size, base, addresses, eventfds, enabling.

Called by ``dispatch.py``, which has checked that the port has such a ring.
They come in any order: whichever completes a ring starts it.
"""

from __future__ import annotations

from vif_uswitch.daemon.vhost import codec, msg
from vif_uswitch.daemon.vhost.actions import EnableRing, Part, Refused, SetCall, Steps
from vif_uswitch.daemon.vhost.fds import Fds, check_eventfd
from vif_uswitch.daemon.vhost.migration import log_ring
from vif_uswitch.daemon.vhost.msg import Request
from vif_uswitch.daemon.vhost.ring import Ring
from vif_uswitch.daemon.vhost.ring_start import announce_arrival, start_if_ready, stop, unkick
from vif_uswitch.daemon.vhost.session import Session

RING_SIZE_MAX = 32768  # US_RING_SIZE_MAX


def vring_state(session: Session, request: int, ring: Ring, num: int) -> Steps:
    """GET_VRING_BASE, which also stops the ring, SET_VRING_ENABLE, _NUM and _BASE."""
    if request == Request.GET_VRING_BASE:
        yield from stop(session, ring)
        yield from unkick(session, ring)
        base = ring.record.base
        # A packed ring's position has two halves, avail and used; nothing is in flight now.
        return codec.reply_vring(request, ring.index, base << 16 | base if session.packed else base)
    if request == Request.SET_VRING_ENABLE:
        yield from _enable(session, ring, num)
    elif request == Request.SET_VRING_NUM:
        if not 2 <= num <= RING_SIZE_MAX or (num & (num - 1) and session.split):
            raise Refused(
                f"ring size {num} is not a power of two (packed rings: any number) "
                f"from 2 to {RING_SIZE_MAX}"
            )
        yield from _change(session, ring, size=num)
    else:
        if num > 0xFFFF and session.split:
            raise Refused(f"ring base {num:#x}")
        yield from _change(session, ring, base=num & 0xFFFF)
    return None


def set_addr(session: Session, ring: Ring, addr: msg.VringAddr) -> Part:
    if addr.flags & ~msg.VRING_F_LOG:
        raise Refused(f"ring address flags {addr.flags:#x}")
    avail = 4 if session.packed else 2  # virtio 1.2 §2.7, §2.8.10.1
    if addr.desc % 16 or addr.avail % avail or addr.used % 4:
        raise Refused(
            f"ring {ring.index} is not aligned: descriptors {addr.desc:#x}, "
            f"avail {addr.avail:#x}, used {addr.used:#x}"
        )
    yield from _change(
        session, ring,
        addressed=True, desc_uva=addr.desc, avail_uva=addr.avail, used_uva=addr.used,
    )  # fmt: skip
    yield from log_ring(session, ring, bool(addr.flags & msg.VRING_F_LOG), addr.log)


def set_fd(session: Session, request: int, ring: Ring, fds: Fds) -> Part:
    """SET_VRING_KICK, which also starts the ring, SET_VRING_CALL and _ERR."""
    for fd in fds:
        check_eventfd(fd)
    session.mark_ring(ring)
    if request == Request.SET_VRING_ERR:
        ring.swap("err", fds.take_one())
    elif request == Request.SET_VRING_CALL:
        ring.swap("call", fds.take_one())
        if ring.record.active:
            yield SetCall(ring.index, ring.call)
    else:
        yield from stop(session, ring)
        ring.swap("kick", fds.take_one())
        ring.update(kicked=True)
        yield from start_if_ready(session, ring)


def _enable(session: Session, ring: Ring, num: int) -> Part:
    if num > 1:
        raise Refused(f"SET_VRING_ENABLE with {num}")
    before = session.enabled(ring)
    if ring.record.enabled != bool(num):
        ring.update(enabled=bool(num))
        session.mark_ring(ring)
    if ring.record.active and before != bool(num):
        yield EnableRing(ring.index, bool(num))
        yield from announce_arrival(session)


def _change(session: Session, ring: Ring, **changes: object) -> Part:
    """New geometry; a running ring is stopped, and started again with it."""
    if all(getattr(ring.record, name) == value for name, value in changes.items()):
        return
    yield from stop(session, ring)
    ring.update(**changes)
    session.mark_ring(ring)
    yield from start_if_ready(session, ring)
