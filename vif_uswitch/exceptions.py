# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors, from the dataplane's edge to the operator's terminal.

Every error says what failed, with which value, why, and what to do about it.
The four parts travel over the control API as they are (``data`` of the
JSON-RPC error), so that a program reads them apart and a person reads
``str()``.  Standard library only: the client and the plugins use it too.
"""

from __future__ import annotations

from vif_uswitch.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import ClassVar

SHOWN_MAX = 100


def shown(value: object) -> str:
    """``value`` as it may stand in a message: short, on one line, nothing a terminal obeys."""
    text = value if isinstance(value, str) else repr(value)
    if text == "" or not text.isprintable():
        text = ascii(text)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."


class USwitchError(Exception):
    """Base of all; as itself it means "failed", for a reason that fits none of the others.

    ``code`` is the JSON-RPC error code, ``exit_status`` what ``uswitchctl``
    ends with.
    """

    code: ClassVar[int] = -32000
    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, value: object = None, why: str = "", todo: str = "") -> None:
        self.what = what
        self.value = None if value is None else shown(value)
        self.why = why
        self.todo = todo
        super().__init__(self._text())

    def _text(self) -> str:
        head = self.what if self.value is None else f"{self.what} {self.value}"
        text = f"{head}: {self.why}" if self.why else head
        return f"{text}. {self.todo}" if self.todo else text

    def data(self) -> dict[str, str | None]:
        """What travels beside the message; ``rebuild()`` turns it back."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "value": self.value,
            "why": self.why,
            "todo": self.todo,
        }


class InvalidInput(USwitchError):
    """A value that can never be right: wrong type, outside its range, malformed."""

    code = -32602


class NotFound(USwitchError):
    code = -32001
    exit_status = 4


class Conflict(USwitchError):
    """Right in itself, but something else that exists stands against it."""

    code = -32002


class Busy(USwitchError):
    """Something is still in use, or too many ask at once."""

    code = -32003


class Unavailable(USwitchError):
    """What is needed does not answer right now; asking again later makes sense."""

    code = -32004


class ResourceExhausted(USwitchError):
    """A table is full, or the host is out of disk, memory or file descriptors."""

    code = -32005


class Forbidden(USwitchError):
    """The caller may not use the control socket."""

    code = -32006


class StateDamaged(USwitchError):
    """The file of the desired state cannot be trusted; it is left as it is."""


class DaemonUnreachable(USwitchError):
    """Client side: nobody answers on the control socket, or we may not talk to it."""

    exit_status = 3


class TimedOut(USwitchError):
    """Client side: the answer, or what was waited for, did not come in time."""

    exit_status = 5


class ProtocolError(USwitchError):
    """One side of the control API broke its rules.  ``code`` varies, see ``api/wire.py``."""

    code = -32600


class UnknownMethod(ProtocolError):
    code = -32601


class ParseError(ProtocolError):
    code = -32700


class InternalError(USwitchError):
    """A defect of the daemon: details are in its log, never on the wire."""

    code = -32603


_BY_CODE: dict[int, type[USwitchError]] = {
    kind.code: kind
    for kind in (
        InvalidInput, NotFound, Conflict, Busy, Unavailable, ResourceExhausted, Forbidden,
        ProtocolError, UnknownMethod, ParseError, InternalError, USwitchError,
    )
}  # fmt: skip


def rebuild(code: int, message: str, data: object) -> USwitchError:
    """The exception a peer meant; unknown codes become the base class."""
    kind = _BY_CODE.get(code, USwitchError)
    if not isinstance(data, dict) or not isinstance(data.get("what"), str):
        return kind(message)
    value = data.get("value")
    return kind(
        data["what"],
        value if isinstance(value, str) else None,
        str(data.get("why") or ""),
        str(data.get("todo") or ""),
    )
