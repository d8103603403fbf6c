# SPDX-License-Identifier: Apache-2.0
"""Tables, JSON, CSV and values; numbers as people read them."""

from __future__ import annotations

import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch.cmd import output, text
from vif_uswitch.cmd.output import Column
from vif_uswitch.exceptions import InvalidInput

COLUMNS = (
    Column("name", "Name"),
    Column("size", "Size", text.size, right=True),
    Column("tags", "Tags"),
    Column("more", "More", shown=False),
)
ROWS = [
    {"name": "b", "size": 2048, "tags": ["x", "y"], "more": None},
    {"name": "a\x1b[31m\n", "size": 10, "tags": [], "more": True},
]


def args(format_: str = "table", column: list[str] | None = None, sort: str | None = None
         ) -> argparse.Namespace:  # fmt: skip
    return argparse.Namespace(format=format_, column=column, sort_column=sort)


def test_a_table_is_aligned_and_harmless() -> None:
    assert output.render_list(ROWS, COLUMNS, args(), "") == (
        "NAME            SIZE  TAGS\n"
        "b            2.0 KiB  x y\n"
        "a\\x1b[31m\\n     10 B  -"
    )


def test_empty_lists() -> None:
    assert output.render_list([], COLUMNS, args(), "(none)") == "(none)"
    assert output.render_list([], COLUMNS, args("json"), "(none)") == "[]"
    assert output.render_list([], COLUMNS, args("csv"), "(none)") == "name,size,tags"
    assert output.render_list([], COLUMNS, args("value"), "(none)") == ""


def test_json_has_raw_values_of_all_columns() -> None:
    assert json.loads(output.render_list(ROWS, COLUMNS, args("json"), "")) == ROWS
    one = output.render_list(ROWS, COLUMNS, args("json", ["more"]), "")
    assert json.loads(one) == [{"more": None}, {"more": True}]


def test_csv_value_columns_and_sorting() -> None:
    assert output.render_list(ROWS, COLUMNS, args("csv", ["Name", "size"], "size"), "") == (
        "name,size\na\\x1b[31m\\n,10 B\nb,2.0 KiB"
    )
    assert output.render_list(ROWS, COLUMNS, args("value", ["more", "name"], "name"), "") == (
        "yes a\\x1b[31m\\n\n- b"
    )


def test_unknown_columns_are_named() -> None:
    for bad in (args(column=["nme"]), args(sort="nme")):
        with pytest.raises(InvalidInput, match=r"column nme.*Known: name, size"):
            output.render_list(ROWS, COLUMNS, bad, "")


def test_one_thing_line_by_line() -> None:
    columns = (*COLUMNS, Column("lines", "Lines"))
    row = {"name": "n", "size": 1, "tags": ["word"] * 40, "more": 0, "lines": "one\ntwo"}
    lines = output.render_one(row, columns, args()).splitlines()
    assert lines[0] == "Name   n" and lines[1] == "Size   1 B"
    assert lines[2].startswith("Tags   word word") and lines[3].startswith("       word")
    assert lines[-2:] == ["Lines  one", "       two"]
    assert all(len(line) <= 100 for line in lines)


@given(st.lists(st.fixed_dictionaries({"name": st.text(), "size": st.integers(0)}), max_size=5))
def test_any_value_gives_one_line_a_row(rows: list[dict[str, object]]) -> None:
    lines = output.render_list(rows, COLUMNS, args(), "(none)").split("\n")
    assert len(lines) == max(1, len(rows) + 1 if rows else 1)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (9999, "9999"), (10000, "10.0 k"), (123456, "123 k"), (1.234e6, "1.23 M"),
     (98765432, "98.8 M"), (1e9, "1.00 G"), (5e12, "5.00 T")],
)  # fmt: skip
def test_count(value: float, expected: str) -> None:
    assert text.count(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1.0 MiB"), (1 << 50, "1048576.0 GiB")],
)
def test_size(value: int, expected: str) -> None:
    assert text.size(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, "5 s"), (65, "1 min 5 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_duration(value: int, expected: str) -> None:
    assert text.duration(value) == expected
