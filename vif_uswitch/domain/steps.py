# SPDX-License-Identifier: Apache-2.0
"""Changes made one after the other, and taken back when a later one fails.

Libvirt and uswitchd know no transaction that spans them both.  What can be
looked at beforehand is looked at beforehand; a failure after that leaves either
what was there before or, if taking back fails too, a list of what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from vif_uswitch.exceptions import USwitchError


def _nothing() -> None:
    return None


class Steps:
    """``with Steps() as steps: steps.do("make port", make, undo=delete)``.

    Leaving it by an exception takes back what was done, the last step first.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._done: list[tuple[str, Callable[[], object]]] = []

    def __enter__(self) -> Steps:
        return self

    def do(self, what: str, action: Callable[[], object],
           undo: Callable[[], object] = _nothing) -> None:  # fmt: skip
        """``what``: as it stands in messages, "port vm1-…"; ``undo`` takes it back."""
        action()
        self._done.append((what, undo))

    def note(self, what: str, undo: Callable[[], object] | None) -> None:
        """Something that was done already; without ``undo`` it stays."""
        self._done.append((what, undo or _nothing))

    def keep(self) -> None:
        """What was done so far stays, whatever comes."""
        self._done.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if error is None:
            return
        for what, undo in reversed(self._done):
            if undo is _nothing:
                continue
            try:
                undo()
                self._say(f"taken back: {what}")
            except USwitchError as failure:
                self._say(f"not taken back: {what}: {failure}")
