# SPDX-License-Identifier: Apache-2.0
"""The checks of "make lint" and "make test".

Run by the Makefile with the virtual environment's Python, from the top of the
checkout.  A failed check does not stop the next one: one run shows everything
that is wrong.  Each check's output is kept in a log; pytest comes last and
writes to the terminal, so that its summary is the last line of the run.

"make test" has two lanes of checks that only want processor time (aside.py).
They begin at once and run beside the functional tests and OpenStack's, which
wait more than they compute.  The C tests, compiled in a lane meanwhile, and
the Python unit tests come after them.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace

from tools import stage
from tools.aside import Check, Lane

BIN = pathlib.Path(sys.executable).parent
PROCESSORS = os.cpu_count() or 1
JOBS = f"-j{PROCESSORS}"
# What is in a lane, in its order: first what others wait for.  In one what uses the product's
# objects, in the other what uses the fuzz targets'.  Each has its share of the processors.
LANES = (
    ("openstack-venv", "c-build", "c-lint", "prove"),
    ("fuzz-bugs", "fuzz"),
)
LANE_JOBS = f"-j{max(1, PROCESSORS // len(LANES))}"
# Half of the C tests' time is waiting as well; under TSan their threads spin for each other.
TEST_JOBS = f"-j{PROCESSORS * 2}"
# Modules with guests, and the others beside them: tests/functional/groups.py.
TWO_AT_A_TIME = ("-n", "2", "--dist", "loadfile")
PARALLEL = ("tests/unit", "tests/property")
QUICK = ("-m", "not spare")


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(BIN / name), *arguments)


def checks() -> list[Check]:
    python_trees = [tree for tree in ("vif_uswitch", "testbed", "tests", "tools")
                    if pathlib.Path(tree).is_dir()]
    docs = ("-q", "-W", "--keep-going", "-b", "html")
    return [
        Check("lint", "ruff", "ruff: Python style and likely mistakes", tool("ruff", "check", ".")),
        Check("lint", "mypy", "mypy --strict: types", tool("mypy", *python_trees)),
        Check("lint", "reno", "reno: release notes are well formed", tool("reno", "lint")),
        Check("lint", "shell", "bash -n, shellcheck and bashate: scripts, devstack",
              (sys.executable, "-m", "tools.lint_shell")),
        Check("lint", "c-lint", "cppcheck and clang-tidy: dataplane",
              ("make", "-C", "dataplane", JOBS, "lint")),
        Check("docs", "docs", "Sphinx: pages for operators, warnings are errors",
              tool("sphinx-build", *docs, "doc/source", "doc/build/html")),
        Check("c", "c-build", "C unit tests, compiled: as shipped, for ASan and UBSan, for TSan",
              ("make", "-C", "dataplane", JOBS, "check-build")),
        Check("c", "c-check", "C unit tests as shipped, with the real system call filter",
              ("make", "-C", "dataplane", TEST_JOBS, "check")),
        Check("c", "c-asan", "C unit tests under ASan and UBSan",
              ("make", "-C", "dataplane", TEST_JOBS, "check-asan")),
        Check("c", "c-tsan", "C thread tests under TSan",
              ("make", "-C", "dataplane", JOBS, "check-tsan")),
        Check("fuzz", "fuzz-bugs", "fuzz targets find seeded bugs",
              (sys.executable, "-m", "tools.fuzz_bugs", JOBS)),
        Check("fuzz", "fuzz", "fuzz targets under ASan and UBSan, a minute each",
              ("make", "-C", "dataplane", JOBS, "fuzz")),
        Check("prove", "prove", "bounded proofs, and seeded bugs that they refute",
              (sys.executable, "-m", "tools.prove", JOBS)),
        Check("openstack", "openstack-venv", "OpenStack's newest release for tests",
              ("make", "openstack")),
    ]


def in_lane(check: Check) -> Check:
    """The same with the jobs that a lane may have."""
    return replace(check, command=tuple(LANE_JOBS if word == JOBS else word
                                        for word in check.command))


def run_checks(chosen: Iterable[Check], logs: pathlib.Path) -> list[str]:
    """One after the other; names of those that failed."""
    return [check.name for check in chosen
            if stage.run(check.title, logs / f"{check.name}.log", check.command) != 0]


def run_pytest(title: str, arguments: list[str]) -> list[str]:
    """The title if a test failed."""
    print(f"== pytest: {title}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
    return [title] if subprocess.run(command, check=False).returncode else []


def run_openstack() -> list[str]:
    """The tests in OpenStack's environment; make knows where it is."""
    title = "real Nova, Neutron, os-vif and libvirtd"
    print(f"== pytest: {title}", flush=True)
    done = subprocess.run(["make", "-s", "check-openstack", "PYTEST=-q -m 'not spare'"],
                          check=False, env=stage.environment())
    return [title] if done.returncode else []


class Run:
    """One "make test": what is chosen, in two lanes and in the foreground."""

    def __init__(self, chosen: Iterable[Check], logs: pathlib.Path) -> None:
        self._foreground = {check.name: check for check in chosen}
        self._logs = logs
        self._failed: list[str] = []
        self._lanes: list[Lane] = []

    def all(self) -> list[str]:
        """Names of what failed."""
        try:
            self._begin_lanes()
            self._take([name for name, check in self._foreground.items() if check.group != "c"])
            self._failed += run_pytest("functional tests",
                                       [*TWO_AT_A_TIME, *QUICK, "tests/functional"])
            if self._wait("openstack-venv"):
                self._failed += run_openstack()
            self._wait("c-build")
            self._take(list(self._foreground))
            for name in [name for lane in self._lanes for name in lane.names]:
                self._wait(name)
            if self._failed:
                print(f"== FAILED so far: {', '.join(self._failed)} (logs in {self._logs})",
                      flush=True)
            self._failed += run_pytest("Python unit tests, layering, properties",
                                       ["-n", str(PROCESSORS), *QUICK, *PARALLEL])
        finally:
            for lane in self._lanes:
                lane.cancel()
        return self._failed

    def _begin_lanes(self) -> None:
        for names in LANES:
            checks = [in_lane(self._foreground.pop(name)) for name in names
                      if name in self._foreground]
            for check in checks:
                print(f"== {check.title}: beside the tests", flush=True)
            self._lanes.append(Lane(checks, self._logs))

    def _take(self, names: list[str]) -> None:
        self._failed += run_checks([self._foreground.pop(name) for name in names], self._logs)

    def _wait(self, name: str) -> bool:
        """Whether there is such a check in a lane and it passed."""
        for lane in self._lanes:
            if name in lane:
                passed = lane.wait(name) == 0
                self._failed += [] if passed else [name]
                return passed
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description="run groups of checks")
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--pytest", action="store_true", help="and the Python tests, last")
    parser.add_argument("groups", nargs="+",
                        choices=["lint", "docs", "c", "fuzz", "prove", "openstack"])
    arguments = parser.parse_args()
    chosen = [check for check in checks() if check.group in arguments.groups]
    if arguments.pytest:
        failed = Run(chosen, arguments.logs).all()
    else:
        failed = run_checks(chosen, arguments.logs)
    if failed:
        print(f"== FAILED: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
