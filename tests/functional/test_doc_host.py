# SPDX-License-Identifier: Apache-2.0
"""Pages whose blocks need a host and no guest, typed there one by one (doc_bed_host.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import doc_bed_host, doc_blocks, doc_typist


@pytest.mark.parametrize(("page", "story"), doc_blocks.stories(doc_bed_host.QUICK))
def test_page(page: str, story: int, tmp_path: Path) -> None:
    doc_typist.story(page, story, doc_bed_host.QUICK, tmp_path)
