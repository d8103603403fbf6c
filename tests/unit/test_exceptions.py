# SPDX-License-Identifier: Apache-2.0
"""Errors keep their parts on the way over the wire, and their text is harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch import exceptions
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound, USwitchError, rebuild, shown


def test_the_four_parts_make_one_sentence_each() -> None:
    error = InvalidInput("mtu", 67, "must be at least 68", "Use 1500.")
    assert str(error) == "mtu 67: must be at least 68. Use 1500."
    assert str(USwitchError("the dataplane refused x: errno 5")) == (
        "the dataplane refused x: errno 5"
    )
    assert str(NotFound("port", "vm1", "does not exist")) == "port vm1: does not exist"


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, USwitchError)
    ],
)
def test_errors_come_back_as_they_were(kind: type[USwitchError]) -> None:
    error = kind("what", "value", "why", "todo")
    again = rebuild(error.code, str(error), error.data())
    assert str(again) == str(error) and again.data() | {"error": ""} == error.data() | {"error": ""}
    if kind.__module__ == exceptions.__name__ and "code" in vars(kind):
        assert type(again) is kind


def test_nothing_is_looked_up_by_a_name_from_the_wire() -> None:
    again = rebuild(-5, "odd", {"error": "SystemExit", "what": "x"})
    assert type(again) is USwitchError
    assert str(rebuild(Conflict.code, "text", None)) == "text"
    assert str(rebuild(Conflict.code, "text", {"what": 5})) == "text"


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none()))
def test_shown_values_are_short_and_printable(value: object) -> None:
    text = shown(value)
    assert text and text.isprintable() and len(text) <= exceptions.SHOWN_MAX
