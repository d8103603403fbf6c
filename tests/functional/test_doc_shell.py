# SPDX-License-Identifier: Apache-2.0
"""Pages whose blocks need guests, libvirt or a compiler: make check-libvirt runs them.

Those that need none of it are in test_doc_host.py; that every block of every page has a mark, a
unit test says (tests/unit/test_doc_blocks.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from . import doc_bed_host, doc_bed_libvirt, doc_blocks, doc_typist

pytestmark = [
    pytest.mark.guest, pytest.mark.slow, pytest.mark.spare, pytest.mark.timeout(900),
]  # fmt: skip
KINDS = {**doc_bed_host.SLOW, **doc_bed_libvirt.KINDS}


@pytest.mark.parametrize(("page", "story"), doc_blocks.stories(KINDS))
def test_page(page: str, story: int, tmp_path: Path) -> None:
    doc_typist.story(page, story, KINDS, tmp_path)
