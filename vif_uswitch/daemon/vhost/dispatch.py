# SPDX-License-Identifier: Apache-2.0
"""The way of one vhost-user message: to who serves it, and back as a reply.

``handle()`` is a generator.  It yields what is to be done with the dataplane
or the escrow, gets back what came of it, and returns the reply.  ``port.py``
is the shell that performs the actions; no handler does I/O, except closing
file descriptors that the session owns.

``device.py``         features, MTU, device status, resets
``ring_messages.py``  geometry, eventfds and enabling of one ring
``memory_table.py``   guest memory
``migration.py``      the log of dirty pages, and the announcement

Who breaks the protocol gets a ``Violation``: the session ends.  What is
merely not possible is refused: with a reply where the peer asked for one,
else by ending the session, because both sides now believe different things.
Only a request that we do not serve at all is passed over with a note.
"""

from __future__ import annotations

from collections.abc import Callable

from vif_uswitch.daemon.vhost import (
    codec,
    device,
    memory_table,
    migration,
    msg,
    ring_messages,
    ring_start,
)
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import Note, Part, Refused, Save, Steps, Tolerable
from vif_uswitch.daemon.vhost.fds import Fds, Unfit
from vif_uswitch.daemon.vhost.msg import Message, Request, Violation
from vif_uswitch.daemon.vhost.ring import Ring
from vif_uswitch.daemon.vhost.session import MEM_SLOTS, Session
from vif_uswitch.dataplane.base import DataplaneRefused


def handle(session: Session, message: Message, fds: Fds) -> Steps:
    """``fds`` belong to the caller, who closes what has not been taken."""
    failed = False
    reply = None
    try:
        reply = yield from _serve(session, message, fds)
    except (Refused, Unfit, DataplaneRefused) as error:
        text = f"{message.name} refused: {error}"
        answerable = message.need_reply or isinstance(error, Tolerable)
        if message.own_reply or not answerable:
            raise Violation(text) from error
        yield Note(text)
        failed = True
    changed = session.take_changed()
    if changed:
        yield Save(changed)
    if reply is None and message.need_reply:
        return codec.reply_number(message.request, int(failed))
    return reply


def _serve(session: Session, message: Message, fds: Fds) -> Steps:
    body, request = message.body, message.request
    if request in _ANSWERS:
        return codec.reply_number(request, _ANSWERS[Request(request)](session))
    if isinstance(body, msg.Number):
        yield from _NUMBERS[Request(request)](session, body.value)
    elif isinstance(body, msg.VringState):
        ring = _ring(session, body.index)
        return (yield from ring_messages.vring_state(session, request, ring, body.num))
    elif isinstance(body, msg.VringAddr):
        yield from ring_messages.set_addr(session, _ring(session, body.index), body)
    elif isinstance(body, msg.VringFd):
        yield from ring_messages.set_fd(session, request, _ring(session, body.index), fds)
    elif isinstance(body, msg.Table):
        yield from memory_table.set_table(session, body, fds)
    elif isinstance(body, msg.Region):
        yield from memory_table.edit(session, request, body, fds)
    elif isinstance(body, msg.Log):
        return (yield from migration.set_log_base(session, body, fds))
    elif request == Request.SET_LOG_FD:
        migration.check_log_fd(fds)
    elif request in _RESETS:
        yield from _RESETS[Request(request)](session)
    elif request != Request.SET_OWNER:
        raise Tolerable("not offered by this switch")
    return None


def _ring(session: Session, claimed_index: int) -> Ring:
    rings = 2 * session.record.queue_pairs
    if claimed_index >= rings:
        raise Refused(f"ring {claimed_index} of {rings}, see uswitchctl port set --queues")
    return session.rings[claimed_index]


_ANSWERS: dict[Request, Callable[[Session], int]] = {
    Request.GET_FEATURES: lambda s: s.offered,
    Request.GET_PROTOCOL_FEATURES: lambda s: virtio.PROTOCOL_OFFERED,
    Request.GET_QUEUE_NUM: lambda s: s.record.queue_pairs,
    Request.GET_MAX_MEM_SLOTS: lambda s: MEM_SLOTS,
    Request.GET_STATUS: lambda s: s.record.status,
}

_RESETS: dict[Request, Callable[[Session], Part]] = {
    Request.RESET_OWNER: ring_start.stop_all,
    Request.RESET_DEVICE: device.reset,
}

_NUMBERS: dict[Request, Callable[[Session, int], Part]] = {
    Request.SET_FEATURES: device.set_features,
    Request.SET_PROTOCOL_FEATURES: device.set_protocol_features,
    Request.SEND_RARP: migration.send_rarp,
    Request.NET_SET_MTU: device.set_mtu,
    Request.SET_STATUS: device.set_status,
}
