# SPDX-License-Identifier: Apache-2.0
"""What a front-end gives away, for tests of sessions without one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.unit.daemon import vhost_peer as wire


@pytest.fixture(scope="module")
def ram() -> Iterator[int]:
    fd = wire.ram()
    yield fd
    os.close(fd)


@pytest.fixture(scope="module")
def event() -> Iterator[int]:
    fd = wire.eventfd()
    yield fd
    os.close(fd)
