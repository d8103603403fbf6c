# SPDX-License-Identifier: Apache-2.0
"""Names of bits and reasons; the reasons are those of dataplane/drop.h."""

from __future__ import annotations

import pathlib
import re

from vif_uswitch.api import names

DROP_H = pathlib.Path(__file__).resolve().parents[3] / "dataplane" / "drop.h"


def test_drop_reasons_are_those_of_the_dataplane() -> None:
    text = DROP_H.read_text(encoding="utf-8")
    body = text[text.index("#define DROP_REASONS") : text.index("#define BREAK_REASONS")]
    rows = re.findall(r'X\((\w+), (?:IN|OUT), "([^"]*)"\)', body)
    assert len(rows) > 20
    assert {name: meaning for name, meaning in rows if name != "none"} == names.DROP_TEXT


def test_bits_by_name() -> None:
    mask = 1 << 0 | 1 << 32 | 1 << 41
    assert names.bits(mask, names.VIRTIO_FEATURES) == ["CSUM", "VERSION_1", "bit 41"]
    assert names.bits(0, names.VIRTIO_FEATURES) == []
    assert names.bits(1 << 15, names.PROTOCOL_FEATURES) == ["CONFIGURE_MEM_SLOTS"]


def test_names_are_unique() -> None:
    for table in (names.VIRTIO_FEATURES, names.PROTOCOL_FEATURES):
        assert len(set(table.values())) == len(table)


def test_a_reason_that_is_new_still_reads_well() -> None:
    assert names.drop_text("solar_flare") == "solar flare"
