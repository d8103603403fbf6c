# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl port``: add, set, delete, list.  ``port_show.py`` has the fifth."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import output, port_options, text
from vif_uswitch.cmd.deleting import delete_each
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands, seconds
from vif_uswitch.exceptions import TimedOut

COLUMNS: tuple[Column, ...] = (
    Column("name", "Name"),
    Column("type", "Type"),
    Column("link", "Link"),
    Column("segment", "Segment"),
    Column("trunk", "Trunk", text.trunk),
    Column("macs", "MACs", text.macs),
    Column("mtu", "MTU", right=True),
    Column("where", "Where"),
    Column("reason", "Reason", shown=False),
    Column("id", "Id", right=True, shown=False),
    Column("path", "Path", shown=False),
    Column("mode", "Mode", shown=False),
    Column("ifname", "Ifname", shown=False),
    Column("netns", "Namespace", shown=False),
    Column("pci", "PCI", shown=False),
    Column("physnet", "Physnet", shown=False),
    Column("admin_up", "Admin up", shown=False),
    Column("flood_rate", "Flood rate", right=True, shown=False),
    Column("flood_burst", "Flood burst", right=True, shown=False),
    Column("fdb_quota", "FDB quota", right=True, shown=False),
    Column("queues", "Queue pairs", right=True, shown=False),
    Column("max_kbps", "Max kbit/s", right=True, shown=False),
    Column("max_burst_kbps", "Burst kbit", right=True, shown=False),
    Column("max_kpps", "Max kpkt/s", right=True, shown=False),
    Column("max_burst_kpps", "Burst kpkt", right=True, shown=False),
    Column("peer_pid", "Peer pid", right=True, shown=False),
    Column("description", "Description", shown=False),
    Column("external_ids", "External ids", text.pairs, shown=False),
    Column("guard", "Guard", text.guard, shown=False),
    Column("created_us", "Created", text.moment, shown=False),
)


def register(commands: Commands) -> None:
    add = commands.add("port", "add", add_port, "add a port")
    add.add_argument("name")
    add.add_argument("--type", choices=("vhost-user", "tap"), default="vhost-user")
    add.add_argument(
        "--path", metavar="SOCKET", default="",
        help="vhost-user socket, below vhost_socket_dir (default: NAME.sock there)",
    )  # fmt: skip
    add.add_argument(
        "--mode", choices=("server", "client"), default="server",
        help="server: QEMU listens and uswitchd connects (default); client: QEMU connects",
    )  # fmt: skip
    add.add_argument("--ifname", metavar="NAME", default="", help="kernel device of a tap port")
    add.add_argument(
        "--netns", metavar="NAME", default="",
        help="network namespace of that device, see ip netns (default: that of uswitchd)",
    )  # fmt: skip
    port_options.changeable(add)
    port_options.create_segment_option(add)
    wait_options(add)
    port_options.result_format(add)

    change = commands.add("port", "set", set_port, "change a port; what is not named stays")
    change.add_argument("name")
    port_options.changeable(change)
    change.add_argument("--no-segment", action="store_true", help="take it out of its segment")
    change.add_argument("--no-trunk", action="store_true", help="remove the rows for tagged frames")
    change.add_argument("--no-mac", action="store_true", help="pin no address any more")
    change.add_argument("--no-guard", action="store_true", help="let it send from any address")
    change.add_argument(
        "--no-external-id", metavar="KEY", action="append", default=[], help="forget this one"
    )
    port_options.create_segment_option(change)
    change.add_argument("--up", action="store_true", help="let it send and receive")
    port_options.result_format(change)

    delete = commands.add("port", "delete", delete_ports, "delete ports")
    delete.add_argument("name", nargs="+")

    listing = commands.add("port", "list", list_ports, "list ports")
    listing.add_argument("--segment", metavar="SEGMENT", help="only ports in this segment")
    listing.add_argument(
        "--external-id", metavar="KEY=VALUE", type=port_options.key_value,
        help="only ports that have this one",
    )  # fmt: skip
    output.add_options(listing, sort=True)


