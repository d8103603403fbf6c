# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain list``, ``check``, ``watch``: libvirt's guests and their ports.

What they do is in ``vif_uswitch.domain``, which is loaded when one of them
runs: only they need libvirt's Python binding.  ``domain_change.py`` has the
commands that change something.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import output, text
from vif_uswitch.cmd.output import Column, plain
from vif_uswitch.cmd.parsing import Commands, seconds
from vif_uswitch.exceptions import USwitchError

if TYPE_CHECKING:
    from vif_uswitch.client import Whose

Json = dict[str, Any]
INDENT = " " * 14
COLUMNS: tuple[Column, ...] = (
    Column("domain", "Domain"),
    Column("interface", "Interface"),
    Column("type", "Type"),
    Column("source", "Source"),
    Column("model", "Model"),
    Column("mac", "MAC"),
    Column("link", "Link"),
    Column("segment", "Segment"),
    Column("trunk", "Trunk", text.trunk),
    Column("port", "Port", shown=False),
    Column("reason", "Reason", shown=False),
    Column("state", "State", shown=False),
    Column("mode", "Mode", shown=False),
    Column("queues", "Queue pairs", right=True, shown=False),
    Column("alias", "Alias", shown=False),
)


def register(commands: Commands) -> None:
    listing = commands.add(
        "domain", "list", list_interfaces, "interfaces of domains, each with its port's state"
    )
    listing.add_argument("domain", nargs="*", help="name, id or UUID (default: all domains)")
    connect_option(listing)
    output.add_options(listing, sort=True)

    check = commands.add("domain", "check", check_domains, "what keeps a domain from switching")
    check.add_argument("domain", nargs="+", help="name, id or UUID")
    connect_option(check)
    check.add_argument("-q", "--quiet", action="store_true", help="only what is wrong")
    check.add_argument("-f", "--format", choices=("table", "json"), default="table")

    watch = commands.add(
        "domain", "watch", watch_domains, "a line for each change of interfaces and links"
    )
    watch.add_argument("domain", nargs="*", help="name, id or UUID (default: all domains)")
    connect_option(watch)
    watch.add_argument(
        "--interval", type=seconds(0.05, 3600, " from 0.05 to 3600"), default=1.0,
        metavar="SECONDS",
        help="how often uswitchd is asked; libvirt tells by itself (default: 1)",
    )  # fmt: skip
    watch.add_argument("--count", type=int, default=0, metavar="N", help="end after N lines")
    watch.add_argument("-f", "--format", choices=("table", "json"), default="table")


def connect_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect", metavar="URI",
        help="libvirt: qemu:///system, qemu:///session … (default: the one that virsh takes)",
    )  # fmt: skip
    parser.set_defaults(whose=whose_switch)


def whose_switch(args: argparse.Namespace) -> Whose | None:
    """The switch that belongs to the libvirt that is named; None: as for other commands.

    Guests of a session are their user's, who may not be allowed to use the host's
    switch, or may use it for other things.  Root's session has the host's.
    """
    from vif_uswitch.domain import uri

    driver, _, rest = uri.named(args.connect).partition("://")
    path = rest.partition("/")[2].partition("?")[0]
    if driver.partition("+")[0] != "qemu":
        return None
    if path == "session":
        return "user" if os.geteuid() != 0 else None
    return "system" if path == "system" else None


@contextmanager
def libvirt_at_hand() -> Iterator[None]:
    """Around the import of a module of ``vif_uswitch.domain``."""
    try:
        yield
    except ImportError as error:
        if error.name not in ("libvirt", "libvirtmod"):
            raise
        raise USwitchError(
            "uswitchctl domain", None, "needs libvirt's Python binding, which is not installed",
            "Install python3-libvirt, or with pip: vif-uswitch[libvirt].",
        ) from None  # fmt: skip


def list_interfaces(client: Client, args: argparse.Namespace) -> int:
    with libvirt_at_hand():
        from vif_uswitch.domain import look
        from vif_uswitch.domain.connect import connect
    with connect(args.connect, write=False) as hypervisor:
        rows = look.rows(hypervisor, client, args.domain)
    columns = COLUMNS
    if args.format == "table" and not args.column and any(row["reason"] for row in rows):
        columns = tuple(Column("reason", "Reason") if c.key == "reason" else c for c in COLUMNS)
    empty = "(no interfaces; see 'virsh list --all', or add one: uswitchctl domain attach)"
    print(output.render_list(rows, columns, args, empty))
    return 0


def check_domains(client: Client, args: argparse.Namespace) -> int:
    with libvirt_at_hand():
        from vif_uswitch.domain import look
        from vif_uswitch.domain.connect import connect
    rows: list[Json] = []
    with connect(args.connect, write=False) as hypervisor:
        for guest in look.guests(hypervisor, args.domain):
            for one in look.findings(guest, client):
                rows.append({
                    "domain": guest.name, "mac": one.about or None, "check": one.check,
                    "status": one.status.value, "text": one.text, "todo": one.todo or None,
                })  # fmt: skip
    failed = any(row["status"] == "FAIL" for row in rows)
    if args.quiet:
        rows = [row for row in rows if row["status"] in ("WARN", "FAIL")]
    if args.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        _print_findings(rows, len(args.domain) > 1)
    return 1 if failed else 0


def _print_findings(rows: list[Json], several: bool) -> None:
    """As ``uswitchctl doctor`` does: a line for each, a second one with what to do."""
    for row in rows:
        about = [row["domain"]] if several else []
        about += [row["mac"]] if row["mac"] else []
        head = plain(" ".join(about)) + ": " if about else ""
        print(f"{row['check']}  {row['status']}  {head}{plain(row['text'])}")
        if row["todo"] and row["status"] != "PASS":
            print(f"{INDENT}{plain(row['todo'])}")


def watch_domains(client: Client, args: argparse.Namespace) -> int:
    with libvirt_at_hand():
        from vif_uswitch.domain import watch
    watch.start_events()
    eyes = watch.Eyes(client, args.connect, args.domain)
    changes = watch.watch(eyes.look, eyes.alarm, args.interval)
    for change in itertools.islice(changes, args.count if args.count > 0 else None):
        now = time.time()
        if args.format == "json":
            row = {name: getattr(change, name) for name in type(change).__dataclass_fields__}
            print(json.dumps({"time": round(now, 3), **row}), flush=True)
        else:
            moment = time.strftime("%H:%M:%S", time.localtime(now))
            print(f"{moment}  {_line(change)}", flush=True)
    return 0


def _line(change: Any) -> str:
    """One change as people read it."""
    if change.what == "back":
        return "both answer again"
    if change.what == "lost":
        return plain(change.after)
    who = f"{plain(change.domain)}  {plain(change.mac)}  "
    if change.what in ("appeared", "gone"):
        said = f"{change.what}: {plain(change.after or change.before)}"
    else:
        said = f"{change.what}: {plain(change.before)} -> {plain(change.after)}"
    return who + said + (f" ({plain(change.reason)})" if change.reason else "")
