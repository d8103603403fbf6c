# SPDX-License-Identifier: Apache-2.0
"""A child process of the test bed: started unprivileged, logged to a file, certain to end.

Every part that runs beside the test (QEMU, uswitchd, testpmd) is one of these.  A child dies with
its parent unless it was started with ``outlive``, which is what ``make demo KEEP=1`` asks for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from testbed import TestbedError, unprivileged

TICKS = os.sysconf("SC_CLK_TCK")


class Child:
    """One running program."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, *,
                 who: unprivileged.Identity, outlive: bool = False,
                 environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL,
                 stdout: int | None = None, within: Sequence[str] = ()) -> None:
        """``within``: what replaces itself by the command that follows, as ``ip netns exec``."""
        self.name = name
        self.log = log
        words = [*within, *unprivileged.argv(command, who, outlive=outlive)]
        with log.open("ab") as stream:
            try:
                self.process: subprocess.Popen[bytes] = subprocess.Popen(
                    words, stdin=stdin, stdout=stdout or stream, stderr=stream, env=environment,
                    cwd="/", start_new_session=outlive)
            except FileNotFoundError as error:
                raise TestbedError(f"{error.filename} is missing") from error

    @property
    def pid(self) -> int:
        """The program's own pid: what starts it here replaces itself by exec."""
        return self.process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the program, where one was asked for."""
        assert self.process.stdin is not None
        return self.process.stdin

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def check(self) -> None:
        """Raise with the end of its log if it has ended."""
        if not self.alive():
            raise TestbedError(f"{self.name} ended with status {self.process.returncode}:\n"
                               f"{self.tail()}")

    def tail(self, lines: int = 12) -> str:
        """The last lines it wrote."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join("  " + line for line in text.splitlines()[-lines:])

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.alive():
            self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 5) -> int:
        """Ask it to end; insist after ``timeout``."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time a process (all its threads) has used so far."""
    # Field 2 of proc(5) stat is the name, which may contain spaces: count from its bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def start_time(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def children(pid: int) -> list[int]:
    """Direct children of a process, of those of its threads that are still there."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread ended after it was listed
            found += [int(word) for word in task.read_text().split()]
    return found
