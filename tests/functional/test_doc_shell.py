# SPDX-License-Identifier: Apache-2.0
"""Every literal block of a page, in the page's order, done as its mark says (doc_blocks.py).

A page is one story and one test: what a block makes, the next one finds.  make check-libvirt runs
them; that every block has a mark, a unit test says (tests/unit/test_doc_blocks.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import TestbedError

from . import doc_beds, doc_blocks
from .doc_beds import Bed
from .doc_blocks import Step

pytestmark = [
    pytest.mark.guest, pytest.mark.slow, pytest.mark.spare, pytest.mark.timeout(900),
]  # fmt: skip


@pytest.mark.parametrize("name", doc_blocks.RUN)
def test_page(name: str, tmp_path: Path) -> None:
    page = doc_blocks.read(name)
    why = doc_beds.why_not(page.bed)
    if why:
        pytest.skip(why)
    said = ""
    with doc_beds.make(page.bed) as bed:
        for step in page.steps:
            print(f"--- {step}: {step.kind} {' '.join(step.words)}\n{step.text}", flush=True)
            try:
                said = do(bed, step, said, tmp_path)
            except TestbedError as error:
                pytest.fail(f"{step}: {error}\n{step.text}\n{bed.log()}")
            print(said)


def do(bed: Bed, step: Step, before: str, scratch: Path) -> str:
    """One block; what it printed.  ``before``: what the one before has."""
    if step.kind == "shows":
        lacks = doc_blocks.missing(step.text, before)
        assert not lacks, f"{step}: it has not printed, or not in this order: {lacks}\n{before}"
        return before
    if step.kind == "file":
        who, path = step.words if len(step.words) == 2 else (_writer(bed), step.words[0])
        bed.write(who, path, step.text)
        return before
    if step.kind == "text":
        return before
    if step.who == "guest":
        return "".join(_in_guest(bed, step, line) for line in step.text.splitlines() if line)
    if step.until():
        return bed.start(step.who, step.text, step.until(), scratch / f"{step.line}.out")
    done = bed.run(step.who, step.text)
    fails = step.words[1:] == ("fails",)
    assert bool(done.returncode) == fails, (
        f"{step} ended with status {done.returncode}:\n{step.text}\n{done.stdout}\n{bed.log()}")
    return done.stdout


def _in_guest(bed: Bed, step: Step, line: str) -> str:
    done = bed.guest(step.words[1], line)
    assert done.returncode == 0, f"{step}: '{line}' in {step.words[1]}: {done.stdout}"
    return done.stdout


def _writer(bed: Bed) -> str:
    return "user" if bed.uri.endswith("session") else "root"
