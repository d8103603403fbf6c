# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl uplink``: network adapters as ports, their links and what their hardware counts."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import output, port, port_options, port_show, stats, text
from vif_uswitch.cmd.deleting import delete_each
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands

Json = dict[str, Any]
UNTAGGED = "untagged"


def _speed(mbps: int) -> str:
    if not mbps:
        return "-"
    return f"{mbps / 1000:g} Gbit/s" if mbps >= 1000 else f"{mbps} Mbit/s"


COLUMNS: tuple[Column, ...] = (
    Column("name", "Name"),
    Column("device", "Device"),
    Column("physnet", "Physnet"),
    Column("link", "Link"),
    Column("speed_mbps", "Speed", _speed, right=True),
    Column("driver", "Driver"),
    Column("queues", "Queues", right=True),
    Column("vlans", "VLANs"),
    Column("in_frames", "In", text.count, right=True),
    Column("out_frames", "Out", text.count, right=True),
    Column("in_dropped", "In drops", text.count, right=True),
    Column("out_dropped", "Out drops", text.count, right=True),
    Column("rx_missed", "Missed", text.count, right=True),
    Column("reason", "Reason", shown=False),
    Column("type", "Type", shown=False),
    Column("origin", "Origin", shown=False),
    Column("id", "Id", right=True, shown=False),
    Column("mac", "MAC", shown=False),
    Column("device_id", "Device id", shown=False),
    Column("full_duplex", "Full duplex", shown=False),
    Column("mtu", "MTU", right=True, shown=False),
    Column("ring_size", "Ring size", right=True, shown=False),
    Column("irq_us", "Interrupts us", right=True, shown=False),
    Column("zero_copy", "Zero copy", shown=False),
    Column("lro", "LRO", shown=False),
    Column("resets", "Resets", right=True, shown=False),
    Column("link_changes", "Link changes", right=True, shown=False),
    Column("in_bytes", "In bytes", right=True, shown=False),
    Column("out_bytes", "Out bytes", right=True, shown=False),
    Column("description", "Description", shown=False),
    Column("external_ids", "External ids", text.pairs, shown=False),
)
RATE_COLUMNS = (
    Column("in_frames_s", "In frames/s", right=True),
    Column("in_mbit_s", "In Mbit/s", right=True),
    Column("out_frames_s", "Out frames/s", right=True),
    Column("out_mbit_s", "Out Mbit/s", right=True),
)


def _hardware(counters: dict[str, int]) -> str:
    return "\n".join(f"{name} {value}" for name, value in counters.items())


SHOW_COLUMNS: tuple[Column, ...] = (
    Column("name", "Name"),
    Column("type", "Type"),
    Column("device", "Device"),
    Column("physnet", "Physnet"),
    Column("origin", "Origin"),
    Column("link", "Link"),
    Column("reason", "Reason"),
    Column("speed_mbps", "Speed", _speed),
    Column("full_duplex", "Full duplex"),
    Column("driver", "Driver"),
    Column("device_id", "Device id"),
    Column("mac", "MAC"),
    Column("vlans", "VLANs"),
    Column("mtu", "MTU"),
    Column("queues", "Queue pairs"),
    Column("ring_size", "Ring size", lambda size: str(size or "the driver's choice")),
    Column("irq_us", "Interrupts us"),
    Column("zero_copy", "Zero copy"),
    Column("lro", "LRO"),
    Column("pool_bytes", "DMA memory", text.size),
    Column("resets", "Resets"),
    Column("link_changes", "Link changes"),
    Column("flood_rate", "Flood rate"),
    Column("flood_burst", "Flood burst"),
    Column("fdb_quota", "FDB quota"),
    Column("max_kbps", "Max kbit/s"),
    Column("max_burst_kbps", "Burst kbit"),
    Column("max_kpps", "Max kpkt/s"),
    Column("max_burst_kpps", "Burst kpkt"),
    Column("admin_up", "Admin up"),
    Column("id", "Id"),
    Column("description", "Description"),
    Column("external_ids", "External ids", text.pairs),
    Column("created_us", "Created", text.moment),
    Column("incoming", "Into the switch", port_show.counters),
    Column("outgoing", "Out of the switch", port_show.counters),
    Column("counters", "Hardware counters", _hardware),
    Column("drops", "Drops", port_show.drops),
)


