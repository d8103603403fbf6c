# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a running switch for real Nova, Neutron and os-vif in this process.

The environment is its own ("make check-openstack" makes it): OpenStack of one
release, and this checkout installed beside it as on a compute node, entry
points included.  So are our programs: the daemons under test are started from
this environment too.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util

import pytest

from testbed.daemons import Switch
from tests.watched import watched_switch

# Neutron's, session-wide: one cloud for all of test_neutron_*.py.
from .neutron_fixtures import cloud, running_cloud  # noqa: F401

if util.find_spec("nova") is None or util.find_spec("neutron") is None:
    raise pytest.UsageError("tests/openstack need Nova and Neutron: run make check-openstack")


def pytest_configure(config: pytest.Config) -> None:
    """What OpenStack's libraries say of each other fills pages, and is theirs to mend."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def switch(request: pytest.FixtureRequest) -> Iterator[Switch]:
    with watched_switch(request.module, "uswitch-os-") as running:
        yield running
