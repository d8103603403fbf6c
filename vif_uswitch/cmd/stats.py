# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl stats``: counters of all ports, or with ``--watch`` their rates."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import output
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands, seconds

COUNTERS = ("frames", "bytes", "flooded", "gso", "csum_fixed", "gso_fixed", "bursts", "signals")
SHOWN = ("frames", "bytes")


def _columns(direction: str) -> tuple[Column, ...]:
    return (
        *(
            Column(f"{direction}_{key}", f"{direction} {key}", right=True, shown=key in SHOWN)
            for key in COUNTERS
        ),
        Column(f"{direction}_dropped", f"{direction} drops", right=True),
    )


COLUMNS = (Column("port", "Port"), Column("link", "Link"), *_columns("in"), *_columns("out"))
RATE_COLUMNS = (
    Column("port", "Port"),
    Column("link", "Link"),
    *(
        Column(f"{direction}_{key}", f"{direction} {title}", right=True)
        for direction in ("in", "out")
        for key, title in (
            ("frames_s", "frames/s"),
            ("mbit_s", "Mbit/s"),
            ("drops_s", "drops/s"),
        )
    ),
)


def register(commands: Commands) -> None:
    stats = commands.add("", "stats", show_stats, "counters of all ports, or their rates")
    stats.add_argument(
        "--watch", type=seconds(0.1, 3600, " from 0.1 to 3600"), metavar="SECONDS",
        help="print rates, again and again",
    )
    stats.add_argument(
        "--count", type=int, default=0, metavar="N", help="with --watch: stop after N times"
    )
    output.add_options(stats, sort=True)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """One port's counters side by side."""
    result = {"port": row["port"], "link": row["link"]}
    for direction, member in (("in", "incoming"), ("out", "outgoing")):
        for key, value in row[member].items():
            result[f"{direction}_{key}"] = value
    return result


def rates(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences a second; 0 for a port that is new, or whose counters began anew."""
    former = {row["port"]: row for row in before}
    rows = []
    for row in after:
        old = former.get(row["port"], row)
        result: dict[str, Any] = {"port": row["port"], "link": row["link"]}
        for direction, member in (("in", "incoming"), ("out", "outgoing")):
            result[f"{direction}_frames_s"] = round(_rate(old, row, member, "frames"))
            result[f"{direction}_mbit_s"] = round(_rate(old, row, member, "bytes") * 8 / 1e6, 2)
            result[f"{direction}_drops_s"] = round(_rate(old, row, member, "dropped"))
        rows.append(result)
    return rows


def _rate(old: dict[str, Any], row: dict[str, Any], member: str, key: str) -> float:
    seconds = (row["at_ns"] - old["at_ns"]) / 1e9
    difference: int = row[member][key] - old[member][key]
    return max(0, difference) / seconds if seconds > 0 else 0.0


def show_stats(client: Client, args: argparse.Namespace) -> int:
    rows = client.stats()
    if args.watch is None:
        print(output.render_list([flat(row) for row in rows], COLUMNS, args, "(no ports)"))
        return 0
    done = 0
    while args.count <= 0 or done < args.count:
        time.sleep(args.watch)
        before, rows = rows, client.stats()
        now = rates(before, rows)
        if args.format == "json":
            print(json.dumps(now), flush=True)
        else:
            stamp = time.strftime("%H:%M:%S")
            print(stamp, output.render_list(now, RATE_COLUMNS, args, "(no ports)"),
                  sep="\n", flush=True)  # fmt: skip
        done += 1
    return 0
