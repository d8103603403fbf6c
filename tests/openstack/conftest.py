# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a running switch for real Nova, Neutron and os-vif in this process.

The environment is its own ("make check-openstack" makes it): OpenStack of one
release, and this checkout installed beside it as on a compute node, entry
points included.  So are our programs: the daemons under test are started from
this environment too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.daemons import Switch

# Neutron's, session-wide: one cloud for all of test_neutron_*.py.
from .neutron_fixtures import cloud, running_cloud  # noqa: F401

if util.find_spec("nova") is None or util.find_spec("neutron") is None:
    raise pytest.UsageError("tests/openstack need Nova and Neutron: run make check-openstack")


def pytest_configure(config: pytest.Config) -> None:
    """What OpenStack's libraries say of each other fills pages, and is theirs to mend."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def switch(request: pytest.FixtureRequest) -> Iterator[Switch]:
    """A fresh switch; its log must tell of no surprise at the end.

    A module that kills processes itself says so by ``KILLS = True``; ``OPTIONS`` are configuration.
    """
    directory = Path(tempfile.mkdtemp(prefix="uswitch-os-"))  # short: AF_UNIX has 107 bytes
    unprivileged.own(directory, unprivileged.identity())
    with Switch(directory, options=getattr(request.module, "OPTIONS", None)) as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log[-4000:]
    assert "ERROR" not in log or getattr(request.module, "KILLS", False), log[-4000:]
    shutil.rmtree(directory)
