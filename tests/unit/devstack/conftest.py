# SPDX-License-Identifier: Apache-2.0
"""A cloud that was stacked once with the two lines; for tests that only look."""

from __future__ import annotations

import pytest

from tests.unit.devstack.bed import Cloud


@pytest.fixture(scope="session")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    cloud = Cloud(tmp_path_factory.mktemp("stacked"))
    cloud.stack()
    return cloud
