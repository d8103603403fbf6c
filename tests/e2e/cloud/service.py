# SPDX-License-Identifier: Apache-2.0
"""A service of the cloud: a process in one of the hosts, its log, and how to end it.

Its log is what it writes to standard error, so that a service that dies early leaves its reason in
the same file.  Whoever starts one waits for what it is good for, not for its process.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from testbed.process import Child
from testbed.unprivileged import Identity
from tests.e2e import CloudError

ROOT = Identity("root", 0, 0, (), False)
STOP_SECONDS = 20.0


def user(name: str) -> Identity:
    """A user with the groups that /etc/group gives it."""
    entry = pwd.getpwnam(name)
    groups = tuple(g for g in os.getgrouplist(name, entry.pw_gid) if g != entry.pw_gid)
    return Identity(name, entry.pw_uid, entry.pw_gid, groups, True)


class Service:
    """One program that runs all the time, and again after it was killed."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, *,
                 who: Identity = ROOT, within: Sequence[str] = (),
                 environment: dict[str, str] | None = None) -> None:  # fmt: skip
        """``within``: words before the command, that lead into a host's namespaces."""
        self.name = name
        self.log = log
        self._command = command
        self._who = who
        self._within = within
        self._environment = environment
        self._child: Child | None = None

    def start(self) -> None:
        """Start it, and return at once.

        It would otherwise end with the thread that started it; as it is, it ends with its world.
        """
        self._child = Child(self.name, self._command, self.log, who=self._who, within=self._within,
                            environment={**os.environ, **(self._environment or {})},
                            outlive=True)  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the program itself."""
        return self._running().pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.alive()

    def check(self) -> None:
        """Raise with the end of its log if it has ended."""
        self._running().check()

    def kill(self) -> None:
        """SIGKILL, for its workers as well; what it made a daemon goes on."""
        child = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; insist after a while.  What never ran is stopped."""
        if self._child is None or not self._child.alive():
            return
        os.kill(self._child.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.process.wait(STOP_SECONDS)
        self.kill()

    def _running(self) -> Child:
        if self._child is None:
            raise CloudError(f"{self.name} was never started")
        return self._child


def run(command: Sequence[str | Path], log: Path, *, within: Sequence[str] = (),
        environment: dict[str, str] | None = None, timeout: float = 300) -> None:  # fmt: skip
    """A program that ends; raises with the end of its output if it fails."""
    with log.open("ab") as stream:
        done = subprocess.run([*within, *command], stdout=stream, stderr=stream, check=False,
                              env={**os.environ, **(environment or {})}, cwd="/",
                              stdin=subprocess.DEVNULL, timeout=timeout)  # fmt: skip
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise CloudError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{tail}")


def wait(what: str, condition: Callable[[], object], timeout: float = 120,
         services: Iterable[Service] = (), pause: float = 0.25) -> None:  # fmt: skip
    """Wait until ``condition`` holds; none of these services may end meanwhile."""
    end = time.monotonic() + timeout
    while not condition():
        for one in services:
            one.check()
        if time.monotonic() > end:
            raise CloudError(f"after {timeout:.0f} s still not: {what}")
        time.sleep(pause)


def listening(address: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False
