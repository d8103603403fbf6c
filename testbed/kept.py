# SPDX-License-Identifier: Apache-2.0
"""A note of what ``make demo KEEP=1`` left running, so that it can be found and ended again.

The note lies in the cache.  Every process in it is identified by pid and start time: a pid alone
may long since be somebody else's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed import TestbedError
from testbed.cache import Cache
from testbed.process import children, start_time

GONE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A demo left running."""

    directory: Path
    processes: dict[int, int]  # pid -> start time

    @staticmethod
    def note() -> Path:
        """Where the note lies."""
        return Cache().root / "kept.json"

    @classmethod
    def load(cls) -> Kept:
        """The note, if what it names still runs."""
        try:
            data = json.loads(cls.note().read_text())
        except OSError as error:
            raise TestbedError("no demo was left running: 'make demo KEEP=1' does") from error
        kept = cls(Path(data["directory"]),
                   {int(pid): when for pid, when in data["processes"].items()})
        if not kept.running():
            raise TestbedError("the demo that was left running has ended")
        return kept

    @classmethod
    def of(cls, directory: Path, pids: list[int]) -> Kept:
        """Describe running processes."""
        return cls(directory, {pid: start_time(pid) for pid in pids})

    def save(self) -> None:
        """Write the note."""
        data = {**asdict(self), "directory": str(self.directory)}
        self.note().write_text(json.dumps(data))

    def running(self) -> list[int]:
        """The pids of those that still run."""
        return [pid for pid, when in self.processes.items() if when and start_time(pid) == when]

    def stop(self) -> None:
        """End everything and remove the run directory."""
        pids = self.running()
        # A dataplane that replaced the first one is in no note, but is uswitchd's child.
        for pid in [*pids, *(child for parent in pids for child in children(parent))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_SECONDS
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.note().unlink(missing_ok=True)