WAITING = seconds(0, 1e6, "")  # how long somebody is ready to wait


def wait_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait until the link is up")
    parser.add_argument(
        "--wait-timeout", type=WAITING, default=60.0, metavar="SECONDS",
        help="how long --wait waits (default: 60)",
    )  # fmt: skip


def add_port(client: Client, args: argparse.Namespace) -> int:
    spec = {
        "name": args.name,
        "type": args.type,
        "path": args.path,
        "mode": args.mode,
        "ifname": args.ifname,
        "netns": args.netns,
        **port_options.changes(args),
    }
    port = client.port_add(spec, create_segments=args.create_segment)["port"]
    if args.wait:
        port = wait_for_link(client, port, args.wait_timeout, "Start the guest")
    if args.format == "json":
        print(json.dumps(port, indent=2))
    else:
        print(f"port {port['name']} added: {text.where(port)}, link {port['link']}")
    return 0


def wait_for_link(
    client: Client, port: dict[str, Any], timeout_s: float, todo: str
) -> dict[str, Any]:
    """Until the link is up.  Tells once a second how things are."""
    name = port["name"]
    begun = time.monotonic()
    told = begun
    while port["link"] != "up":
        now = time.monotonic()
        if now - begun >= timeout_s:
            raise TimedOut(
                "port", name, f"is not up after {timeout_s:g} s: link {port['link']}"
                + (f" ({port['reason']})" if port["reason"] else ""),
                f"The port stays. {todo}, or see: uswitchctl port show {name}",
            )  # fmt: skip
        if now - told >= 1:
            told = now
            print(f"waiting for {name}: {port['link']} ({now - begun:.0f} s)", file=sys.stderr)
        time.sleep(0.1)
        port = client.port_show(name)["port"]
    return port


def set_port(client: Client, args: argparse.Namespace) -> int:
    changes = port_options.changes(args)
    for option, without, key, value in (
        ("segment", "no_segment", "segment", None),
        ("trunk", "no_trunk", "trunk", []),
        ("mac", "no_mac", "macs", []),
        ("allow", "no_guard", "guard", None),
    ):
        if getattr(args, without):
            if key in changes:
                both = f"--{option} and --{without.replace('_', '-')}"
                args.parser.error(f"{both} exclude each other")
            changes[key] = value
    if args.external_id is not None or args.no_external_id:
        changes["external_ids"] = _merged_ids(client, args)
    if args.up:
        if args.down:
            args.parser.error("--up and --down exclude each other")
        changes["admin_up"] = True
    if not changes:
        args.parser.error("name at least one thing to change, for example --segment blue")
    answer = client.port_set(args.name, changes, create_segments=args.create_segment)
    if args.format == "json":
        print(json.dumps(answer["port"], indent=2))
    else:
        print(f"port {args.name} {'changed' if answer['changed'] else 'is so already'}")
    return 0


def _merged_ids(client: Client, args: argparse.Namespace) -> dict[str, str]:
    """The whole map, as the API takes it: what the port has, and what the options say."""
    new = dict(args.external_id or ())
    for key in args.no_external_id:
        if key in new:
            args.parser.error(f"--external-id {key}= and --no-external-id {key} exclude each other")
    ids: dict[str, str] = client.port_show(args.name)["port"]["external_ids"]
    return {key: value for key, value in (ids | new).items() if key not in args.no_external_id}


def delete_ports(client: Client, args: argparse.Namespace) -> int:
    return delete_each("port", args.name, client.port_delete)


def with_where(port: dict[str, Any]) -> dict[str, Any]:
    return {**port, "where": text.where(port)}


def list_ports(client: Client, args: argparse.Namespace) -> int:
    rows = [with_where(port) for port in client.port_list(args.segment, args.external_id)]
    columns = COLUMNS
    if args.format == "table" and not args.column and any(row["reason"] for row in rows):
        columns = tuple(
            Column("reason", "Reason") if column.key == "reason" else column for column in COLUMNS
        )
    print(output.render_list(rows, columns, args, "(no ports; add one: uswitchctl port add NAME)"))
    return 0
