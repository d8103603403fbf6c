# SPDX-License-Identifier: Apache-2.0
"""What is installed in somebody else's Python: name, version and entry points of distributions.

Read from the metadata directories (PEP 376, 566, and what came before).
importlib.metadata would do, but trusts that every file is a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vif_uswitch.cmd.doctor import files


@dataclass(frozen=True, slots=True)
class Distribution:
    """``points``: (group, name) of its entry points."""

    name: str
    version: str
    points: tuple[tuple[str, str], ...]


def distributions(directories: Sequence[Path]) -> Iterator[Distribution]:
    """Each name once: the first on the path is what gets imported."""
    seen: set[str] = set()
    for directory in directories:
        for where in _metadata(directory):
            found = _read(where)
            if found is not None and found.name not in seen:
                seen.add(found.name)
                yield found


def _metadata(directory: Path) -> Iterator[Path]:
    for name in files.names(directory):
        if name.endswith((".dist-info", ".egg-info")):
            yield directory / name
        elif name.endswith(".egg-link"):  # "setup.py develop": the first line names a checkout
            first = (files.read_if_allowed(directory / name) or "").partition("\n")[0]
            checkout = Path(first)
            yield from (checkout / one for one in files.names(checkout)
                        if first.startswith("/") and one.endswith(".egg-info"))


def _read(where: Path) -> Distribution | None:
    texts = (files.read_if_allowed(path)
             for path in (where / "METADATA", where / "PKG-INFO", where))
    fields = _fields(next((text for text in texts if text), ""))
    if not fields.get("name"):
        return None
    points = _points(files.read_if_allowed(where / "entry_points.txt") or "")
    return Distribution(normal(fields["name"]), fields.get("version", ""), tuple(points))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fields(text: str) -> dict[str, str]:
    """The head of METADATA, up to the first empty line."""
    head = text.partition("\n\n")[0]
    return {name.lower(): value.strip()
            for name, colon, value in (line.partition(":") for line in head.splitlines()) if colon}


def _points(text: str) -> Iterator[tuple[str, str]]:
    group = ""
    for line in text.splitlines():
        section = re.fullmatch(r"\s*\[([^\]]+)\]\s*", line)
        if section:
            group = section.group(1).strip()
        elif "=" in line and not line.lstrip().startswith(("#", ";")):
            yield group, line.partition("=")[0].strip()
