# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets must find the bugs their heads list (``tools/seeded.py``).

Each bug is planted in a copy of the sources and of what was compiled from them, so that only what
the bug touches is compiled again; fuzzing starts from the committed corpus.  It counts as found
only if the target itself, a sanitizer or an untouchable page says what the bug announces.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import seeded

FUZZ = seeded.TOP / "tests" / "fuzz"
OBJECTS = seeded.DATAPLANE / "build" / "fuzz"
# Most take a few seconds of a processor; chance decides, and so does what else the machine does.
SECONDS = 360
JOBS = min(os.cpu_count() or 1, 4)


def check(target: str, bug: seeded.Bug) -> str:
    """Empty if the bug was found, else what happened."""
    with tempfile.TemporaryDirectory(prefix="uswitch-fuzz-") as scratch:
        top = Path(scratch)
        seeded.plant(bug, top / "dataplane")
        _copy_objects(top / "dataplane" / "build" / "fuzz")
        shutil.copytree(FUZZ, top / "tests" / "fuzz")
        (top / "tests" / "dataplane").mkdir()
        ran = subprocess.run(
            ["make", "-C", str(top / "dataplane"), "fuzz", f"T={target}",
             f"FUZZ_SECONDS={SECONDS}"],
            capture_output=True, text=True, check=False,
        )
        log = top / "dataplane" / "build" / "fuzz" / f"{target}.log"
        if not log.is_file():
            return "does not build: " + "".join(ran.stderr.splitlines(keepends=True)[-5:])
        text = log.read_text(encoding="utf-8", errors="replace")
    if ran.returncode == 0:
        return f"not found in {SECONDS} s"
    return "" if bug.is_named_in(text) else f"failed, but did not say {bug.says!r}"


def _copy_objects(target: Path) -> None:
    """Objects and what they depend on, their times kept; no target, no corpus of an earlier run."""
    shutil.copytree(OBJECTS, target, ignore=lambda directory, names: [
        name for name in names
        if not (Path(directory, name).is_dir() or name.endswith((".o", ".d")))
        or name in ("found", "failed", "merged")])


def report(job: tuple[str, seeded.Bug]) -> bool:
    target, bug = job
    started = time.monotonic()
    why = check(target, bug)
    seconds = time.monotonic() - started
    print(f"{target}: {bug.name}: {why or 'found'} ({seconds:.0f} s with the build)", flush=True)
    return not why


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only targets whose name holds one of these")
    parser.add_argument("-j", "--jobs", type=int, default=JOBS, help="targets at a time")
    arguments = parser.parse_args()
    names, jobs = arguments.names, arguments.jobs
    work = [(test.stem, bug) for test in sorted(FUZZ.glob("fuzz_*.c"))
            for bug in seeded.fitting_bugs_of(test)
            if not names or any(name in test.stem for name in names)]
    subprocess.run(["make", "-C", str(seeded.DATAPLANE), f"-j{jobs}", "fuzz-build"], check=True)
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(report, work))
    return 0 if found and all(found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except seeded.Unplantable as error:
        print(f"fuzz_bugs: {error}")
        sys.exit(1)
