# SPDX-License-Identifier: Apache-2.0
"""From the parameters of a request to their checked type, or to an error a person understands.

msgspec does the checking; this file translates what it says: which parameter,
with which value, what was expected, and the sentence that ``api/types.py`` has
about it.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

from vif_uswitch.api import schema
from vif_uswitch.api.base import Params
from vif_uswitch.api.catalogue import CATALOGUE
from vif_uswitch.exceptions import InvalidInput

_KINDS = {
    "str": "a string",
    "int": "an integer",
    "bool": "a boolean",
    "float": "a number",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def convert(method: str, params: dict[str, Any]) -> Params:
    """``params`` as the type that ``method`` takes."""
    kind = CATALOGUE[method][0]
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as error:
        raise _translate(method, params, str(error)) from None


def _translate(method: str, params: dict[str, Any], text: str) -> InvalidInput:
    # In a map it says neither which key it does not like, nor whose value.
    text = text.replace(" - at `key` in `$", " - at `$")
    text, _, at = text.partition(" - at `$")
    path = re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", at)
    steps = [name or "[]" for name, _ in path]
    value = _value_at(params, path)
    name = next((step for step in reversed(steps) if step != "[]"), "parameters")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL):
        known = schema.members(method, steps)
        close = difflib.get_close_matches(found[1], known, n=1)
        todo = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known) or 'none'}."
        return InvalidInput("parameter", found[1], "is unknown", todo)
    if found := re.fullmatch(r"Object missing required field `(.*)`", text):
        about = schema.explain(method, [*steps, found[1]])
        return InvalidInput("parameter", found[1], "is missing", about)
    return InvalidInput(name, value, _expected(text), schema.explain(method, steps))


def _value_at(params: Any, path: list[tuple[str, str]]) -> object:
    for name, index in path:
        if isinstance(params, dict) and index:
            return params
        try:
            params = params[name] if name else params[int(index)]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    if params is None:
        return "null"
    return params


def _expected(text: str) -> str:
    if "matching regex" in text:
        return "is malformed"
    if text.startswith("Invalid enum value"):
        return "is not among the choices"
    text = re.sub(r"^Expected ", "must be ", text)
    text = re.sub(r"`([^`]*)`", lambda found: _kinds(found[1]), text)
    text = text.replace(" of length <=", " with a length <=").replace(", got ", ", not ")
    return text.replace("<=", "of at most").replace(">=", "of at least")


def _kinds(names: str) -> str:
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | "))
