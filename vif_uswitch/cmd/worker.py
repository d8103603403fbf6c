# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl worker``: the dataplane's threads, how busy they are, and with which queues.

Loads are measured here: two looks at the counters, ``--interval`` apart.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import output
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands, seconds

Row = dict[str, Any]


def _percent(value: float) -> str:
    return f"{value:.1f} %"


LOAD = Column("load", "Load", _percent, right=True)
CYCLES_A_FRAME = Column("cycles_a_frame", "Cycles/frame", right=True)
COLUMNS = (
    Column("index", "Worker", right=True),
    Column("tid", "Tid", right=True),
    Column("cpu", "CPU", lambda cpu: "any" if cpu < 0 else str(cpu), right=True),
    LOAD,
    CYCLES_A_FRAME,
    Column("frames", "Frames", right=True),
    Column("sleeps", "Sleeps", right=True),
    Column("wakeups", "Wakeups", right=True),
    Column("queues", "Queues", right=True),
    Column("passes", "Passes", right=True, shown=False),
    Column("busy_passes", "Busy passes", right=True, shown=False),
    Column("cycles", "Cycles", right=True, shown=False),
    Column("busy_cycles", "Busy cycles", right=True, shown=False),
)
QUEUE_COLUMNS = (
    Column("port", "Port"),
    Column("queue", "Queue", right=True),
    LOAD,
    CYCLES_A_FRAME,
    Column("frames", "Frames", right=True),
    Column("cycles", "Cycles", right=True, shown=False),
)


def register(commands: Commands) -> None:
    listing = commands.add("worker", "list", list_workers, "list the dataplane's threads")
    show = commands.add("worker", "show", show_worker, "show one thread and the queues it serves")
    show.add_argument("index", type=int, help="number of the worker")
    for parser in (listing, show):
        parser.add_argument(
            "--interval", type=seconds(0, 3600, " up to 3600"), default=1.0, metavar="SECONDS",
            help="how long load and cycles per frame are measured (default: 1; 0: no load, and the"
            " cycles since the beginning)",
        )  # fmt: skip
    output.add_options(listing, sort=True)
    show.add_argument("-f", "--format", choices=("table", "json"), default="table")


def measured(row: Row, before: Row | None, busy: str, available: float) -> Row:
    """``row`` with its load in per cent of the ``available`` cycles, and the cycles of a frame.

    ``before`` is the same thing earlier, None: count from the beginning.  Both
    are None where nothing can be said: no frame, or no clock to compare with.
    """
    spent = max(0, row[busy] - (before[busy] if before else 0))
    frames = max(0, row["frames"] - (before["frames"] if before else 0))
    return {
        **row,
        "load": round(min(100.0, 100 * spent / available), 1) if before and available else None,
        "cycles_a_frame": round(spent / frames) if frames else None,
    }


def _available(before: Row, after: Row) -> float:
    """Cycles of one core between two looks."""
    return float(after["tsc_khz"] * (after["at_ns"] - before["at_ns"]) / 1e6)


def list_workers(client: Client, args: argparse.Namespace) -> int:
    before = after = client.worker_list()
    former: dict[int, Row] = {}
    if args.interval:
        time.sleep(args.interval)
        after = client.worker_list()
        # A thread that is another one began meanwhile.
        former = {worker["tid"]: worker for worker in before["workers"]}
    available = _available(before, after)
    rows = [
        measured(worker, former.get(worker["tid"]), "busy_cycles", available)
        for worker in after["workers"]
    ]
    print(output.render_list(rows, COLUMNS, args, "(no workers: no dataplane is running)"))
    return 0


def show_worker(client: Client, args: argparse.Namespace) -> int:
    before = after = client.worker_show(args.index)
    former: dict[tuple[str, int], Row] = {}
    worker = None
    if args.interval:
        time.sleep(args.interval)
        after = client.worker_show(args.index)
        former = {(queue["port"], queue["queue"]): queue for queue in before["queues"]}
        worker = before["worker"] if before["worker"]["tid"] == after["worker"]["tid"] else None
    available = _available(before, after)
    row = measured(after["worker"], worker, "busy_cycles", available)
    queues = [
        measured(queue, former.get((queue["port"], queue["queue"])), "cycles", available)
        for queue in after["queues"]
    ]
    if args.format == "json":
        # "queues" of a worker is their number everywhere else.
        print(json.dumps({**row, "served": queues}, indent=2))
        return 0
    args.column = None
    print(output.render_one(row, COLUMNS, args))
    if queues:
        shown = [column for column in QUEUE_COLUMNS if column.shown]
        print("", output.table(queues, shown), sep="\n")
    return 0
