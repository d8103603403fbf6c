# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain attach``, ``detach``, ``convert``: interfaces of libvirt's guests.

What they do is in ``vif_uswitch.domain``; here are their options and words.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.cmd import port_options
from vif_uswitch.cmd.domain import connect_option, libvirt_at_hand
from vif_uswitch.cmd.output import plain
from vif_uswitch.cmd.parsing import Commands
from vif_uswitch.cmd.port import WAITING, wait_for_link, wait_options
from vif_uswitch.exceptions import InvalidInput

Json = dict[str, Any]
CANCELLED = 1


def register(commands: Commands) -> None:
    add = commands.add("domain", "attach", attach, "give a domain an interface and its port")
    add.add_argument("domain", help="name, id or UUID")
    connect_option(add)
    _which_options(add)
    add.add_argument("--mac", metavar="MAC", help="its address (default: a new one)")
    _port_options(add)
    add.add_argument("--queues", type=int, metavar="N", help="queue pairs, 1 to 8 (default: 1)")
    wait_options(add)
    port_options.result_format(add)

    remove = commands.add("domain", "detach", detach, "take an interface and its port away")
    remove.add_argument("domain", help="name, id or UUID")
    remove.add_argument(
        "interface", help="its MAC address, device, alias, socket or port; see 'domain list'"
    )
    connect_option(remove)
    _which_options(remove)
    remove.add_argument(
        "--wait-timeout", type=WAITING, default=20.0, metavar="SECONDS",
        help="how long a running guest may take to let go of it (default: 20)",
    )  # fmt: skip
    port_options.result_format(remove)

    change = commands.add(
        "domain", "convert", convert,
        "move interfaces from a bridge or network of libvirt's to the switch",
    )  # fmt: skip
    change.add_argument("domain", help="name, id or UUID")
    change.add_argument(
        "interface", nargs="*", help="which (default: all on a bridge or network); see 'attach'"
    )
    connect_option(change)
    _port_options(change)
    change.add_argument("--to-virtio", action="store_true", help="whatever model it has now")
    change.add_argument(
        "--drop", action="store_true", help="give up what a vhost-user interface cannot have"
    )
    change.add_argument("--yes", action="store_true", help="do not ask")
    change.add_argument("--dry-run", action="store_true", help="print the diff, change nothing")
    port_options.result_format(change)


def _which_options(parser: argparse.ArgumentParser) -> None:
    """Without either: the running guest if it runs, and the configuration if it has one."""
    parser.add_argument("--live", action="store_true", help="the running guest only")
    parser.add_argument(
        "--config", action="store_true",
        help="the configuration only, for the next start; with --live both (default: all there is)",
    )  # fmt: skip


def _port_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode", choices=("server", "client"), default="server",
        help="server: QEMU listens and uswitchd connects (default); client: QEMU connects",
    )  # fmt: skip
    port_options.network_options(parser)
    port_options.limit_options(parser)
    port_options.create_segment_option(parser)


def _say(line: str) -> None:
    print(f"note: {plain(line)}", file=sys.stderr)


def attach(client: Client, args: argparse.Namespace) -> int:
    with libvirt_at_hand():
        from vif_uswitch.domain import attach as room
        from vif_uswitch.domain.affect import Affect, words
        from vif_uswitch.domain.connect import connect
        from vif_uswitch.domain.look import host_settings
    changes = port_options.network_changes(args)
    queues = changes.pop("queues", None)
    wish = room.Wish(changes, args.mac, args.mode, queues, live=args.live, config=args.config,
                     create_segments=args.create_segment)  # fmt: skip
    with connect(args.connect, write=True) as hypervisor:
        guest = hypervisor.guest(args.domain)
        made = room.attach(guest, client, wish, host_settings(client), hypervisor.short_uri, _say)
    port = client.port_show(made.port["name"])["port"]
    if args.wait and made.affect & Affect.LIVE:
        port = wait_for_link(client, port, args.wait_timeout, "Look into the guest")
    for note in made.notes:
        _say(note)
    if args.format == "json":
        done = {"domain": guest.name, "mac": made.interface.mac, "affects": words(made.affect),
                "notes": list(made.notes), "port": port}  # fmt: skip
        print(json.dumps(done, indent=2))
    else:
        print(f"interface {made.interface.mac} attached to {plain(guest.name)}"
              f" ({words(made.affect)}): port {port['name']}, link {port['link']}")  # fmt: skip
    return 0


def detach(client: Client, args: argparse.Namespace) -> int:
    with libvirt_at_hand():
        from vif_uswitch.domain import detach as room
        from vif_uswitch.domain.affect import words
        from vif_uswitch.domain.connect import connect
    with connect(args.connect, write=True) as hypervisor:
        guest = hypervisor.guest(args.domain)
        made, port = room.detach(guest, client, args.interface, live=args.live, config=args.config,
                                 wait_s=args.wait_timeout, say=_say)  # fmt: skip
    if args.format == "json":
        print(json.dumps({"domain": guest.name, "mac": made.interface.mac,
                          "affects": words(made.affect), "port_deleted": port}, indent=2))
        return 0
    end = f"port {plain(port)} deleted" if port else (
        "there was no port to delete" if made.last else "its port stays, for it is still"
        " in the other description of the domain")  # fmt: skip
    done = f"detached from {plain(guest.name)} ({words(made.affect)})" if made.affect else (
        f"was gone from {plain(guest.name)} already")  # fmt: skip
    print(f"interface {made.interface.mac} {done}; {end}")
    return 0


def convert(client: Client, args: argparse.Namespace) -> int:
    with libvirt_at_hand():
        from vif_uswitch.domain import convert as room
        from vif_uswitch.domain.connect import connect
        from vif_uswitch.domain.look import host_settings
    wish = room.Wish(args.interface, port_options.network_changes(args), args.mode,
                     args.to_virtio, args.drop)  # fmt: skip
    with connect(args.connect, write=True) as hypervisor:
        guest = hypervisor.guest(args.domain)
        made = room.prepare(guest, client, wish, host_settings(client), hypervisor.short_uri)
        diff = made.diff()
        if args.format != "json":
            for line in diff.splitlines():
                print(plain(line) if line else "")
            for note in made.notes:
                _say(note)
        done = not args.dry_run and _agreed(args)
        if done:
            room.carry_out(guest, client, made, create_segments=args.create_segment, say=_say)
    if args.format == "json":
        print(json.dumps({"domain": guest.name, "diff": diff, "notes": list(made.notes),
                          "ports": list(made.ports), "done": done}, indent=2))  # fmt: skip
    elif done:
        print(f"{plain(guest.name)} converted: ports "
              + ", ".join(port["name"] for port in made.ports))  # fmt: skip
    else:
        print("nothing was changed")
    return 0 if done or args.dry_run else CANCELLED


def _agreed(args: argparse.Namespace) -> bool:
    if args.yes:
        return True
    if args.format == "json" or not sys.stdin.isatty():
        raise InvalidInput("--yes", None, "is missing, and there is nobody to ask",
                           "Look with --dry-run, then add --yes.")  # fmt: skip
    sys.stdout.flush()
    try:
        return input("Change the configuration so? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
