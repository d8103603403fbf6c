# SPDX-License-Identifier: Apache-2.0
"""Seeded bugs: each one that a proof or fuzz target lists still fits the sources."""

from __future__ import annotations

import pathlib

import pytest

from tools import seeded

TESTS = sorted([*(seeded.TOP / "tests" / "proofs").glob("prove_*.c"),
                *(seeded.TOP / "tests" / "fuzz").glob("fuzz_*.c")])


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.stem)
def test_every_bug_can_be_planted(test: pathlib.Path, tmp_path: pathlib.Path) -> None:
    bugs = seeded.bugs_of(test)
    assert bugs or test.stem.startswith("fuzz_"), "a proof without a bug proves nothing"
    for bug in bugs:
        planted = seeded.plant(bug, tmp_path / "dataplane") / bug.file
        assert planted.read_text(encoding="utf-8").count(bug.new) >= 1


def test_a_bug_that_does_not_fit_is_an_error(tmp_path: pathlib.Path) -> None:
    bug = seeded.Bug("gone", "fdb.c", "no such text at all", "x", "y")
    with pytest.raises(seeded.Unplantable, match="0 times"):
        seeded.plant(bug, tmp_path / "copy")
    with pytest.raises(seeded.Unplantable):
        seeded.plant(seeded.Bug("gone", "no_such.c", "text", "x", "y"), tmp_path / "copy")


def test_a_bug_that_cannot_be_read_is_an_error(tmp_path: pathlib.Path) -> None:
    head = tmp_path / "prove_x.c"
    head.write_text("/*\n * BUG a b.c\n *   - x\n *   + y\\nz\n *   ! w\n */\n")
    assert seeded.bugs_of(head) == [seeded.Bug("a", "b.c", "x", "y\nz", "w")]
    head.write_text("/*\n * BUG a b.c\n *   - x\n */\n")
    with pytest.raises(seeded.Unplantable):
        seeded.bugs_of(head)
