# SPDX-License-Identifier: Apache-2.0
"""Does what stands in the literal blocks of a page, in its order, as the marks say (doc_blocks.py).

Between two beds that a page names is one story: what a block makes, the next one finds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from testbed import TestbedError

from . import doc_blocks
from .doc_bed import Bed
from .doc_bed_host import Kind
from .doc_blocks import Step


def story(page: str, number: int, kinds: Mapping[str, Kind], scratch: Path) -> None:
    """One of a page's, skipped where its bed cannot be had."""
    told = doc_blocks.read(page).stories[number]
    kind = kinds[told.bed]
    if why := kind.why_not():
        pytest.skip(why)
    directory = Path(tempfile.mkdtemp(prefix="uswitch-doc-"))  # of few letters: sockets are in it
    directory.chmod(0o755)
    said = ""
    try:
        with kind.make(directory) as bed:
            for step in told.steps:
                print(f"--- {step}: {step.kind} {' '.join(step.words)}\n{step.text}", flush=True)
                try:
                    said = do(bed, step, said, scratch)
                except TestbedError as error:
                    pytest.fail(f"{step}: {error}\n{step.text}\n{bed.log()}")
                print(said)
    finally:
        shutil.rmtree(directory)


def do(bed: Bed, step: Step, before: str, scratch: Path) -> str:
    """One block; what it printed.  ``before``: what the one before has."""
    if step.kind == "shows":
        lacks = doc_blocks.missing(step.text, before)
        assert not lacks, f"{step}: it has not printed, or not in this order: {lacks}\n{before}"
        return before
    if step.kind == "file":
        who, path = step.words if len(step.words) == 2 else (bed.writer, step.words[0])
        bed.write(who, path, step.text)
        return before
    if step.who == "guest":
        return "".join(_in_guest(bed, step, line) for line in step.text.splitlines() if line)
    if step.until():
        return bed.start(step.who, step.text, step.until(), scratch / f"{step.line}.out")
    done = bed.run(step.who, step.text)
    fails = step.words[1:] == ("fails",)
    assert bool(done.returncode) == fails, (
        f"{step} ended with status {done.returncode}:\n{step.text}\n{done.stdout}\n{bed.log()}"
    )
    return done.stdout


def _in_guest(bed: Bed, step: Step, line: str) -> str:
    done = bed.guest(step.words[1], line)
    assert done.returncode == 0, f"{step}: '{line}' in {step.words[1]}: {done.stdout}"
    return done.stdout
