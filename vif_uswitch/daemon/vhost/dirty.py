# SPDX-License-Identifier: Apache-2.0
"""The log of dirty pages of a vhost-user session, and when it is in force.

Live migration: QEMU copies guest memory while the guest runs, and must know
what the switch wrote meanwhile.  Three things are needed, and arrive in any
order: the log itself (SET_LOG_BASE), the feature LOG_ALL, and, for the used
rings, a flag and an address in SET_VRING_ADDR.  ``in_force()`` says what
follows from them; ``migration.py`` tells the dataplane when that changes.

A log too small for what is written would lose pages, and with them the
guest's memory on the other host, without anybody noticing: that is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost import msg
from vif_uswitch.daemon.vhost.actions import Refused
from vif_uswitch.daemon.vhost.fds import Fds, check_memory
from vif_uswitch.daemon.vhost.ring import Ring
from vif_uswitch.dataplane.base import DirtyLog, MemRegion


@dataclass(frozen=True, slots=True)
class LogFile:
    """What SET_LOG_BASE brought.  The session owns ``fd``."""

    area: msg.Log
    fd: int

    def close(self) -> None:
        os.close(self.fd)


def claim_log(area: msg.Log, fds: Fds) -> LogFile:
    """The log with its file, checked before it is taken."""
    for fd in fds:  # one; codec.py has counted
        check_memory(fd, area.offset, area.size, "the dirty log")
    (taken,) = fds.take_all()
    return LogFile(area, taken)


def in_force(features: int, log: LogFile | None, rings: Iterable[Ring]) -> DirtyLog | None:
    """What the dataplane records, and where."""
    if log is None or not features & virtio.LOG_ALL:
        return None
    # What the switch writes to a packed ring is all in memory (virtio 1.2 §2.8), recorded there.
    packed = features & virtio.RING_PACKED
    used = tuple((r.index, r.record.log_gpa) for r in rings if r.record.log_used and not packed)
    return DirtyLog(log.area.size, log.area.offset, log.fd, used)


def check_covers(log: DirtyLog, memory: Iterable[MemRegion], rings: Iterable[Ring]) -> None:
    """Refused, if something that the switch writes to has no bit."""
    end = msg.Log(log.size, log.offset).end
    for region in memory:
        if region.gpa + region.size > end:
            raise Refused(
                f"a dirty log of {log.size} bytes ends at gpa {end:#x}, and memory at "
                f"{region.gpa + region.size:#x}"
            )
    sizes = {ring.index: ring.record.size for ring in rings}
    for index, gpa in log.used:
        top = gpa + 6 + 8 * sizes[index]  # virtio 1.2 §2.7
        if top > end:
            raise Refused(
                f"a dirty log of {log.size} bytes ends at gpa {end:#x}, and the used ring of "
                f"ring {index} at {top:#x}"
            )
