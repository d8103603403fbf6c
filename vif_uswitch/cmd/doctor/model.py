# SPDX-License-Identifier: Apache-2.0
"""What a check is, what it finds, and how a list of them is run so that none can end the others.

A check looks and changes nothing.  It returns one finding; it may let
``Unseen`` pass, which the runner turns into SKIP and advice.  Ids are for
ever: documents, scripts and people's notes name them.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from vif_uswitch.exceptions import InvalidInput, shown

if TYPE_CHECKING:
    from vif_uswitch.cmd.doctor.host import Host
    from vif_uswitch.cmd.doctor.switch import Switch

PATIENCE_S = 1.0  # a check that takes longer says that it is still at it


class Status(enum.Enum):
    PASS = "PASS"
    WARN = "WARN"  # works, but not as well or as safely as it could; never changes the exit status
    FAIL = "FAIL"
    SKIP = "SKIP"  # not decidable here: absent on purpose, or not for this user to see


@dataclass(frozen=True, slots=True)
class Finding:
    """``text``: one line, what was found.  ``todo``: what to do about it; "" with PASS, and
    with SKIP where there is nothing to be done."""

    status: Status
    text: str
    todo: str = ""


def passed(text: str) -> Finding:
    return Finding(Status.PASS, text)


def warn(text: str, todo: str) -> Finding:
    return Finding(Status.WARN, text, todo)


def fail(text: str, todo: str) -> Finding:
    return Finding(Status.FAIL, text, todo)


def skip(text: str, todo: str = "") -> Finding:
    return Finding(Status.SKIP, text, todo)


class Unseen(Exception):
    """``what`` exists, but this user may not look at it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Scene:
    """What checks look at."""

    host: Host
    switch: Switch


@dataclass(frozen=True, slots=True)
class Check:
    """``title``: what it is about, as the documentation and progress name it."""

    ident: str
    title: str
    run: Callable[[Scene], Finding]


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    finding: Finding


def choose(checks: Sequence[Check], only: str | None) -> list[Check]:
    """The checks that ``only`` names, in their own order: ids, or families ("MEM")."""
    if only is None:
        return list(checks)
    wanted = {word.strip().upper() for word in only.split(",") if word.strip()}
    known = {check.ident for check in checks} | {family(check) for check in checks}
    for word in sorted(wanted - known) or ([] if wanted else [only]):
        raise InvalidInput("check", word, "does not exist",
                           f"Known: {', '.join(check.ident for check in checks)}.")  # fmt: skip
    return [check for check in checks if check.ident in wanted or family(check) in wanted]


def family(check: Check) -> str:
    return check.ident.partition("-")[0]


def run_all(
    checks: Sequence[Check], scene: Scene, progress: TextIO | None = None
) -> Iterator[Result]:
    """Results one by one, as they come."""
    for check in checks:
        with _Patience(check, progress):
            finding = _run_one(check, scene)
        yield Result(check, finding)


def _run_one(check: Check, scene: Scene) -> Finding:
    try:
        return check.run(scene)
    except Unseen as unseen:
        return skip(
            f"user {scene.host.me.name} may not look at {shown(unseen.what)}",
            f"Run it as root: sudo uswitchctl doctor --only {check.ident}",
        )
    except Exception as error:  # one broken check must not hide what the others know
        return warn(
            f"could not be checked: {shown(repr(error))}",
            "This is a defect of the check, not of the host; please report it.",
        )


class _Patience:
    """Says what is being waited for when it takes longer than ``PATIENCE_S``."""

    def __init__(self, check: Check, stream: TextIO | None) -> None:
        self._text = f"{check.ident}: still at it: {check.title}"
        self._stream = stream
        self._timer = threading.Timer(PATIENCE_S, self._say)
        self._timer.daemon = True

    def __enter__(self) -> None:
        if self._stream is not None:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _say(self) -> None:
        if self._stream is not None:
            print(self._text, file=self._stream, flush=True)
