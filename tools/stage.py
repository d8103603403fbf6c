#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run one command quietly: a headline, its time, its output in a log file.

Used by the Makefile for the slow steps of "make build" and by run_checks.py
for "make test".  While the command works, a terminal shows the seconds and a
log shows a line every half minute, so that neither looks dead.  A failure
prints the end of the log.  Standard library only: the first use is before
there is a virtual environment.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

HEARTBEAT_S = 30
TAIL_LINES = 60


def environment() -> dict[str, str]:
    """Ours, without what a calling make left for its own children."""
    return {name: value for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


def run(title: str, log: pathlib.Path, command: Sequence[str]) -> int:
    """The command's exit status; everything it prints goes to the log."""
    terminal = sys.stdout.isatty()
    print(f"== {title} ...", end="" if terminal else "\n", flush=True)
    status, seconds = execute(log, command, title)
    return report(f"\r== {title}: " if terminal else "   ", log, status, seconds)


def execute(log: pathlib.Path, command: Sequence[str], title: str = "") -> tuple[int, float]:
    """The command's exit status, as subprocess has it, and its time; a title shows that it lives.

    Any thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as output:
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
        try:
            child = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            output.write(f"{error}\n".encode())
            status = 127
        else:
            status = _wait(child, title, started) if title else child.wait()
    return status, time.monotonic() - started


def report(lead: str, log: pathlib.Path, status: int, seconds: float) -> int:
    """Say how it went, with the log's end if it failed; returns the status as a shell has it."""
    if status == 0:
        print(f"{lead}ok, {seconds:.0f} s", flush=True)
        return 0
    print(f"{lead}FAILED with status {status} after {seconds:.0f} s; end of {log}:", flush=True)
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(f"   | {line}" for line in text[-TAIL_LINES:]), flush=True)
    return status if status > 0 else 128 - status


def _wait(child: subprocess.Popen[bytes], title: str, started: float) -> int:
    terminal = sys.stdout.isatty()
    step = 1 if terminal else HEARTBEAT_S
    try:
        while True:
            try:
                return child.wait(timeout=step)
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - started
                if terminal:
                    print(f"\r== {title} ... {seconds:.0f} s", end="", flush=True)
                else:
                    print(f"   still working, {seconds:.0f} s", flush=True)
    except KeyboardInterrupt:  # the child got it as well
        print(flush=True)
        child.wait()
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--log", type=pathlib.Path, required=True)
    parser.add_argument("title")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    # What is installed here is run by an unprivileged user, whatever the
    # caller's umask says.
    os.umask(0o022)
    try:
        return run(arguments.title, arguments.log, arguments.command)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
