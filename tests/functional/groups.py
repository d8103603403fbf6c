# SPDX-License-Identifier: Apache-2.0
"""Which modules run together where two run at a time: ``pytest -n 2 --dist loadfile``.

A module's tests stay together, for they share a switch, and only between modules the names of
devices are certain to differ.  Modules whose tests all have QEMU's guests are one group: an
emulated guest takes all of a processor, and more than a pair at once would wait for each other.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

GUESTS = "guests"
_ALL_HAVE_GUESTS = re.compile(r"^pytestmark\s*=\s*\[\s*pytest\.mark\.guest\b", re.MULTILINE)


class Groups(LoadFileScheduling):
    """Of pytest-xdist's controller, which knows tests by their ids alone."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._root = config.rootpath

    def _split_scope(self, nodeid: str) -> str:
        """The group of a test."""
        return group(self._root / nodeid.split("::", 1)[0])


@functools.cache
def group(module: Path) -> str:
    """The group of a module's tests."""
    return GUESTS if _ALL_HAVE_GUESTS.search(module.read_text(encoding="utf-8")) else module.stem
