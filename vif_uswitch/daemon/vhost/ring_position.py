# SPDX-License-Identifier: Apache-2.0
"""Where a ring goes on whose dataplane died, for a front-end that asks before there is another one.

Completion is in order, so what was taken but not returned is taken again: a
ring goes on at what the guest has seen as used.  The guest's own memory says
that exactly; the state page may be one burst ahead of it, and is believed
where that memory cannot be read.  A new dataplane, asked to go on by itself
(``ring_start.replay()``), decides the same.

Reads and writes guest memory by its file; called only when no dataplane
serves the ring any more.
"""

from __future__ import annotations

import os
from contextlib import suppress

from vif_uswitch.daemon.escrow import RingRecord
from vif_uswitch.daemon.vhost import packed
from vif_uswitch.daemon.vhost.ring import region_of
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.statepage import StatePage


def next_avail(session: Session, page: StatePage, index: int) -> int:
    """The position at which ring ``index`` goes on."""
    record = session.rings[index].record
    if session.packed:
        return _next_packed(session, page, index, record)
    region = region_of(session.memory, record.used_uva, 4)
    if region is not None:
        at = region.mmap_offset + record.used_uva - region.uva + 2  # virtio 1.2 §2.7.8
        with suppress(OSError):
            claimed_idx = os.pread(region.fd, 2, at)
            if len(claimed_idx) == 2:
                return int.from_bytes(claimed_idx, "little")
    return page.next_avail(index)


def _next_packed(session: Session, page: StatePage, index: int, record: RingRecord) -> int:
    """The same for a packed ring.  A frame of which the guest saw nothing goes back empty."""
    at_most = page.next_avail(index)
    region = region_of(session.memory, record.desc_uva, packed.DESC_SIZE * record.size)
    if region is None:
        return at_most
    ring = region.mmap_offset + record.desc_uva - region.uva + packed.STATE

    def state(at: int) -> bytes:
        return os.pread(region.fd, 8, ring + packed.DESC_SIZE * at).ljust(8, b"\0")

    with suppress(OSError):
        resumed = packed.resume(
            page.burst(index), record.size,
            lambda at: int.from_bytes(state(at)[6:], "little"),
        )  # fmt: skip
        if resumed is None:
            return at_most
        for position in resumed.empty:
            at = position & packed.INDEX
            used = packed.used_state(state(at), position)
            os.pwrite(region.fd, used, ring + packed.DESC_SIZE * at)
        return resumed.position
    return at_most
