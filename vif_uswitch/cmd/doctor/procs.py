# SPDX-License-Identifier: Apache-2.0
"""Processes as /proc shows them: command line, user, rights.  A process may end while we look."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vif_uswitch.access import Identity, effective_ids
from vif_uswitch.cmd.doctor.host import Host
from vif_uswitch.cmd.doctor.model import Unseen

PYTHONS = ("python", "pypy")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    arguments: tuple[str, ...]

    def runs(self, program: str) -> bool:
        """Whether it is that program, itself or as a script of Python's."""
        first, *rest = [*(os.path.basename(word) for word in self.arguments[:2]), ""]
        return first == program or (first.startswith(PYTHONS) and program in rest[:1])

    def valued(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(option, value) of each ``--name value`` and ``--name=value``, as they come."""
        found: list[tuple[str, str]] = []
        for word, following in zip(self.arguments, (*self.arguments[1:], None), strict=True):
            name, equals, value = word.partition("=")
            if name in names and equals:
                found.append((name, value))
            elif name in names and following is not None:
                found.append((name, following))
        return found


def processes(host: Host) -> Iterator[Process]:
    for name in host.names("/proc"):
        if not name.isdecimal():
            continue
        with suppress(Unseen):
            command = host.text(f"/proc/{name}/cmdline")
            if command:
                yield Process(int(name), tuple(command.rstrip("\0").split("\0")))


def find(host: Host, program: str) -> Process | None:
    """The one with the lowest number that runs it: others are its children."""
    found = [process for process in processes(host) if process.runs(program)]
    return min(found, key=lambda process: process.pid, default=None)


def running(host: Host, program: str, pid: object) -> Process | None:
    """The process that says it is ``pid``; another one that runs the program where that is not
    true here, because it counts in a container of its own."""
    command = host.text(f"/proc/{pid}/cmdline") if isinstance(pid, int) else None
    if command:
        process = Process(int(str(pid)), tuple(command.rstrip("\0").split("\0")))
        if process.runs(program):
            return process
    return find(host, program)


def status(host: Host, pid: int) -> dict[str, str]:
    """/proc/PID/status; empty when the process is gone."""
    text = host.text(f"/proc/{pid}/status") or ""
    return {
        name: value.strip()
        for name, colon, value in (line.partition(":") for line in text.splitlines())
        if colon
    }


def identity(host: Host, pid: int) -> Identity | None:
    """Who it runs as right now, which may differ from what the user's entry says by now."""
    found = effective_ids(host.text(f"/proc/{pid}/status") or "")
    if found is None:
        return None
    uid, gids = found
    return Identity(host.accounts.user_name(uid), uid, gids)


def root_of(host: Host, pid: int) -> Path:
    """The file system the process sees, which is another one in a container; ours if we may not
    look."""
    path = host.at(f"/proc/{pid}/root")
    try:
        os.listdir(path)
    except OSError:
        return host.root
    return path
