# SPDX-License-Identifier: Apache-2.0
"""The world of a cloud has a /srv and a /run of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.world import hidden


@pytest.mark.parametrize("path", ["/srv/clone/tests/e2e/world.py", "/run/venv", "/srv"])
def test_a_checkout_that_would_be_hidden_is_told(path: str) -> None:
    said = hidden(Path("/usr"), Path(path))
    assert said.startswith(f"{path} is hidden inside") and "clone it elsewhere" in said


def test_all_others_are_fine() -> None:
    assert hidden(Path("/home/me/clone"), Path("/srvclone"), Path("/opt/run/venv")) == ""
