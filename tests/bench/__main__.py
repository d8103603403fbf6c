# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench``: see --help.  It installs nothing and asserts nothing."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from testbed import TestbedError
from testbed.testpmd import PROGRAM

from . import load, machine, ovs, quiet, report, rounds
from .cases import CASES, Case
from .contenders import CONTENDERS, Uswitch
from .figures import BY_NAME, EXPERIMENTS

OUTPUT = Path(__file__).resolve().parents[2] / "build/bench"


def arguments() -> argparse.Namespace:
    """Of the command line."""
    defaults = [case.name for case in CASES.values() if case.default]
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Forwarding between two guest-like ports: this switch beside a reference.")
    parser.add_argument("--case", action="append", choices=CASES, metavar="NAME",
                        help=f"one of: {', '.join(CASES)}; may be repeated "
                             f"(default: {' and '.join(defaults)})")
    parser.add_argument("--all", action="store_true", help="every case")
    parser.add_argument("--figure", action="append", choices=EXPERIMENTS, metavar="NAME",
                        help=f"besides rates, one of: {', '.join(EXPERIMENTS)}; may be repeated "
                             "(default: all, or none where --case is given)")
    parser.add_argument("--rates-only", action="store_true", help="no figures besides rates")
    parser.add_argument("--switch", action="append", choices=CONTENDERS, metavar="NAME",
                        help=f"one of: {', '.join(CONTENDERS)}; may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--seconds", type=float, default=0.7, help="a window (default: 0.7)")
    parser.add_argument("--cpus", help="of switch and generator, for example 2,3")
    parser.add_argument("--priority", action="store_true",
                        help="root: ahead of everything else on this machine")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    parser.add_argument("--output", type=Path, default=OUTPUT,
                        help="directory for bench.csv, .json and .png (default: build/bench)")
    args = parser.parse_args()
    if args.figure is None:
        usual = [name for name in EXPERIMENTS if not name.startswith(BY_NAME)]
        args.figure = [] if args.case or args.rates_only else usual
    elif args.case is None and not args.all:
        args.case = []
    args.case = list(CASES) if args.all else defaults if args.case is None else args.case
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("at least one round and a positive number of seconds")
    return args


def plan(args: argparse.Namespace) -> rounds.Plan:
    """Or a reason why it cannot be done here."""
    if not shutil.which(PROGRAM):
        raise TestbedError(f"{PROGRAM} is missing; it is in Debian's packages dpdk-dev, "
                           "librte-net-vhost23 and librte-net-virtio23 ('make setup-bench' "
                           "installs them)")
    cpus = quiet.two_cpus()
    if args.cpus:
        try:
            cpus = [int(word) for word in args.cpus.split(",")]
        except ValueError:
            raise TestbedError(f"--cpus {args.cpus}: two numbers with a comma, please") from None
    if len(cpus) != 2 or not set(cpus) <= os.sched_getaffinity(0):
        raise TestbedError(f"switch and generator need a CPU each; usable are "
                           f"{sorted(os.sched_getaffinity(0))}")
    if args.priority and os.geteuid() != 0:
        raise TestbedError("--priority needs root")
    return rounds.Plan(rounds=args.rounds, seconds=args.seconds, cpus=(cpus[0], cpus[1]),
                       priority=args.priority)


def bench(args: argparse.Namespace) -> None:
    """All of it."""
    chosen = plan(args)
    before = machine.load()
    cases: list[Case] = [CASES[name] for name in dict.fromkeys(args.case)]
    kinds = [CONTENDERS[name] for name in args.switch or CONTENDERS]

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    reason = ovs.missing()
    if reason and ovs.OvsDpdk in kinds:
        if args.switch:
            raise TestbedError(reason)
        say(f"left out: {reason}")
        kinds.remove(ovs.OvsDpdk)
    for kind in kinds:
        say(f"{kind.name}: {kind.about}")
    args.output.mkdir(parents=True, exist_ok=True)
    load.build(args.output)
    load.Guests.program = args.output / "guests"
    samples = rounds.run(cases, kinds, chosen, say)
    names = [name for name in args.figure
             if not any(name.endswith(f"-{other}") for other in set(CONTENDERS) -
                        {kind.name for kind in kinds})]
    measured = rounds.figures(names, chosen, args.output, say)
    peers = tuple(kind.name for kind in kinds if kind.name != Uswitch.name)
    result = report.Result(machine.describe(before), chosen, samples, Uswitch.name, peers,
                           measured)
    report.write_csv(result, args.output / "bench.csv")
    (args.output / "bench.json").write_text(report.as_json(result) + "\n")
    picture = report.write_picture(result, args.output / "bench.png")
    say(f"samples: {args.output / 'bench.csv'}, bench.json; {picture}\n")
    print(report.as_json(result) if args.format == "json" else report.table(result))


def main() -> int:
    """Exit status 1 for what stopped it, in one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as after ^C
    try:
        bench(arguments())
    except TestbedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
