# SPDX-License-Identifier: Apache-2.0
"""Single rows of an uplink's tag table, as ``uplink.map`` sets them.

Policy without I/O.  An agent brings VLANs to an uplink one by one and takes
them away again, also to one whose section in the configuration says the rest.
There the rows are marked (``Port.mapped``): those of the configuration belong
to it alone, the others outlive a restart with another configuration.
"""

from __future__ import annotations

from dataclasses import replace

from vif_uswitch.api.types import TRUNK_ROWS_MAX
from vif_uswitch.daemon.model import VID_UNTAGGED
from vif_uswitch.daemon.ports import Port
from vif_uswitch.exceptions import Conflict, ResourceExhausted


def with_row(port: Port, vid: int, segment: str | None) -> Port:
    """``port`` with frames of ``vid`` (or VID_UNTAGGED) in ``segment``, or in none."""
    rows = dict(port.tags())
    if rows.get(vid) == segment:
        return port
    if port.static and vid in rows and vid not in port.mapped:
        raise Conflict(
            _noun(vid), _number(vid),
            f"is in segment {rows[vid]} on uplink {port.name}, as the configuration says",
            f"Change section [uplink:{port.name}] there, and restart uswitchd.",
        )  # fmt: skip
    mapped = set(port.mapped) - {vid}
    if segment is None:
        del rows[vid]
    else:
        _refuse_second_row(port, rows, vid, segment)
        rows[vid] = segment
        if port.static:
            mapped.add(vid)
    return _with_rows(port, rows, mapped)


def _refuse_second_row(port: Port, rows: dict[int, str], vid: int, segment: str) -> None:
    for other, name in rows.items():
        if name == segment and other != vid:
            raise Conflict(
                "segment", segment, f"has a row on uplink {port.name} already: {_text(other)}",
                "A segment leaves an uplink with one tag, or untagged. Remove that row first:"
                f" uswitchctl uplink map {port.name} {_option(other)} --none",
            )  # fmt: skip
    if vid != VID_UNTAGGED and vid not in rows and len(port.trunk) >= TRUNK_ROWS_MAX:
        raise ResourceExhausted(
            "uplink", port.name, f"has {len(port.trunk)} rows for tagged frames, the most there"
            " can be", "Remove one that is not needed: uswitchctl uplink map ... --none",
        )  # fmt: skip


def keep_rows(port: Port, former: Port) -> tuple[Port, list[str]]:
    """``port``, made of its section anew, with the rows that the API gave its former self.

    Rows of the configuration win; the second value names those that had to go.
    """
    ours = former.mapped if former.static else [vid for vid, _ in former.tags()]
    rows = dict(port.tags())
    mapped: set[int] = set()
    gone: list[str] = []
    for vid, segment in former.tags():
        if vid not in ours or rows.get(vid) == segment:
            continue
        full = vid != VID_UNTAGGED and len(rows) >= TRUNK_ROWS_MAX
        if vid in rows or segment in rows.values() or full:
            gone.append(f"{_text(vid)} in segment {segment}")
            continue
        rows[vid] = segment
        mapped.add(vid)
    return _with_rows(port, rows, mapped), gone


def _with_rows(port: Port, rows: dict[int, str], mapped: set[int]) -> Port:
    tagged = {vid: segment for vid, segment in rows.items() if vid != VID_UNTAGGED}
    return replace(
        port, segment=rows.get(VID_UNTAGGED), trunk=tuple(sorted(tagged.items())),
        mapped=tuple(sorted(mapped)),
    )  # fmt: skip


def _noun(vid: int) -> str:
    return "untagged frames" if vid == VID_UNTAGGED else "VLAN id"


def _number(vid: int) -> int | None:
    return None if vid == VID_UNTAGGED else vid


def _text(vid: int) -> str:
    return "untagged frames" if vid == VID_UNTAGGED else f"VLAN id {vid}"


def _option(vid: int) -> str:
    return "--untagged" if vid == VID_UNTAGGED else f"--vid {vid}"
