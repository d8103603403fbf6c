# SPDX-License-Identifier: Apache-2.0
"""Fixtures of test_neutron_*.py: one cloud for all, which each test leaves empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.xdp_bed import missing
from tests.openstack.neutron_cloud import Cloud, pid_name


@pytest.fixture(scope="session")
def running_cloud() -> Iterator[Cloud]:
    why = missing()
    if why is not None:
        pytest.skip(why)
    made = Cloud(pid_name("uswn"))
    try:
        yield made.start()
        assert "Traceback" not in made.switch.log.read_text(), made.switch.tail(40)
        assert not made.agent.tracebacks()
    finally:
        made.close()


@pytest.fixture
def cloud(running_cloud: Cloud) -> Iterator[Cloud]:
    """With nothing in it; and nothing must be left in the switch when all is deleted."""
    yield running_cloud
    running_cloud.clean()
