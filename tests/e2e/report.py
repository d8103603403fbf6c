# SPDX-License-Identifier: Apache-2.0
"""What was checked, and how it came out: a line at once, then a table and a JSON file."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from testbed import TestbedError
from tests.e2e import CloudError

WIDTH = 110


class CheckFailed(Exception):
    """The switch, or a part that wires it, did not do what it should."""


def need(condition: object, why: str) -> None:
    """Fail the running check unless ``condition`` holds."""
    if not condition:
        raise CheckFailed(why)


@dataclass(slots=True)
class Row:
    """One check.  ``detail`` is what was seen: numbers, losses, or the reason of a failure."""

    stage: str
    check: str
    result: str = "ok"  # or "FAILED", "not here"
    detail: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """All rows of a run."""

    started: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)
    stage: str = ""
    witness: Callable[[int], None] | None = None  # called with the number of a row that failed

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{time.monotonic() - self.started:7.1f} s  {text}", flush=True)

    @contextmanager
    def check(self, name: str) -> Iterator[Row]:
        """One check: what fails in it is recorded, and the run goes on."""
        row = Row(self.stage, name)
        started = time.monotonic()
        try:
            yield row
        except (CheckFailed, CloudError, TestbedError, OSError) as error:
            self._failed(row, str(error))
        except Exception as error:  # of a client library: the cloud refused something
            self._failed(row, f"{type(error).__name__}: {error}")
        row.seconds = round(time.monotonic() - started, 1)
        self.rows.append(row)
        self.say(f"{row.result:8}  {row.check}" + (f": {row.detail}" if row.detail else ""))

    @contextmanager
    def whole_stage(self) -> Iterator[None]:
        """What a stage does between its checks may fail as well; then the next stage is up."""
        try:
            yield
        except (CheckFailed, CloudError, TestbedError, OSError) as error:
            row = Row(self.stage, "the stage goes to its end")
            self._failed(row, str(error))
            self.rows.append(row)
            self.say(f"{row.result:8}  {row.check}: {row.detail}")

    def _failed(self, row: Row, why: str) -> None:
        row.result = "FAILED"
        row.detail = f"{row.detail}; {why}" if row.detail else why
        if self.witness is not None:
            self.witness(len(self.rows) + 1)

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(row.result == "FAILED" for row in self.rows)

    def table(self) -> str:
        """All rows for a person."""
        wide = max((len(row.check) for row in self.rows), default=0)
        lines = []
        stage = ""
        for row in self.rows:
            if row.stage != stage:
                stage = row.stage
                lines += ["", f"{stage}:"]
            head = f"  {row.result:8} {row.check:{wide}} {row.seconds:6.1f} s  "
            indent = " " * len(head)
            lines += textwrap.wrap(head + " ".join(row.detail.split()), max(WIDTH, len(head) + 50),
                                   subsequent_indent=indent, drop_whitespace=True) or [head]
        whole = time.monotonic() - self.started
        lines += ["", f"{len(self.rows)} checks, {self.failed} failed, {whole:.0f} s"]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """All rows for a program."""
        path.write_text(json.dumps({
            "failed": self.failed,
            "seconds": round(time.monotonic() - self.started, 1),
            "checks": [asdict(row) for row in self.rows],
        }, indent=1) + "\n")  # fmt: skip
