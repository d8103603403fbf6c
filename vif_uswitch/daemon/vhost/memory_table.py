# SPDX-License-Identifier: Apache-2.0
"""The vhost-user messages about guest memory: a whole table, or one region more or less.

Called by ``dispatch.py``.  Regions are checked and claimed in ``ring.py``;
from ``session.replace_memory()`` on the session owns their files.
"""

from __future__ import annotations

from vif_uswitch.daemon.vhost import msg
from vif_uswitch.daemon.vhost.actions import Part, Refused, SetMemory
from vif_uswitch.daemon.vhost.dirty import check_covers
from vif_uswitch.daemon.vhost.fds import Fds
from vif_uswitch.daemon.vhost.msg import Request, Violation
from vif_uswitch.daemon.vhost.ring import claim, close_regions, covers
from vif_uswitch.daemon.vhost.ring_start import start_those_ready, stop
from vif_uswitch.daemon.vhost.session import MEM_SLOTS, Session
from vif_uswitch.dataplane.base import MemRegion


def set_table(session: Session, table: msg.Table, fds: Fds) -> Part:
    """SET_MEM_TABLE."""
    yield from _swap(session, claim(table.regions, fds))


def edit(session: Session, request: int, region: msg.Region, fds: Fds) -> Part:
    """ADD_MEM_REG and REM_MEM_REG."""
    if request == Request.ADD_MEM_REG:
        if len(session.memory) >= MEM_SLOTS:
            raise Refused(f"all {MEM_SLOTS} memory slots are in use")
        try:
            known = tuple(msg.Region(r.gpa, r.size, r.uva, r.mmap_offset) for r in session.memory)
            msg.check_apart(region, known)
        except Violation as error:
            raise Refused(str(error)) from None
        yield from _swap(session, session.memory + claim((region,), fds))
        return
    place = (region.gpa, region.size, region.uva)
    kept = tuple(r for r in session.memory if (r.gpa, r.size, r.uva) != place)
    if len(kept) == len(session.memory):
        raise Refused(f"no memory region at gpa {region.gpa:#x}")
    yield from _swap(session, kept)


def _swap(session: Session, regions: tuple[MemRegion, ...]) -> Part:
    """Installs a table; running rings move over, those left outside of it stop first."""
    try:
        if session.recording is not None:
            check_covers(session.recording, regions, session.rings)
        for ring in session.rings:
            if ring.record.active and not covers(regions, ring.record, session.packed):
                yield from stop(session, ring)
        yield SetMemory(regions)
    except BaseException:
        close_regions(regions, keep=session.memory)
        raise
    session.replace_memory(regions)
    yield from start_those_ready(session, session.rings)
