# SPDX-License-Identifier: Apache-2.0
"""What ``uswitchctl`` prints: the same rows as an aligned table, JSON, CSV or bare values.

JSON and CSV carry the API's own member names and raw values, so that scripts
do not depend on how a table looks.  A table has a title line and no borders;
it contains nothing that a terminal would obey.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vif_uswitch.exceptions import InvalidInput

FORMATS = ("table", "json", "csv", "value")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """``key`` in the row, ``title`` in the table; ``shown``: by default."""

    key: str
    title: str
    text: Callable[[Any], str] | None = None  # how a table and CSV show the value
    right: bool = False
    shown: bool = True


def add_options(parser: argparse.ArgumentParser, *, sort: bool) -> None:
    parser.add_argument(
        "-f", "--format", choices=FORMATS, default="table", help="output format (default: table)"
    )
    parser.add_argument(
        "-c", "--column", action="append", metavar="COLUMN",
        help="show this column only; may be repeated",
    )  # fmt: skip
    if sort:
        parser.add_argument("--sort-column", metavar="COLUMN", help="sort the rows by this column")


def plain(value: Any) -> str:
    """A value in a table: None and "" are "-", lists are joined; safe for a terminal."""
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key}={plain(item)}" for key, item in value.items())
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _chosen(columns: Sequence[Column], names: Iterable[str] | None) -> list[Column]:
    if not names:
        return list(columns)
    return [_column(columns, name) for name in names]


def _column(columns: Sequence[Column], name: str) -> Column:
    for column in columns:
        if name.lower() in (column.key, column.title.lower()):
            return column
    known = ", ".join(column.key for column in columns)
    raise InvalidInput("column", name, "does not exist here", f"Known: {known}.")


def _text(column: Column, row: Row) -> str:
    value = row.get(column.key)
    return plain(column.text(value) if column.text and value is not None else value)


def table(rows: Sequence[Row], columns: Sequence[Column], indent: str = "") -> str:
    """Aligned lines with a title; no blanks at the ends of lines."""
    cells = [[column.title.upper() for column in columns]]
    cells += [[_text(column, row) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = []
    for line in cells:
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        lines.append((indent + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def render_list(
    rows: Sequence[Row], columns: Sequence[Column], args: argparse.Namespace, empty: str
) -> str:
    """Rows in the format that was asked for; ``empty`` is the table's text without any."""
    chosen = _chosen(columns, args.column)
    if args.sort_column:
        by = _column(columns, args.sort_column)
        rows = sorted(rows, key=lambda row: _sort_key(row.get(by.key)))
    if args.format == "json":
        return json.dumps([_raw(row, chosen) for row in rows], indent=2)
    if not args.column:
        chosen = [column for column in chosen if column.shown]
    if args.format == "csv":
        return _csv([[c.key for c in chosen], *([_text(c, row) for c in chosen] for row in rows)])
    if args.format == "value":
        return "\n".join(" ".join(_text(c, row) for c in chosen) for row in rows)
    return table(rows, chosen) if rows else empty


def render_one(row: Row, columns: Sequence[Column], args: argparse.Namespace) -> str:
    """One thing, a line for each of its members."""
    chosen = _chosen(columns, args.column)
    if args.format == "json":
        return json.dumps(_raw(row, chosen), indent=2)
    if args.format == "csv":
        return _csv([[c.key for c in chosen], [_text(c, row) for c in chosen]])
    if args.format == "value":
        return "\n".join(_text(column, row) for column in chosen)
    width = max(len(column.title) for column in chosen)
    lines = []
    for column in chosen:
        title = column.title
        for piece in _pieces(column, row.get(column.key), 96 - width):
            lines.append(f"{title.ljust(width)}  {piece}".rstrip())
            title = ""
    return "\n".join(lines)


def _pieces(column: Column, value: Any, width: int) -> list[str]:
    """A member's value as the lines it takes: its own line breaks, and long lines wrapped."""
    text = column.text(value) if column.text and value is not None else value
    parts = text.split("\n") if isinstance(text, str) else [text]
    pieces = []
    for part in parts:
        pieces += textwrap.wrap(plain(part), width, break_long_words=False)
    return pieces


def _raw(row: Row, columns: Sequence[Column]) -> Row:
    return {column.key: row.get(column.key) for column in columns}


def _csv(lines: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue().rstrip("\n")


def _sort_key(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return (0, value, "")
    return (1, 0, plain(value))
