# SPDX-License-Identifier: Apache-2.0
"""Where the blocks of a page are typed: what all beds have in common.

``doc_bed_host.py`` and ``doc_bed_libvirt.py`` make them; a bed says how a command line is run
inside, and as whom.  Each user has one terminal, as a reader has: a block starts in the directory
that the one before has left, with the variables that it exported.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from testbed import TestbedError, session

BLOCK_SECONDS = 300.0
# Typed before a block, so that its shell tells at its end what the next one begins with.
END = "--- what the terminal keeps ---"
TELL = f'trap \'printf "\\n%s\\n" "{END}"; export -p\' EXIT\n'


class Bed:
    """One story's."""

    writer = "root"  # who writes a file of which the page does not say whose it is

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._terminals: dict[str, str] = {}

    def words(self, who: str, command: list[str]) -> list[str]:
        """The command line that runs ``command`` inside, as ``who``, who must exist there."""
        raise NotImplementedError

    def at(self, path: str) -> Path:
        """A path inside, as it is reached from here."""
        raise NotImplementedError

    def home(self, who: str) -> str:
        """Of a user inside."""
        raise NotImplementedError

    def guest(self, name: str, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line into a running guest."""
        raise TestbedError(f"{name}: this bed has no guests")

    def log(self) -> str:
        """What may explain a failure."""
        return ""

    # ---- the same for all ----

    def run(self, who: str, script: str) -> subprocess.CompletedProcess[str]:
        """Type it into a shell that ends at the first failure; both outputs in one."""
        try:
            done = subprocess.run(
                self.words(who, ["sh", "-ec", self._before(who) + TELL + script]),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False, timeout=BLOCK_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise TestbedError(f"it does not end, and has printed: {late.output!r}") from late
        said, told, state = done.stdout.rpartition(f"\n{END}\n")
        if told:
            self._terminals[who], done.stdout = state, said
        return done

    def start(self, who: str, script: str, ready: str, output: Path) -> str:
        """Start what goes on, and wait until it has printed ``ready``; what it printed so far."""
        with output.open("wb") as stream:
            child = subprocess.Popen(
                self.words(who, ["sh", "-ec", self._before(who) + script]),
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._running.append(child)
        deadline = time.monotonic() + BLOCK_SECONDS
        while ready not in (said := output.read_text(errors="replace")):
            if child.poll() is not None or time.monotonic() > deadline:
                raise TestbedError(f"it has not printed {ready!r}, but:\n{said}")
            time.sleep(0.05)
        return said

    def write(self, who: str, path: str, text: str) -> None:
        """Make a file as ``who``; ~ is the home."""
        script = 'mkdir -p "$(dirname "$1")"; cat > "$1"'
        done = subprocess.run(
            self.words(who, ["sh", "-ec", self._before(who) + script, "sh",
                             path.replace("~", self.home(who), 1)]),
            input=text, text=True, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise TestbedError(f"{path} cannot be written: {done.stderr}")

    def _before(self, who: str) -> str:
        return f'{self._terminals[who]}cd "$PWD"\n' if who in self._terminals else ""


def only_root(who: str) -> None:
    """A user that a page has misspelt must not pass for one who fails."""
    if who != "root":
        raise TestbedError(f"there is no user {who} on this bed")


def environment(more: Mapping[str, str], directory: str) -> list[str]:
    """Words before a command line: what a login sets, and where it starts."""
    pairs = {"PATH": session.SYSTEM_PATH, "LC_ALL": "C.UTF-8", **more}
    return ["env", "--ignore-environment", f"--chdir={directory}",
            *(f"{name}={value}" for name, value in pairs.items())]  # fmt: skip
