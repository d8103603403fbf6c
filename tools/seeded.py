# SPDX-License-Identifier: Apache-2.0
"""Seeded bugs: what a proof or a fuzz target must find, or it proves nothing.

A bug is written in the head of the test that has to find it::

    BUG name file below dataplane/
      - text that is there, exactly once
      + text to put there instead
      ! what the test says about it; OR stands between what it may say

``\\n`` in a text is a new line.  The bug is planted in a copy of the sources, never in the tree;
a text that is not there any more is an error, so that a bug cannot quietly stop being one.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DATAPLANE = TOP / "dataplane"

_BUG = re.compile(
    r"^ \* BUG (?P<name>\w+) (?P<file>\S+)\n"
    r" \*   - (?P<old>.*)\n"
    r" \*   \+ (?P<new>.*)\n"
    r" \*   ! (?P<says>.*)$",
    re.MULTILINE,
)


class Unplantable(Exception):
    """A bug that does not fit the sources any more."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A textual change of one source file, and what must be said about it."""

    name: str
    file: str
    old: str
    new: str
    says: str

    def is_named_in(self, text: str) -> bool:
        """Whether a test's output says what it must."""
        return any(words in text for words in self.says.split(" OR "))


def bugs_of(test: Path) -> list[Bug]:
    """The bugs a test's head lists, in order."""
    text = test.read_text(encoding="utf-8")
    found = [Bug(**{name: value if name in ("name", "file", "says") else value.replace("\\n", "\n")
                    for name, value in match.groupdict().items()})
             for match in _BUG.finditer(text)]
    if len(found) != text.count(" * BUG "):
        raise Unplantable(f"{test}: a BUG that cannot be read")
    return found


def fitting_bugs_of(test: Path) -> list[Bug]:
    """The same, each one tried now, and not after the minutes that others take."""
    found = bugs_of(test)
    for bug in found:
        planted(bug)
    return found


def planted(bug: Bug) -> str:
    """The text of the bug's file with the bug in it."""
    path = DATAPLANE / bug.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.count(bug.old) != 1:
        raise Unplantable(
            f"BUG {bug.name}: {bug.file} holds {bug.old!r} {text.count(bug.old)} times, not once"
        )
    return text.replace(bug.old, bug.new)


def plant(bug: Bug, target: Path) -> Path:
    """Copy the dataplane's sources to ``target`` with the bug in them."""
    text = planted(bug)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DATAPLANE, target, ignore=shutil.ignore_patterns("build", "*.rst"))
    (target / bug.file).write_text(text, encoding="utf-8")
    return target
