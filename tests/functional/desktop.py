# SPDX-License-Identifier: Apache-2.0
"""A program on a display in memory, inside a bed (doc_bed.py), used by the names that it shows.

    with Desktop(bed, ["virt-manager", "--no-fork"], logs) as desktop:
        desktop.press("Edit", "Preferences")

screen_hand.py, which runs inside, does it.  Nothing of this machine's is
written: home and runtime directory are the bed's.  Where the block fails, a
picture of the display, what showed and what the programs said are in ``logs``.
"""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from testbed import TestbedError

from .doc_bed import Bed

HAND = Path(__file__).with_name("screen_hand.py")
PYTHON = "/usr/bin/python3"  # Debian's, which has python3-gi
HOME = "/run/desktop"
PROGRAMS = ("Xvfb", "dbus-daemon", "/usr/libexec/at-spi-bus-launcher", PYTHON)
BINDINGS = ("python3/dist-packages/gi/__init__.py", "*/girepository-1.0/Atspi-2.0.typelib")
ANSWER_SECONDS = 180.0  # beyond what screen_hand.py waits for
END_SECONDS = 30.0
# A cache that libraries write wherever they may; it is this machine's.
PREPARE = f"""
mkdir -p -m 700 {HOME}
[ ! -d /var/cache/fontconfig ] || mount -t tmpfs tmpfs /var/cache/fontconfig
"""


def why_not(*programs: str) -> str:
    """What is missing for a display with these programs, "" if nothing."""
    missing = [name for name in (*PROGRAMS, *programs) if shutil.which(name) is None]
    missing += [name for name in BINDINGS if not any(Path("/usr/lib").glob(name))]
    return f"{', '.join(missing)} missing: make setup-desktop installs it" if missing else ""


class Desktop:
    """``command`` runs as the bed's root until the block ends."""

    def __init__(self, bed: Bed, command: Sequence[str], logs: Path) -> None:
        self._bed = bed
        self._command = command
        self._logs = logs
        self._hand: subprocess.Popen[str] | None = None

    def __enter__(self) -> Desktop:
        done = self._bed.run("root", PREPARE)
        assert done.returncode == 0, done.stdout
        self._bed.write("root", f"{HOME}/hand.py", HAND.read_text(encoding="utf-8"))
        self._logs.mkdir(parents=True, exist_ok=True)
        words = ["env", f"HOME={HOME}", f"XDG_RUNTIME_DIR={HOME}", PYTHON, f"{HOME}/hand.py"]
        with (self._logs / "programs.log").open("w") as log:
            self._hand = subprocess.Popen(
                self._bed.words("root", [*words, *self._command]),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if kind is not None:
            with contextlib.suppress(TestbedError, OSError):
                self._keep()
        assert self._hand is not None and self._hand.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._hand.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the bed's end is its end as well
            self._hand.wait(END_SECONDS)

    def _keep(self) -> None:
        print(f"the display, what showed, and what was said: {self._logs}")
        self._ask("picture", f"{HOME}/screen.png")
        shutil.copy(self._bed.at(f"{HOME}/screen.png"), self._logs)
        (self._logs / "shown.txt").write_text(self._ask("tree"), encoding="utf-8")

    def _ask(self, verb: str, *words: str) -> Any:
        assert self._hand is not None and self._hand.stdin and self._hand.stdout
        with contextlib.suppress(BrokenPipeError):
            self._hand.stdin.write(json.dumps([verb, *words]) + "\n")
            self._hand.stdin.flush()
        answered, _, _ = select.select([self._hand.stdout], [], [], ANSWER_SECONDS)
        line = self._hand.stdout.readline() if answered else ""
        if not line:
            said = (self._logs / "programs.log").read_text(errors="replace")[-3000:]
            raise TestbedError(f"{verb}: no answer; the programs say:\n{said}")
        answer = json.loads(line)
        if "error" in answer:
            raise TestbedError(f"{verb} {words[0] if words else ''}: {answer['error']}")
        return answer["said"]

    def press(self, *names: str) -> None:
        """One after the other, each as soon as it can be."""
        for name in names:
            self._ask("press", name)

    def sees(self, name: str) -> None:
        """Wait for a row of a list."""
        self._ask("sees", name)

    def text(self, name: str) -> str:
        """What stands in an editor."""
        return str(self._ask("text", name))

    def write(self, name: str, content: str) -> None:
        """Replace what stands in an editor."""
        self._ask("write", name, content)
