# SPDX-License-Identifier: Apache-2.0
"""Every method of the control API: what it takes, what it answers, and one sentence about it.

``daemon/control`` checks requests against it, ``schema.py`` publishes it.
"""

from __future__ import annotations

from vif_uswitch.api import wire
from vif_uswitch.api.base import Nothing, Params, Result
from vif_uswitch.api.types import (
    Deleted,
    DropPage,
    FdbFlush,
    FdbFlushed,
    FdbListing,
    FdbPage,
    Host,
    Paging,
    PortAdd,
    PortChanged,
    PortDelete,
    PortDetail,
    PortListing,
    PortPage,
    PortRef,
    PortSet,
    Schema,
    Segment,
    SegmentAdd,
    SegmentDetail,
    SegmentPage,
    SegmentRef,
    StatsPage,
    UplinkChanged,
    UplinkDetail,
    UplinkEnsure,
    UplinkMap,
    UplinkPage,
    Version,
)
from vif_uswitch.api.workers import WorkerDetail, WorkerList, WorkerRef

_VERBS: dict[str, tuple[type[Params], type[Result], str]] = {
    "version": (Nothing, Version, "Versions of the daemon and of its API."),
    "schema": (Nothing, Schema, "This catalogue."),
    "show": (Nothing, Host, "State of the whole switch on one screen."),
    "port.add": (PortAdd, PortChanged, "Add a port; a name that exists is refused."),
    "port.ensure": (PortAdd, PortChanged, "Add a port, or change the existing one to match."),
    "port.set": (PortSet, PortChanged, "Change a port; what is not named stays."),
    "port.delete": (
        PortDelete, Deleted,
        "Delete a port; succeeds for an unknown one, and for one without these external_ids.",
    ),
    "port.list": (PortListing, PortPage, "Ports by name."),
    "port.show": (PortRef, PortDetail, "One port with its session, rings and counters."),
    "uplink.ensure": (
        UplinkEnsure, UplinkChanged, "Add an uplink, or change the existing one to match.",
    ),
    "uplink.map": (
        UplinkMap, UplinkChanged,
        "Set or remove one row of an uplink's tag table; also of one from the configuration.",
    ),
    "uplink.list": (Paging, UplinkPage, "Uplinks by name, with link and hardware counters."),
    "uplink.show": (PortRef, UplinkDetail, "One uplink with its adapter, counters and drops."),
    "uplink.delete": (
        PortRef, Deleted, "Delete an uplink; succeeds for an unknown one, refuses other ports.",
    ),
    "segment.add": (SegmentAdd, Segment, "Add a segment; a name that exists is refused."),
    "segment.delete": (SegmentRef, Deleted, "Delete a segment that no port is in."),
    "segment.list": (Paging, SegmentPage, "Segments by name."),
    "segment.show": (SegmentRef, SegmentDetail, "One segment and its ports."),
    "fdb.list": (FdbListing, FdbPage, "Known addresses, filtered by port, segment or address."),
    "fdb.flush": (FdbFlush, FdbFlushed, "Forget learned addresses; pinned ones stay."),
    "drops": (Paging, DropPage, "Frames not delivered, by port and reason."),
    "stats": (Paging, StatsPage, "Counters of all ports."),
    "worker.list": (Nothing, WorkerList, "The dataplane's threads."),
    "worker.show": (WorkerRef, WorkerDetail, "One thread and the queues it serves."),
}  # fmt: skip

CATALOGUE = {wire.PREFIX + verb: entry for verb, entry in _VERBS.items()}
"""Method name: type of the parameters, type of the result, one sentence."""
