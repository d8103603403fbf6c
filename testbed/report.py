# SPDX-License-Identifier: Apache-2.0
"""What the demo prints: stages with their times, and tables that line up.

On a terminal a running stage is one line that is redrawn; anywhere else each stage is a line
printed when it ends, and a long one says every few seconds what it is at.  No control characters
leave for anything but a terminal.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

REDRAW_SECONDS = 0.1
SAY_SECONDS = 5.0
WIDTH = 34  # of a stage's title


class Stage:
    """One step under way: ``note()`` what it is at, ``result`` what came out."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self.now = ""
        self.result = ""

    def note(self, text: str) -> None:
        """Say what the step is at right now."""
        self.now = text

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started


class Report:
    """Output to one stream."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self.stream = stream
        self.tty = stream.isatty()
        utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
        self._frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if utf8 else "|/-\\"
        self._good, self._bad, self._rule = ("✓", "✗", "─") if utf8 else ("ok", "FAILED", "-")

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Show a step while it runs and its result when it is done."""
        stage = Stage(title)
        done = threading.Event()
        painter = threading.Thread(target=self._paint, args=(stage, done), daemon=True)
        painter.start()
        mark = self._bad
        try:
            yield stage
            mark = self._good
        finally:
            done.set()
            painter.join()
            start = "\r\x1b[K" if self.tty else ""
            self._write(f"{start}{mark} {title:<{WIDTH}} {stage.seconds:5.1f} s"
                        f"  {stage.result}".rstrip() + "\n")

    def _paint(self, stage: Stage, done: threading.Event) -> None:
        turn = 0
        while not done.wait(REDRAW_SECONDS if self.tty else SAY_SECONDS):
            if self.tty:
                sign = self._frames[turn % len(self._frames)]
                line = f"{sign} {stage.title:<{WIDTH}} {stage.seconds:5.1f} s  {stage.now}"
                self._write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            else:
                now = stage.now or "working"
                self._write(f"  ... {stage.title}, {stage.seconds:.0f} s: {now}\n")
            turn += 1

    def line(self, text: str = "") -> None:
        """Print a line."""
        self._write(text + "\n")

    def heading(self, text: str) -> None:
        """Print a title with a rule below it."""
        self._write(f"\n{text}\n{self._rule * len(text)}\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; columns of numbers are aligned to the right."""
        for text in format_table(head, rows):
            self.line(text)

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def format_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[n], int | float) for row in rows)
               for n in range(len(head))]
    widths = [max(len(line[n]) for line in [list(head), *cells]) for n in range(len(head))]

    def line(words: Sequence[str]) -> str:
        parts = [word.rjust(width) if right else word.ljust(width)
                 for word, width, right in zip(words, widths, numeric, strict=True)]
        return ("  " + "  ".join(parts)).rstrip()

    return [line(head), *(line(row) for row in cells)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def wrap_words(words: Sequence[str], width: int) -> list[str]:
    """Lines of words, for a list of features beside a label."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
