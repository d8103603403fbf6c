# SPDX-License-Identifier: Apache-2.0
"""What a vhost-user session is for the dataplane: its actions as calls, and its end.

``port.py`` makes the calls under the port's lock, as messages come and again
when there is a new dataplane.  All raise DataplaneRefused and DataplaneGone.
"""

from __future__ import annotations

from contextlib import suppress

from vif_uswitch.daemon.vhost.actions import (
    Announce,
    EnableRing,
    SetCall,
    SetLog,
    SetMemory,
    StartRing,
)
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.base import Dataplane, DataplaneRefused

Call = StartRing | EnableRing | SetCall | SetMemory | SetLog | Announce


async def call(dataplane: Dataplane, port_id: int, action: Call) -> None:
    """Has the dataplane do it."""
    if isinstance(action, StartRing):
        await dataplane.ring_start(port_id, action.setup)
    elif isinstance(action, EnableRing):
        await dataplane.ring_enable(port_id, action.ring, action.enabled)
    elif isinstance(action, SetCall):
        await dataplane.ring_call(port_id, action.ring, action.call_fd)
    elif isinstance(action, SetMemory):
        await dataplane.vhost_mem(port_id, action.regions)
    elif isinstance(action, SetLog):
        await dataplane.vhost_log(port_id, action.log)
    else:
        await dataplane.port_announce(port_id, action.mac)


async def forget(dataplane: Dataplane, port_id: int, session: Session) -> None:
    """Nothing of the session is left: rings, log, memory, escrow."""
    for ring in session.rings_used:
        with suppress(DataplaneRefused):  # it did not run
            await dataplane.ring_stop(port_id, ring.index)
    await dataplane.vhost_log(port_id, None)
    await dataplane.vhost_mem(port_id, ())
    for slot in session.slots:
        await dataplane.escrow_drop(port_id, slot)
