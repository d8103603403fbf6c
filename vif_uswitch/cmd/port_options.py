# SPDX-License-Identifier: Apache-2.0
"""What ports can be told on the command line, and what the API calls it.

``port.py`` and ``uplink.py`` add these options to their commands.
"""

from __future__ import annotations

import argparse
from typing import Any

Json = dict[str, Any]


def changeable(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    network_options(parser)
    option(
        "--mac", metavar="MAC", action="append",
        help="pin this address to the port; repeat it for more (replaces all)",
    )  # fmt: skip
    option(
        "--queues", type=int, metavar="N",
        help="queue pairs its guest may use, 1 to 8; counts from the next connection on",
    )  # fmt: skip
    option(
        "--external-id", metavar="KEY=VALUE", action="append", type=key_value,
        help="whose it is, for other programs; repeat it for more",
    )  # fmt: skip
    limit_options(parser)


def network_options(parser: argparse.ArgumentParser) -> None:
    """Where its frames belong, and what they may claim to be."""
    option = parser.add_argument
    option("--segment", metavar="SEGMENT", help="segment of its untagged frames")
    option(
        "--trunk", metavar="VID:SEGMENT", action="append", type=_trunk_row,
        help="segment of frames with this VLAN id; repeat it for more rows (replaces all rows)",
    )  # fmt: skip
    option(
        "--allow", metavar="MAC[=IP[/N]]", action="append", type=_pair,
        help="anti-spoofing: it may send from this MAC address, and from this IP address or prefix"
        " with it; repeat it for more (replaces all; without any, nothing is checked)",
    )  # fmt: skip


def limit_options(parser: argparse.ArgumentParser) -> None:
    """What ports of every kind can be told."""
    option = parser.add_argument
    option("--mtu", type=int, metavar="BYTES", help="68 to 65521; the longest frame is 14 longer")
    option("--flood-rate", type=int, metavar="N", help="copies a second by flooding, 0: no limit")
    option("--flood-burst", type=int, metavar="N", help="copies at once by flooding")
    option("--fdb-quota", type=int, metavar="N", help="addresses learned from it, at most")
    option("--max-kbps", type=int, metavar="N", help="kilobits a second it may send, 0: no limit")
    option("--max-burst-kbps", type=int, metavar="N", help="kilobits at once, 0: 80 %% of max-kbps")
    option("--max-kpps", type=int, metavar="N", help="1000 frames a second it may send, 0: any")
    option("--max-burst-kpps", type=int, metavar="N", help="1000 frames at once, 0: 80 %% of it")
    option("--description", metavar="TEXT")
    option("--down", action="store_true", help="cut it off: it neither sends nor receives")


def create_segment_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--create-segment", action="store_true", help="create new segments")


def result_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")


def _trunk_row(argument: str) -> Json:
    vid, colon, segment = argument.partition(":")
    if not colon or not vid.isascii() or not vid.isdecimal() or not segment:
        raise argparse.ArgumentTypeError(f"{argument!r} is not VID:SEGMENT, for example 10:blue")
    return {"vid": int(vid), "segment": segment}


def _pair(argument: str) -> Json:
    mac, equals, ip = argument.partition("=")
    if not mac or (equals and not ip):
        raise argparse.ArgumentTypeError(
            f"{argument!r} is not MAC or MAC=IP, for example fa:16:3e:00:00:01=10.0.0.5"
        )
    return {"mac": mac, "ip": ip or None}


def key_value(argument: str) -> tuple[str, str]:
    key, equals, value = argument.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{argument!r} is not KEY=VALUE, for example owner=me")
    return key, value


def changes(args: argparse.Namespace) -> Json:
    """The members of the API's PortChanges that the options name."""
    found = network_changes(args)
    if args.mac is not None:
        found["macs"] = args.mac
    if args.external_id is not None:
        found["external_ids"] = dict(args.external_id)
    return found


def network_changes(args: argparse.Namespace) -> Json:
    """What ``network_options()``, ``limit_options()`` and ``--queues`` were given."""
    named = {"segment": args.segment, "trunk": args.trunk}
    found = {key: value for key, value in named.items() if value is not None}
    found |= limits(args)
    if args.allow is not None:
        found["guard"] = {"pairs": args.allow}
    if args.down:
        found["admin_up"] = False
    return found


LIMITS = (
    "queues", "mtu", "flood_rate", "flood_burst", "fdb_quota", "max_kbps", "max_burst_kbps",
    "max_kpps", "max_burst_kpps", "description",
)  # fmt: skip


def limits(args: argparse.Namespace) -> Json:
    """What ``limit_options()`` and, where a command has it, ``--queues`` were given."""
    given = {key: getattr(args, key, None) for key in LIMITS}
    return {key: value for key, value in given.items() if value is not None}
