# SPDX-License-Identifier: Apache-2.0
"""Shell scripts: "bash -n" (or "sh -n"), shellcheck and bashate.

Run by tools/run_checks.py, from the top of the checkout.  A script is what ends in .sh or .bash,
or begins with "#!" and a shell.  Those for busybox, of guests, which none of the three knows, are
left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
PLACES = ("devstack", "tools", "etc", ".ci", "tests")
SUFFIXES = {".sh", ".bash"}
SHELL = re.compile(rb"#!.*\b(bash|sh)\s")

# The files of devstack/ are sourced into one shell: they read and set variables of each other and
# of devstack, which shellcheck does not see.
SOURCED = ("--exclude=SC1090,SC1091,SC2034,SC2154",)
# POSIX shells have no other form of a function than the one that bashate refuses.
POSIX = ("--ignore", "E020")
MAX_LINE = ("--max-line-length", "120")


def scripts(top: Path) -> list[Path]:
    found = []
    for place in PLACES:
        for path in sorted((top / place).rglob("*")):
            if path.is_file() and not path.is_symlink() and is_script(path):
                found.append(path)
    return found


def is_script(path: Path) -> bool:
    if path.suffix in SUFFIXES:
        return True
    with path.open("rb") as file:
        first = file.readline()
    return SHELL.match(first) is not None and b"busybox" not in first


def is_posix(path: Path) -> bool:
    return b"bash" not in path.read_bytes().splitlines()[0]


def commands(paths: Sequence[Path]) -> list[list[str]]:
    """What to run for all of them."""
    found = []
    for path in paths:
        shell = "sh" if is_posix(path) else "bash"
        found.append([shell, "-n", str(path)])
    posix = [str(path) for path in paths if is_posix(path)]
    bash = [str(path) for path in paths if not is_posix(path)]
    if bash:
        found.append(["shellcheck", *SOURCED, *bash])
        found.append([str(BIN / "bashate"), *MAX_LINE, *bash])
    if posix:
        found.append(["shellcheck", *posix])
        found.append([str(BIN / "bashate"), *MAX_LINE, *POSIX, *posix])
    return found


def main(top: Path = Path()) -> int:
    paths = scripts(top)
    if not paths:
        print(f"no shell scripts below {', '.join(PLACES)}: wrong directory?", file=sys.stderr)
        return 1
    failed = 0
    for command in commands(paths):
        failed |= subprocess.run(command, check=False).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