def register(commands: Commands) -> None:
    add = commands.add(
        "uplink", "add", add_uplink, "add an uplink, or change one; what is not named stays"
    )
    add.add_argument("name")
    device = add.add_mutually_exclusive_group(required=True)
    device.add_argument(
        "--pci", metavar="ADDRESS", default="",
        help="adapter that the switch drives itself, bound by 'uswitch-uplink bind' before",
    )  # fmt: skip
    device.add_argument(
        "--ifname", metavar="NAME", default="",
        help="network device that the kernel keeps, reached by AF_XDP",
    )  # fmt: skip
    add.add_argument("--physnet", metavar="NAME", help="physical network behind it, for Neutron")
    add.add_argument(
        "--vlan", metavar="VID=SEGMENT", action="append", type=_row,
        help="segment of frames with this VLAN id, or with 'untagged' of those without; repeat it"
        " for more rows (replaces all rows)",
    )  # fmt: skip
    add.add_argument("--queues", type=int, metavar="N", help="queue pairs, 1 to 8")
    add.add_argument("--ring-size", type=int, metavar="N", help="descriptors a ring")
    add.add_argument(
        "--irq-us", type=int, metavar="N", help="microseconds between interrupts of a queue"
    )
    add.add_argument(
        "--zero-copy", action=argparse.BooleanOptionalAction,
        help="let the adapter read frames in guests' memory",
    )  # fmt: skip
    add.add_argument(
        "--lro", action=argparse.BooleanOptionalAction,
        help="let the adapter join received TCP segments, if it can",
    )  # fmt: skip
    port_options.limit_options(add)
    add.add_argument("--up", action="store_true", help="let it send and receive")
    port_options.create_segment_option(add)
    port.wait_options(add)
    port_options.result_format(add)

    one = commands.add("uplink", "map", map_row, "set or remove one row of an uplink's table")
    one.add_argument("name")
    tag = one.add_mutually_exclusive_group(required=True)
    tag.add_argument("--vid", type=int, metavar="VID", help="frames with this VLAN id")
    tag.add_argument("--untagged", action="store_true", help="frames without a tag")
    row = one.add_mutually_exclusive_group(required=True)
    row.add_argument("--segment", metavar="SEGMENT", help="they belong to this segment")
    row.add_argument("--none", action="store_true", help="they belong to none: remove the row")
    port_options.create_segment_option(one)
    port_options.result_format(one)

    listing = commands.add("uplink", "list", list_uplinks, "list uplinks, their links and traffic")
    listing.add_argument("--rates", action="store_true", help="measure for a second, show rates")
    output.add_options(listing, sort=True)

    show = commands.add("uplink", "show", show_uplink, "one uplink, with its hardware's counters")
    show.add_argument("name")
    output.add_options(show, sort=False)

    delete = commands.add("uplink", "delete", delete_uplinks, "delete uplinks")
    delete.add_argument("name", nargs="+")


def _row(argument: str) -> tuple[int | None, str]:
    """VLAN id (None: untagged) and segment."""
    vid, equals, segment = argument.partition("=")
    if equals and segment and vid == UNTAGGED:
        return None, segment
    if not equals or not segment or not vid.isascii() or not vid.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{argument!r} is not VID=SEGMENT, for example 100=blue or {UNTAGGED}=mgmt"
        )
    return int(vid), segment


def _rows(args: argparse.Namespace) -> Json:
    """The tag table, whole, if the options say anything about it."""
    if args.vlan is None:
        return {}
    plain = [segment for vid, segment in args.vlan if vid is None]
    if len(plain) > 1:
        args.parser.error(f"--vlan {UNTAGGED}= is given twice: {plain[0]} and {plain[1]}")
    tagged = [(vid, segment) for vid, segment in args.vlan if vid is not None]
    return {
        "segment": plain[0] if plain else None,
        "trunk": [{"vid": vid, "segment": segment} for vid, segment in tagged],
    }


