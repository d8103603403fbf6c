# SPDX-License-Identifier: Apache-2.0
"""A cloud with the switch under its guests, from nothing to nothing: "make e2e".

    python -m tests.e2e [--logs DIRECTORY] [--keep] [STAGE ...]

Stages run in their own order, and bring what they need.  The exit status is 1 if a check failed, 2
if the cloud did not come up.  Everything happens in a world of its own (``world.py``).
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from testbed import TestbedError
from testbed.cache import Cache
from tests.e2e import CloudError, image, kept, world
from tests.e2e.cloud import prepared
from tests.e2e.cloud.cloud import Cloud
from tests.e2e.cloud.settings import Place
from tests.e2e.plan import STAGES, chosen, go
from tests.e2e.report import Report
from tests.e2e.tenant import enter

CHECKOUT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description="A cloud on loopback.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--logs", type=Path, default=Path("build/log/e2e"))
    parser.add_argument("--keep", action="store_true", help="leave the cloud up until Ctrl-C")
    parser.add_argument("--virt-type", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def outside(options: argparse.Namespace) -> int:
    """What needs the network or the machine itself; then the world inside."""
    if problem := world.impossible():
        print(f"e2e: {problem}", file=sys.stderr)
        return 2
    logs: Path = options.logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    for old in (*logs.rglob("*.log"), *logs.glob("failed-*.json")):
        old.unlink()
    try:
        kind = image.prepare(Cache(), lambda text: print(text, flush=True))
    except TestbedError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 2
    words = ["--logs", str(logs), "--virt-type", kind, *options.stages]
    return world.enter([*words, "--keep"] if options.keep else words, logs / "door")


def inside(options: argparse.Namespace) -> int:
    """Build the cloud, run the stages, say how it went."""
    world.become_first()
    world.furnish()
    report = Report()
    try:
        place = Place(world.STATE, options.logs, CHECKOUT, prepared.restore(world.STATE))
        cloud = Cloud(place, report.say, options.virt_type)
        cloud.build()
        uploaded = image.upload(cloud.sdk, Cache(), report.say, options.virt_type)
        tenant = enter(cloud, report, uploaded)
    except (CloudError, TestbedError, OSError) as error:
        report.say(f"the cloud did not come up: {error}\nlogs: {options.logs}")
        return 2
    go(tenant, options.stages)
    print(report.table(), flush=True)
    report.write(options.logs / "report.json")
    print(f"logs and report.json: {options.logs}", flush=True)
    if options.keep:
        kept.stay(cloud, options.logs / "door")
    cloud.stop()
    return 1 if report.failed else 0


def main() -> int:
    """Outside at first, and then inside."""
    options = arguments()
    try:
        chosen(options.stages)
    except ValueError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 2
    if not world.inside():
        return outside(options)
    try:
        return inside(options)
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(main())
