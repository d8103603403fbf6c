# SPDX-License-Identifier: Apache-2.0
"""The checks of "make lint" and "make test", one after the other.

Run by the Makefile with the virtual environment's Python, from the top of the
checkout.  A failed check does not stop the next one: one run shows everything
that is wrong.  Each check's output is kept in a log; pytest comes last and
writes to the terminal, so that its summary is the last line of the run.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

from tools import stage

BIN = pathlib.Path(sys.executable).parent
JOBS = f"-j{os.cpu_count() or 1}"


@dataclass(frozen=True, slots=True)
class Check:
    group: str
    name: str
    title: str
    command: tuple[str, ...]


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
        Check("lint", "c-lint", "cppcheck and clang-tidy: dataplane",
              ("make", "-C", "dataplane", JOBS, "lint")),
        Check("docs", "docs", "Sphinx: pages for operators, warnings are errors",
              tool("sphinx-build", *docs, "doc/source", "doc/build/html")),
        Check("c", "c-check", "C unit tests as shipped, with the real system call filter",
              ("make", "-C", "dataplane", JOBS, "check")),
        Check("c", "c-asan", "C unit tests under ASan and UBSan",
              ("make", "-C", "dataplane", JOBS, "check-asan")),
        Check("c", "c-tsan", "C thread tests under TSan",
              ("make", "-C", "dataplane", JOBS, "check-tsan")),
        Check("fuzz", "fuzz", "fuzz targets under ASan and UBSan, a minute each",
              ("make", "-C", "dataplane", JOBS, "fuzz")),
        Check("fuzz", "fuzz-bugs", "fuzz targets find seeded bugs",
              (sys.executable, "-m", "tools.fuzz_bugs")),
        Check("prove", "prove", "bounded proofs, and seeded bugs that they refute",
              (sys.executable, "-m", "tools.prove")),
    ]


def run_pytest(arguments: list[str]) -> int:
    print("== pytest: Python unit tests, layering, functional tests", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="run groups of checks")
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--pytest", action="store_true", help="and the Python tests, last")
    parser.add_argument("groups", nargs="+", choices=["lint", "docs", "c", "fuzz", "prove"])
    arguments, pytest_arguments = parser.parse_known_args()
    failed = [check.name for check in checks()
              if check.group in arguments.groups
              and stage.run(check.title, arguments.logs / f"{check.name}.log", check.command) != 0]
    if failed:
        print(f"== FAILED so far: {', '.join(failed)} (logs in {arguments.logs})", flush=True)
    status = run_pytest(pytest_arguments) if arguments.pytest else 0
    return status or (1 if failed else 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
