# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl doctor``: its options, its lines, its exit status.

A line for each check, and where it is not PASS a second one that says what to
do.  WARN and SKIP never change the exit status; one FAIL makes it 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from vif_uswitch.client import Client
from vif_uswitch.cmd import text
from vif_uswitch.cmd.doctor import (
    adapters,
    kvm,
    memory,
    network,
    openstack,
    processes,
    sockets,
    versions,
)
from vif_uswitch.cmd.doctor.host import Host
from vif_uswitch.cmd.doctor.model import Check, Result, Scene, Status, choose, run_all
from vif_uswitch.cmd.doctor.switch import Switch
from vif_uswitch.cmd.output import plain
from vif_uswitch.cmd.parsing import Commands

# In the order in which an operator would look: does it run, can guests use it, is it connected.
CHECKS: tuple[Check, ...] = (
    *sockets.CHECKS, *memory.CHECKS, *kvm.CHECKS, *openstack.CHECKS, *network.CHECKS,
    *adapters.CHECKS, *processes.CHECKS, *versions.CHECKS,
)  # fmt: skip
INDENT = " " * 16
QUIET = (Status.WARN, Status.FAIL)


def register(commands: Commands) -> None:
    parser = commands.add("", "doctor", doctor, "what keeps this host from switching")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    parser.add_argument(
        "--only", metavar="ID,...",
        help="these checks only, for example MEM-01,KVM-01, or a family: SOCK",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="only what is wrong")
    parser.add_argument("--list", action="store_true", help="name the checks, run none")


def doctor(client: Client, args: argparse.Namespace) -> int:
    chosen = choose(CHECKS, args.only)
    if args.list:
        _print_names(chosen, args.format)
        return 0
    scene = Scene(Host(), Switch(client))
    return report(chosen, scene, args, sys.stderr if sys.stderr.isatty() else None)


def report(
    checks: Sequence[Check], scene: Scene, args: argparse.Namespace, progress: TextIO | None
) -> int:
    """Runs the checks and prints what they found; the exit status."""
    results = run_all(checks, scene, progress)
    if args.format == "json":
        found = _wanted(results, args.quiet, lambda _: None)
        print(json.dumps([_as_json(result) for result in found[0]], indent=2))
    else:
        found = _wanted(results, args.quiet, _print)
        if not args.quiet:
            print(_summary(found[1]))
    return 1 if Status.FAIL in found[1] else 0


def _wanted(
    results: Iterable[Result], quiet: bool, each: Callable[[Result], None]
) -> tuple[list[Result], list[Status]]:
    """The results to be shown, each handed on as it comes; and the statuses of all."""
    shown, statuses = [], []
    for result in results:
        statuses.append(result.finding.status)
        if not quiet or result.finding.status in QUIET:
            shown.append(result)
            each(result)
    return shown, statuses


def _print(result: Result) -> None:
    finding = result.finding
    print(f"{result.check.ident:<10}{finding.status.value:<6}{plain(finding.text)}")
    if finding.todo:
        print(f"{INDENT}{plain(finding.todo)}", flush=True)


def _as_json(result: Result) -> dict[str, str]:
    return {
        "id": result.check.ident,
        "title": result.check.title,
        "status": result.finding.status.value,
        "text": result.finding.text,
        "todo": result.finding.todo,
    }


def _summary(statuses: Sequence[Status]) -> str:
    count = {status: statuses.count(status) for status in Status}
    return (f"{count[Status.PASS]} passed, {text.some(count[Status.WARN], 'warning')},"
            f" {count[Status.FAIL]} failed, {count[Status.SKIP]} skipped")


def _print_names(checks: Sequence[Check], form: str) -> None:
    if form == "json":
        print(json.dumps([{"id": one.ident, "title": one.title} for one in checks], indent=2))
    else:
        for one in checks:
            print(f"{one.ident:<10}{one.title}")
