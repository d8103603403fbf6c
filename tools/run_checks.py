# SPDX-License-Identifier: Apache-2.0
"""The checks of "make lint" and "make test", one after the other.

Run by the Makefile with the virtual environment's Python, from the top of the
checkout.  A failed check does not stop the next one: one run shows everything
that is wrong.  Each check's output is kept in a log; pytest comes last and
writes to the terminal, so that its summary is the last line of the run.

The functional tests wait more than they compute, and need the processors at
once when they need them.  So the fuzz targets run beside them on time that
nobody else wants.  OpenStack, which is fetched and unpacked for minutes, is
installed likewise beside what comes first.  Everything else has the machine
for itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import threading
from dataclasses import dataclass

from tools import stage

BIN = pathlib.Path(sys.executable).parent
JOBS = f"-j{os.cpu_count() or 1}"
IDLE = ("chrt", "--idle", "0")
PARALLEL = ("tests/unit", "tests/property")
QUICK = ("-m", "not spare")
FUZZ = "fuzz"
OPENSTACK = "openstack-venv"


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
        Check("lint", "shell", "bash -n, shellcheck and bashate: scripts, devstack",
              (sys.executable, "-m", "tools.lint_shell")),
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
        Check("fuzz", "fuzz-bugs", "fuzz targets find seeded bugs",
              (sys.executable, "-m", "tools.fuzz_bugs")),
        Check("fuzz", FUZZ, "fuzz targets under ASan and UBSan, a minute each",
              ("make", "-C", "dataplane", JOBS, "fuzz")),
        Check("prove", "prove", "bounded proofs, and seeded bugs that they refute",
              (sys.executable, "-m", "tools.prove")),
        Check("openstack", OPENSTACK, "OpenStack's newest release for tests",
              ("make", "openstack")),
    ]


class Aside:
    """A check that runs beside others, one job at a time, on processor time that is left over."""

    def __init__(self, check: Check, logs: pathlib.Path, beside: str) -> None:
        self.check = check
        self._log = logs / f"{check.name}.log"
        self._status, self._seconds = 1, 0.0
        self._thread = threading.Thread(target=self._run)
        print(f"== {check.title}: beside {beside}", flush=True)
        self._thread.start()

    def wait(self) -> int:
        """Its exit status."""
        self._thread.join()
        return stage.report(f"== {self.check.title}: ", self._log, self._status, self._seconds)

    def _run(self) -> None:
        command = (*IDLE, *(word for word in self.check.command if word != JOBS))
        self._status, self._seconds = stage.execute(self._log, command)


def run_pytest(title: str, arguments: list[str]) -> int:
    print(f"== pytest: {title}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
    return subprocess.run(command, check=False).returncode


def run_openstack(installation: Aside) -> int:
    """The tests in the environment that has been installed meanwhile; make knows where it is."""
    if installation.wait():
        return 1
    print("== pytest: real Nova, Neutron, os-vif and libvirtd", flush=True)
    return subprocess.run(["make", "-s", "check-openstack", "PYTEST=-q -m 'not spare'"],
                          check=False, env=stage.environment()).returncode


def run_all_pytest(fuzz: Aside | None, installation: Aside | None) -> list[str]:
    """Names of what failed."""
    failed = []
    if run_pytest("functional tests", [*QUICK, "tests/functional"]):
        failed.append("functional tests")
    if fuzz is not None and fuzz.wait():
        failed.append(fuzz.check.name)
    if installation is not None and run_openstack(installation):
        failed.append("openstack tests")
    if run_pytest("Python unit tests, layering, properties",
                  ["-n", str(os.cpu_count() or 1), *QUICK, *PARALLEL]):
        failed.append("unit tests")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="run groups of checks")
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--pytest", action="store_true", help="and the Python tests, last")
    parser.add_argument("groups", nargs="+",
                        choices=["lint", "docs", "c", "fuzz", "prove", "openstack"])
    arguments = parser.parse_args()
    chosen = {check.name: check for check in checks() if check.group in arguments.groups}
    fuzz = chosen.pop(FUZZ) if arguments.pytest and FUZZ in chosen else None
    openstack = chosen.pop(OPENSTACK, None) if arguments.pytest else None
    installation = Aside(openstack, arguments.logs, "the checks") if openstack else None
    failed = [check.name for check in chosen.values()
              if stage.run(check.title, arguments.logs / f"{check.name}.log", check.command) != 0]
    if failed and arguments.pytest:
        print(f"== FAILED so far: {', '.join(failed)} (logs in {arguments.logs})", flush=True)
    if arguments.pytest:
        beside = Aside(fuzz, arguments.logs, "the functional tests") if fuzz else None
        failed += run_all_pytest(beside, installation)
    if failed:
        print(f"== FAILED: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
