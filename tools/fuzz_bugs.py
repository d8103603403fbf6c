# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets must find the bugs their heads list (``tools/seeded.py``), within a minute each.

Each bug is planted in a copy of the sources, the target is built against that copy, and fuzzing
starts from the committed corpus.  It counts as found only if the target itself, a sanitizer or an
untouchable page says what the bug announces.
"""

from __future__ import annotations

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
SECONDS = 60


def check(target: str, bug: seeded.Bug) -> str:
    """Empty if the bug was found, else what happened."""
    with tempfile.TemporaryDirectory(prefix="uswitch-fuzz-") as scratch:
        top = Path(scratch)
        seeded.plant(bug, top / "dataplane")
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


def report(job: tuple[str, seeded.Bug]) -> bool:
    target, bug = job
    started = time.monotonic()
    why = check(target, bug)
    seconds = time.monotonic() - started
    print(f"{target}: {bug.name}: {why or 'found'} ({seconds:.0f} s with the build)", flush=True)
    return not why


def main() -> int:
    names = sys.argv[1:]
    work = [(test.stem, bug) for test in sorted(FUZZ.glob("fuzz_*.c"))
            for bug in seeded.fitting_bugs_of(test)
            if not names or any(name in test.stem for name in names)]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        found = list(pool.map(report, work))
    return 0 if found and all(found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except seeded.Unplantable as error:
        print(f"fuzz_bugs: {error}")
        sys.exit(1)
