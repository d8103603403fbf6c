# SPDX-License-Identifier: Apache-2.0
"""``make prove``: run the bounded proofs of tests/proofs, and see each seeded bug refuted.

A proof is a file ``tests/proofs/prove_*.c`` whose head says what is proven, and holds the line
``CBMC: options`` (``DEEP: options`` for ``--deep``, which takes longer) and seeded bugs
(``tools/seeded.py``).  It holds if CBMC verifies every property of it; a bug is refuted if CBMC
fails a property whose text holds what the bug announces.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError
from tools import cbmc, seeded

PROOFS = seeded.TOP / "tests" / "proofs"
# Never more than fits beside another build; a single run stays below 2 GiB.
JOBS = min(os.cpu_count() or 1, 4)
LIMIT_S = 600
# CBMC's exit status; anything else is trouble.
PROVEN, REFUTED, NO_VERDICT = 0, 10, -1

_OPTIONS = re.compile(r"^ \* (CBMC|DEEP): (.*)$", re.MULTILINE)
_VERDICT = re.compile(r"^\*\* (\d+) of (\d+) failed", re.MULTILINE)
_FAILED = re.compile(r"^\[\S+\] line \d+ (.*): FAILURE$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Job:
    """One run of CBMC: a proof, with a bug or without."""

    proof: Path
    options: tuple[str, ...]
    bug: seeded.Bug | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; ``why`` is empty if it is as it must be."""

    job: Job
    why: str
    properties: int
    seconds: float


def jobs(names: list[str], deep: bool) -> list[Job]:
    """The proofs first: they take longest."""
    proofs = [path for path in sorted(PROOFS.glob("prove_*.c"))
              if not names or any(name in path.stem for name in names)]
    plain, bugged = [], []
    for proof in proofs:
        said = dict(_OPTIONS.findall(proof.read_text(encoding="utf-8")))
        if "CBMC" not in said:
            raise seeded.Unplantable(f"{proof}: no line CBMC: in its head")
        normal = tuple(said["CBMC"].split())
        deeper = tuple(said["DEEP"].split()) if deep and "DEEP" in said else normal
        plain.append(Job(proof, deeper))
        bugs = seeded.fitting_bugs_of(proof)
        if not bugs:
            raise seeded.Unplantable(f"{proof}: without a seeded bug nobody knows what it proves")
        bugged += [Job(proof, normal, bug) for bug in bugs]
    return plain + bugged


def run(checker: list[str], job: Job) -> Result:
    """One verdict.

    A bug's run ends at the first property that fails, and which one that is, is the solver's
    choice: where it names another than the bug announces, all of them are asked for.
    """
    with tempfile.TemporaryDirectory(prefix="uswitch-proof-") as scratch:
        sources = seeded.DATAPLANE
        if job.bug:
            sources = seeded.plant(job.bug, Path(scratch) / "dataplane")
        started = time.monotonic()
        status, output = _check(checker, job, sources, first_only=bool(job.bug))
        if job.bug and status == REFUTED and not _refuted_as_announced(job.bug, output):
            status, output = _check(checker, job, sources, first_only=False)
        seconds = time.monotonic() - started
    if status == NO_VERDICT:
        return Result(job, f"no verdict after {LIMIT_S} s", 0, seconds)
    return _judge(job, output, status, seconds)


def _check(checker: list[str], job: Job, sources: Path, *, first_only: bool) -> tuple[int, str]:
    """CBMC's status (or NO_VERDICT) and what it printed."""
    line = [
        *checker, *(["--stop-on-fail"] if first_only else []),
        "--drop-unused-functions", "--slice-formula", "--bounds-check", "--pointer-check",
        *job.options,
        "-I", str(PROOFS / "stubs"), "-I", str(PROOFS), "-I", str(sources),
        "-D_GNU_SOURCE", str(job.proof),
    ]
    try:
        ran = subprocess.run(line, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return NO_VERDICT, ""
    return ran.returncode, ran.stdout + ran.stderr


def _judge(job: Job, output: str, status: int, seconds: float) -> Result:
    """Whether the proof held, or the bug was refuted, as it must be."""
    verdict = _VERDICT.search(output)
    properties = int(verdict.group(2)) if verdict else 0
    failed = _failed(output)
    if job.bug is None:
        if status == PROVEN and properties and "no body for" not in output:
            return Result(job, "", properties, seconds)
        return Result(job, "; ".join(failed[:4]) or _tail(output), properties, seconds)
    if status == REFUTED and _refuted_as_announced(job.bug, output):
        return Result(job, "", properties, seconds)
    if status == REFUTED:
        return Result(job, f"refuted, but by: {'; '.join(failed[:4])}", properties, seconds)
    return Result(job, "NOT refuted" if status == PROVEN else _tail(output), properties, seconds)


def _refuted_as_announced(bug: seeded.Bug, output: str) -> bool:
    return any(bug.is_named_in(text) for text in _failed(output))


def _failed(output: str) -> list[str]:
    """The texts of the properties that failed: a list of all of them, or a trace to the first."""
    trace = output.partition("Violated property:")[2]
    return _FAILED.findall(output) + re.findall(r"^  (\S.*)$", trace, re.MULTILINE)


def _tail(output: str) -> str:
    return " | ".join(output.strip().splitlines()[-3:])


def report(results: list[Result]) -> bool:
    """Print the table; whether all is as it must be."""
    print(f"{'proof':<22} {'properties':>10} {'seconds':>8}  seeded bugs refuted")
    for result in results:
        if result.job.bug:
            continue
        mine = [r for r in results if r.job.bug and r.job.proof == result.job.proof]
        refuted = [r.job.bug.name for r in mine if r.job.bug and not r.why]
        print(f"{result.job.proof.stem[6:]:<22} {result.properties:>10} {result.seconds:>8.1f}  "
              f"{len(refuted)} of {len(mine)}: {', '.join(refuted)}")
    wrong = [result for result in results if result.why]
    for result in wrong:
        what = f"bug {result.job.bug.name}" if result.job.bug else "the proof"
        print(f"FAILED {result.job.proof.name}, {what}: {result.why}")
    return not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only proofs whose name holds one of these")
    parser.add_argument("--deep", action="store_true", help="larger bounds where a proof has them")
    parser.add_argument("-j", "--jobs", type=int, default=JOBS, help="runs at a time")
    arguments = parser.parse_args()
    try:
        checker = cbmc.command()
        work = jobs(arguments.names, arguments.deep)
        if not work:
            print("no proof of that name")
            return 1
        with ThreadPoolExecutor(arguments.jobs) as pool:
            results = list(pool.map(lambda job: run(checker, job), work))
    except (TestbedError, seeded.Unplantable) as error:
        print(f"prove: {error}")
        return 1
    return 0 if report(results) else 1


if __name__ == "__main__":
    sys.exit(main())
