# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl show``: one screen that tells what this host switches; and ``version``."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import output, stats, text
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands
from vif_uswitch.cmd.port import with_where
from vif_uswitch.version import version

Json = dict[str, Any]
DROPS_SHOWN = 5
PORT_COLUMNS = (
    Column("name", "Port"),
    Column("link", "Link"),
    Column("tag", "Tag"),
    Column("type", "Type"),
    Column("macs", "MACs", text.macs),
    Column("where", "Where"),
)
RATE_COLUMNS = (
    Column("in_frames_s", "in frames/s", right=True),
    Column("in_mbit_s", "in Mbit/s", right=True),
    Column("out_frames_s", "out frames/s", right=True),
    Column("out_mbit_s", "out Mbit/s", right=True),
)
DROP_COLUMNS = (
    Column("frames", "Frames", text.count, right=True),
    Column("ports", "Ports", right=True),
    Column("reason", "Reason"),
    Column("text", "Meaning"),
)


def register(commands: Commands) -> None:
    show = commands.add("", "show", show_host, "one screen: what this host switches")
    show.add_argument("--rates", action="store_true", help="measure for a second, show rates too")
    show.add_argument("-f", "--format", choices=("table", "json"), default="table")
    about = commands.add("", "version", show_version, "versions of the tool, uswitchd and the API")
    about.add_argument("-f", "--format", choices=("table", "json"), default="table")


def show_host(client: Client, args: argparse.Namespace) -> int:
    measured: dict[str, Json] = {}
    if args.rates:
        before = client.stats()
        time.sleep(1)
        measured = {row["port"]: row for row in stats.rates(before, client.stats())}
    host = client.show()
    segments = client.segment_list()
    ports = [{**with_where(port), **measured.get(port["name"], {})} for port in client.port_list()]
    if args.format == "json":
        print(json.dumps({"host": host, "segments": segments, "ports": ports}, indent=2))
    else:
        print("\n".join(screen(host, segments, ports, bool(args.rates))))
    return 0


def screen(host: Json, segments: list[Json], ports: list[Json], rates: bool) -> list[str]:
    """The lines of the screen."""
    lines = [
        f"uswitchd   {_daemon(host['daemon'])}",
        f"dataplane  {_dataplane(host['dataplane'], host['daemon'])}",
        f"sockets    {output.plain(host['daemon']['vhost_socket_dir'])}",
        f"ports      {_links(host)}",
        f"traffic    {_traffic(host)}",
    ]
    columns = (*PORT_COLUMNS, *(RATE_COLUMNS if rates else ()))
    members = _by_segment(ports)
    for segment in segments:
        about = f": {output.plain(segment['description'])}" if segment["description"] else ""
        lines += ["", f"segment {segment['name']}{about}"]
        lines += _ports(members.pop(segment["name"], []), columns)
    outside = members.pop(None, [])
    if outside:
        lines += ["", "in no segment", *_ports(outside, columns)]
    if host["drops"]:
        lines += ["", "drops (uswitchctl drops shows them by port)"]
        lines.append(output.table(host["drops"][:DROPS_SHOWN], DROP_COLUMNS, "  "))
    return lines


def _daemon(daemon: Json) -> str:
    return (
        f"{daemon['version']}, API {daemon['api']}, pid {daemon['pid']},"
        f" up {text.duration(daemon['uptime_s'])}"
    )


def _dataplane(dataplane: Json, daemon: Json) -> str:
    if not dataplane["running"]:
        return "NOT RUNNING: no packet moves; uswitchd is starting one, see its log"
    origin = "taken over" if dataplane["adopted"] else f"start {dataplane['starts']}"
    return (
        f"running, pid {dataplane['pid']} ({origin}),"
        f" {text.some(dataplane['workers'], 'worker')}, polls {daemon['poll_us']} us,"
        f" FDB {dataplane['fdb_entries']} of {dataplane['fdb_capacity']}"
    )


def _links(host: Json) -> str:
    parts = ", ".join(f"{count} {link}" for link, count in sorted(host["links"].items()))
    total = f"{host['n_ports']} in {text.some(host['n_segments'], 'segment')}"
    return f"{total}: {parts}" if parts else total


def _traffic(host: Json) -> str:
    def way(counters: Json) -> str:
        return f"{text.count(counters['frames'])} frames {text.size(counters['bytes'])}"

    dropped = host["incoming"]["dropped"] + host["outgoing"]["dropped"]
    return (
        f"in {way(host['incoming'])}, out {way(host['outgoing'])}, dropped {text.count(dropped)}"
    )


def _by_segment(ports: list[Json]) -> dict[str | None, list[Json]]:
    """Ports by segment, once for each of their rows; None: no row at all."""
    members: dict[str | None, list[Json]] = {}
    for port in ports:
        if port["segment"] is None and not port["trunk"]:
            members.setdefault(None, []).append({**port, "tag": "-"})
        if port["segment"] is not None:
            members.setdefault(port["segment"], []).append({**port, "tag": "untagged"})
        for row in port["trunk"]:
            members.setdefault(row["segment"], []).append({**port, "tag": str(row["vid"])})
    return members


def _ports(ports: list[Json], columns: tuple[Column, ...]) -> list[str]:
    if not ports:
        return ["  (no ports)"]
    lines = [output.table(ports, columns, "  ")]
    seen = {port["name"]: port for port in ports if port["reason"]}
    lines += [f"  {name}: {output.plain(port['reason'])}" for name, port in seen.items()]
    return lines


def show_version(client: Client, args: argparse.Namespace) -> int:
    answer = client.version()
    if args.format == "json":
        print(json.dumps({"uswitchctl": version(), **answer}, indent=2))
    else:
        print(f"uswitchctl {version()}")
        print(f"uswitchd   {answer['version']}, API {answer['api']}, pid {answer['pid']}")
    return 0
