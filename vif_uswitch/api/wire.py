# SPDX-License-Identifier: Apache-2.0
"""The control API's frame format: JSON-RPC 2.0, one message a line, and its limits.

Both ends use this file and nothing else to turn messages into bytes and back:
``daemon/control/server.py`` on one side, ``client.py`` on the other.  No sockets, no
files, standard library only.

What JSON-RPC leaves open, or allows and we do not:

* A line ends with one ``\\n`` and has at most ``MAX_LINE`` bytes, in both
  directions.  Long lists come in pages: a reply has ``next``, which is the
  ``cursor`` of the request for the following page, or "" at the end.
* Parameters are given by name.  Requests have an id; there are no
  notifications and no batches.
* The same key twice in one object, NaN, Infinity, and integers beyond 64 bits
  are refused.
"""

from __future__ import annotations

import json

from vif_uswitch.exceptions import ParseError, ProtocolError, USwitchError
from vif_uswitch.records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, NoReturn

API_VERSION = "1"
PREFIX = f"v{API_VERSION}."
MAX_LINE = 64 * 1024
PAGE_BYTES = 48 * 1024
"""How much of a reply the items of one page may fill."""
ID_MAX = 64

METHODS = tuple(
    PREFIX + verb
    for verb in (
        "version", "schema", "show",
        "port.add", "port.ensure", "port.set", "port.delete", "port.list", "port.show",
        "uplink.ensure", "uplink.map", "uplink.list", "uplink.show", "uplink.delete",
        "segment.add", "segment.delete", "segment.list", "segment.show",
        "fdb.list", "fdb.flush", "drops", "stats", "worker.list", "worker.show",
    )
)  # fmt: skip

Id = str | int


class Request(NamedTuple):
    id: Id
    method: str
    params: dict[str, Any]


class BadRequest(ProtocolError):
    """A line that is no request; ``id`` is set when it could still be read."""

    def __init__(self, error: ProtocolError, id_: Id | None) -> None:
        self.error = error
        self.id = id_
        super().__init__(str(error))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ParseError("key", key, "stands twice in one JSON object", "Give it once.")
            seen.add(key)
    return result


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise ParseError("number", text, "is beyond 64 bits")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ParseError("number", text, "is no JSON")


def _loads(line: bytes) -> Any:
    try:
        return json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError:
        raise ParseError("message", None, "is not UTF-8") from None
    except RecursionError:
        raise ParseError("message", None, "is nested too deeply") from None
    except ValueError as error:
        raise ParseError("message", None, f"is not JSON: {error}") from None


def dumps(value: object) -> str:
    """JSON text without line breaks, ASCII only: any string survives any terminal, log and peer."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def encode(message: object) -> bytes:
    """One line.  The caller keeps it below ``MAX_LINE``; this is where that is enforced."""
    line = dumps(message).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise ProtocolError(
            "message", None, f"has {len(line)} bytes, a line may have {MAX_LINE}"
        )
    return line


def request(id_: Id, method: str, params: dict[str, Any]) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})


def result(id_: Id, value: object) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id_, "result": value})


def error(id_: Id | None, failure: USwitchError) -> bytes:
    body = {"code": failure.code, "message": str(failure), "data": failure.data()}
    return encode({"jsonrpc": "2.0", "id": id_, "error": body})


def _id_of(message: dict[str, Any]) -> Id | None:
    value = message.get("id")
    if isinstance(value, str) and len(value) <= ID_MAX:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return None


def decode_request(line: bytes) -> Request:
    """The request in one line (with or without its line end), or BadRequest."""
    id_: Id | None = None
    try:
        message = _loads(line)
        if isinstance(message, list):
            raise ProtocolError(
                "batch", None, "several requests in one message are not supported",
                "Send one request a line.",
            )  # fmt: skip
        if not isinstance(message, dict):
            raise ProtocolError("message", None, "is no JSON object", "Send a JSON-RPC request.")
        id_ = _id_of(message)
        return _request(message, id_)
    except ProtocolError as error_:
        raise BadRequest(error_, id_) from None


def _request(message: dict[str, Any], id_: Id | None) -> Request:
    if message.get("jsonrpc") != "2.0":
        raise ProtocolError("jsonrpc", message.get("jsonrpc"), 'must be the string "2.0"')
    if "id" not in message:
        raise ProtocolError("id", None, "is missing", "Give one: notifications are not supported.")
    if id_ is None:
        raise ProtocolError(
            "id", message["id"], f"must be an integer or a string of at most {ID_MAX} characters"
        )
    method = message.get("method")
    if not isinstance(method, str):
        raise ProtocolError("method", method, "must be a string")
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise ProtocolError("params", None, "must be an object: parameters are given by name")
    unknown = sorted(message.keys() - {"jsonrpc", "id", "method", "params"})
    if unknown:
        raise ProtocolError("key", unknown[0], "does not belong in a request")
    return Request(id_, method, params)


def decode_reply(line: bytes) -> dict[str, Any]:
    """The reply in one line: a dict that has ``id`` and either ``result`` or ``error``."""
    message = _loads(line)
    if (
        not isinstance(message, dict)
        or message.get("jsonrpc") != "2.0"
        or ("result" in message) == ("error" in message)
    ):
        raise ProtocolError("reply", None, "is no JSON-RPC 2.0 reply")
    failure = message.get("error")
    if "error" in message and not (
        isinstance(failure, dict)
        and isinstance(failure.get("code"), int)
        and isinstance(failure.get("message"), str)
    ):
        raise ProtocolError("reply", None, "has a malformed error")
    return message