def _spec(args: argparse.Namespace) -> Json:
    own = ("physnet", "ring_size", "irq_us", "zero_copy", "lro")
    spec = {key: getattr(args, key) for key in own if getattr(args, key) is not None}
    if args.up and args.down:
        args.parser.error("--up and --down exclude each other")
    if args.up or args.down:
        spec["admin_up"] = bool(args.up)
    return {
        "name": args.name, "pci": args.pci, "ifname": args.ifname,
        **spec, **_rows(args), **port_options.limits(args),
    }  # fmt: skip


def add_uplink(client: Client, args: argparse.Namespace) -> int:
    answer = client.uplink_ensure(_spec(args), create_segments=args.create_segment)
    uplink = answer["uplink"]
    if args.wait:
        port.wait_for_link(client, uplink["port"], args.wait_timeout, "Plug in the cable")
        uplink = client.uplink_show(args.name)["uplink"]
    if args.format == "json":
        print(json.dumps(uplink, indent=2))
        return 0
    done = "added" if answer["created"] else "changed" if answer["changed"] else "is so already"
    about = uplink["port"]
    why = f" ({output.plain(about['reason'])})" if about["reason"] else ""
    print(f"uplink {args.name} {done}: {text.where(about)}, link {about['link']}{why}")
    return 0


def map_row(client: Client, args: argparse.Namespace) -> int:
    answer = client.uplink_map(args.name, args.vid, args.segment, args.create_segment)
    if args.format == "json":
        print(json.dumps(answer["uplink"], indent=2))
        return 0
    done = "changed" if answer["changed"] else "is so already"
    print(f"uplink {args.name} {done}: {' '.join(flat(answer['uplink'])['vlans']) or 'no rows'}")
    return 0


def flat(uplink: Json) -> Json:
    """Port, adapter and counters side by side."""
    about, adapter = uplink["port"], uplink["adapter"] or {}
    untagged = [f"{UNTAGGED}={about['segment']}"] if about["segment"] is not None else []
    row = {
        **about,
        **{key: uplink[key] for key in ("origin", "ring_size", "irq_us", "zero_copy", "lro")},
        "device": text.where(about),
        "vlans": untagged + [f"{row['vid']}={row['segment']}" for row in about["trunk"]],
        "rx_missed": adapter.get("counters", {}).get("rx_missed"),
        **adapter,
        "queues": adapter.get("queues") or about["queues"],
    }
    for direction, member in (("in", "incoming"), ("out", "outgoing")):
        for key in ("frames", "bytes", "dropped"):
            row[f"{direction}_{key}"] = uplink[member][key]
    return row


def _as_stats(uplink: Json) -> Json:
    return {**uplink, "port": uplink["port"]["name"], "link": uplink["port"]["link"]}


def list_uplinks(client: Client, args: argparse.Namespace) -> int:
    uplinks = client.uplink_list()
    rows = [flat(uplink) for uplink in uplinks]
    columns = COLUMNS
    if args.rates:
        time.sleep(1)
        later = client.uplink_list()
        measured = stats.rates(list(map(_as_stats, uplinks)), list(map(_as_stats, later)))
        by_name = {row["port"]: row for row in measured}
        rows = [{**row, **by_name[row["name"]]} for row in map(flat, later)]
        totals = ("in_frames", "out_frames")
        columns = (*(column for column in COLUMNS if column.key not in totals), *RATE_COLUMNS)
    if args.format == "table" and not args.column and any(row["reason"] for row in rows):
        columns = tuple(
            Column("reason", "Reason") if column.key == "reason" else column for column in columns
        )
    empty = "(no uplinks; add one: uswitchctl uplink add NAME --pci ADDRESS)"
    print(output.render_list(rows, columns, args, empty))
    return 0


def show_uplink(client: Client, args: argparse.Namespace) -> int:
    detail = client.uplink_show(args.name)
    if args.format == "json" and not args.column:
        print(json.dumps(detail, indent=2))
        return 0
    uplink = detail["uplink"]
    row = {
        **flat(uplink),
        "incoming": uplink["incoming"], "outgoing": uplink["outgoing"], "drops": detail["drops"],
    }  # fmt: skip
    print(output.render_one(row, SHOW_COLUMNS, args))
    return 0


def delete_uplinks(client: Client, args: argparse.Namespace) -> int:
    return delete_each("uplink", args.name, client.uplink_delete)
