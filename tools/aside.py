# SPDX-License-Identifier: Apache-2.0
"""Checks that run beside others, on processor time that nobody else wants.

Half of the time of tests that start processes and guests goes by in waiting, but what they wait
for must not come late.  A lane runs checks one after the other in the scheduler's idle class
(``SCHED_IDLE``), which gives way at once: compiling, proving and fuzzing do not mind.  Used by
run_checks.py; how a check went is told when somebody waits for it, so that it does not land in the
middle of pytest's dots.
"""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from tools import stage

IDLE = ("chrt", "--idle", "0")


@dataclass(frozen=True, slots=True)
class Check:
    """A command that passes if its exit status is 0; its output goes to the log NAME.log."""

    group: str
    name: str
    title: str
    command: tuple[str, ...]


class _Outcome:
    """Of one check in a lane: set by the lane's thread, read after ``ended``."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.ended = threading.Event()
        self.status, self.seconds = 1, 0.0
        self.trouble = ""


class Lane:
    """Checks that run one after the other in a thread; whether one fails is nothing to the next."""

    def __init__(self, checks: Sequence[Check], logs: pathlib.Path) -> None:
        self._logs = logs
        self._outcomes = {check.name: _Outcome(check) for check in checks}
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __contains__(self, name: str) -> bool:
        """Whether it is here and nobody has waited for it yet."""
        return name in self._outcomes

    @property
    def names(self) -> list[str]:
        """The checks that nobody has waited for."""
        return list(self._outcomes)

    def wait(self, name: str) -> int:
        """Wait for a check's end, say how it went, once; its exit status, as a shell has it."""
        outcome = self._outcomes[name]
        outcome.ended.wait()
        del self._outcomes[name]
        if outcome.trouble:
            print(f"== {outcome.check.title}: FAILED, {outcome.trouble}", flush=True)
            return 1
        return stage.report(f"== {outcome.check.title}: ", self._logs / f"{name}.log",
                            outcome.status, outcome.seconds)

    def cancel(self) -> None:
        """Begin no further check.  The one that runs gets what its terminal sends, as we do."""
        self._cancelled.set()

    def _run(self) -> None:
        for outcome in list(self._outcomes.values()):
            try:
                if not self._cancelled.is_set():
                    outcome.status, outcome.seconds = stage.execute(
                        self._logs / f"{outcome.check.name}.log", (*IDLE, *outcome.check.command))
            except OSError as error:  # its log cannot be written
                outcome.trouble = str(error)
            finally:
                outcome.ended.set()  # or whoever waits would wait for ever
