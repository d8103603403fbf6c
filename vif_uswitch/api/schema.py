# SPDX-License-Identifier: Apache-2.0
"""The published description of the control API, made from ``catalogue.py``.

``python -m vif_uswitch.api.schema > vif_uswitch/api/schema.json`` refreshes
the committed copy; a test compares the two.  The daemon answers the method
``v1.schema`` with the same text, and ``explain()`` takes from it the sentence
that stands in an error message.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import msgspec

from vif_uswitch.api import wire
from vif_uswitch.api.catalogue import CATALOGUE


@functools.cache
def catalogue() -> dict[str, Any]:
    """Methods with references to the JSON Schema (2020-12) of their parameters and results."""
    kinds = [kind for entry in CATALOGUE.values() for kind in entry[:2]]
    refs, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    methods = {}
    for position, (name, (_, _, text)) in enumerate(CATALOGUE.items()):
        methods[name] = {
            "description": text,
            "params": refs[2 * position],
            "result": refs[2 * position + 1],
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "uswitchd control API",
        "api": wire.API_VERSION,
        "framing": f"JSON-RPC 2.0, one message a line of at most {wire.MAX_LINE} bytes",
        "methods": methods,
        "$defs": dict(sorted(components.items())),
    }


def explain(method: str, path: list[str]) -> str:
    """What is said about the parameter at ``path`` (object keys, "[]" for elements), or ""."""
    text = ""
    for end in range(1, len(path) + 1):
        node = _at(method, path[:end])
        choices = ", ".join(str(choice) for choice in node.get("enum", ()))
        text = _described(node) or (f"One of: {choices}." if choices else text)
    return text


def members(method: str, path: list[str]) -> list[str]:
    """The names that the object at ``path`` may have."""
    return list(_inside(_at(method, path)).get("properties", ()))


def _at(method: str, path: list[str]) -> dict[str, Any]:
    node: dict[str, Any] = catalogue()["methods"][method]["params"]
    for step in path:
        node = _inside(node)
        node = node.get("items", {}) if step == "[]" else node.get("properties", {}).get(step, {})
    return node


def _alternatives(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *node.get("anyOf", [])]


def _described(node: dict[str, Any]) -> str | None:
    return next((alt["description"] for alt in _alternatives(node) if "description" in alt), None)


def _inside(node: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference, direct or as an alternative, leads to."""
    for alternative in _alternatives(node):
        if "$ref" in alternative:
            found: dict[str, Any] = catalogue()["$defs"][alternative["$ref"].rsplit("/", 1)[1]]
            return found
    return next((alt for alt in _alternatives(node) if "items" in alt or "properties" in alt), node)


def main() -> int:
    json.dump(catalogue(), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
