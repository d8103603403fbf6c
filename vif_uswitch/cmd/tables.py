# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl segment``, ``fdb``, ``drops`` and ``schema``: a request, a table."""

from __future__ import annotations

import argparse
import json

from vif_uswitch.client import Client
from vif_uswitch.cmd import output, text
from vif_uswitch.cmd.deleting import delete_each
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands

SEGMENT_COLUMNS = (
    Column("name", "Name"),
    Column("id", "Id", right=True),
    Column("n_ports", "Ports", right=True),
    Column("description", "Description"),
)
FDB_COLUMNS = (
    Column("mac", "MAC"),
    Column("segment", "Segment"),
    Column("port", "Port"),
    Column("age_s", "Age", right=True),
    Column("pinned", "Pinned"),
)
DROP_COLUMNS = (
    Column("port", "Port"),
    Column("direction", "Dir"),
    Column("frames", "Frames", right=True),
    Column("reason", "Reason"),
    Column("text", "Meaning"),
)


def register(commands: Commands) -> None:
    add = commands.add("segment", "add", add_segment, "add a segment (a broadcast domain)")
    add.add_argument("name")
    add.add_argument("--description", default="", metavar="TEXT")
    delete = commands.add("segment", "delete", delete_segments, "delete segments without ports")
    delete.add_argument("name", nargs="+")
    listing = commands.add("segment", "list", list_segments, "list segments")
    output.add_options(listing, sort=True)
    show = commands.add("segment", "show", show_segment, "show one segment and its ports")
    show.add_argument("name")
    output.add_options(show, sort=False)

    fdb = commands.add("fdb", "list", list_fdb, "list the addresses the switch knows")
    fdb.add_argument("--mac", metavar="MAC")
    _fdb_filters(fdb)
    output.add_options(fdb, sort=True)
    flush = commands.add("fdb", "flush", flush_fdb, "forget learned addresses; pinned ones stay")
    _fdb_filters(flush)

    drops = commands.add("", "drops", list_drops, "frames that were not delivered, and why")
    drops.add_argument("--port", metavar="PORT", help="only of this port")
    output.add_options(drops, sort=True)
    commands.add("", "schema", show_schema, "print the API's methods and JSON Schema")


def _fdb_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", metavar="PORT", help="only behind this port")
    parser.add_argument("--segment", metavar="SEGMENT", help="only in this segment")


def add_segment(client: Client, args: argparse.Namespace) -> int:
    segment = client.segment_add(args.name, args.description)
    print(f"segment {segment['name']} added")
    return 0


def delete_segments(client: Client, args: argparse.Namespace) -> int:
    return delete_each("segment", args.name, client.segment_delete)


def list_segments(client: Client, args: argparse.Namespace) -> int:
    empty = "(no segments; add one: uswitchctl segment add NAME)"
    print(output.render_list(client.segment_list(), SEGMENT_COLUMNS, args, empty))
    return 0


def show_segment(client: Client, args: argparse.Namespace) -> int:
    detail = client.segment_show(args.name)
    row = {**detail["segment"], "ports": detail["ports"]}
    columns = (
        *(column for column in SEGMENT_COLUMNS if column.key != "n_ports"),
        Column("n_ports", "Number of ports"),
        Column("ports", "Ports"),
    )
    print(output.render_one(row, columns, args))
    return 0


def list_fdb(client: Client, args: argparse.Namespace) -> int:
    entries = client.fdb_list(port=args.port, segment=args.segment, mac=args.mac)
    entries.sort(key=lambda entry: (entry["segment"], entry["mac"]))
    print(output.render_list(entries, FDB_COLUMNS, args, "(no addresses)"))
    return 0


def flush_fdb(client: Client, args: argparse.Namespace) -> int:
    removed = client.fdb_flush(port=args.port, segment=args.segment)
    print(f"{text.some(removed, 'address').replace('addresss', 'addresses')} forgotten")
    return 0


def list_drops(client: Client, args: argparse.Namespace) -> int:
    if args.port is not None:
        drops = client.port_show(args.port)["drops"]
    else:
        drops = client.drops()
    print(output.render_list(drops, DROP_COLUMNS, args, "(no drops)"))
    return 0


def show_schema(client: Client, args: argparse.Namespace) -> int:
    print(json.dumps(client.schema()["catalogue"], indent=1))
    return 0
