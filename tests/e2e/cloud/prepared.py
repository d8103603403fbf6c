# SPDX-License-Identifier: Apache-2.0
"""Databases as they are when all tables are made, kept from one run for the next.

A dozen programs make them, one after the other, and each takes seconds to start: together that is
longer than all else until the cloud is up.  What is kept is known by the versions of everything
that had a part in it.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

from testbed.cache import Cache, digest, file_digest
from tests.e2e.cloud.database import server

KIND = "e2e-databases"
PARTS = ("mariadb", "fernet", "credential")  # directories of the state
SOURCES = ("controller.py", "database.py", "neutron.py", "nova.py", "settings.py")


def key() -> str:
    """Of what would be made now."""
    installed = {one.name: one.version for one in importlib.metadata.distributions()}
    installed.pop("vif-uswitch", None)
    version = subprocess.run([server(), "--version"], capture_output=True, text=True, check=True)
    sources = [file_digest(Path(__file__).with_name(name)) for name in SOURCES]
    return digest(version.stdout, *sorted(installed.items()), *sources)


def restore(state: Path) -> bool:
    """Put them into ``state``; False if there are none."""
    entry = Cache().entry(KIND, key())
    if not entry.is_dir():
        return False
    for part in PARTS:
        shutil.copytree(entry / part, state / part)
    return True


def keep(state: Path) -> None:
    """Keep them; the server must have been stopped."""
    def copy(work: Path) -> None:
        for part in PARTS:
            shutil.copytree(state / part, work / part)

    cache = Cache()
    cache.get(KIND, key(), copy)
    cache.keep_newest(KIND, 1)
