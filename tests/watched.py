# SPDX-License-Identifier: Apache-2.0
"""A switch for one test module, whose log must tell of no surprise at the end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from testbed import unprivileged
from testbed.daemons import Switch


@contextlib.contextmanager
def watched_switch(module: object, prefix: str) -> Iterator[Switch]:
    """A fresh one, in a directory whose name begins so.

    A module that kills processes itself says so by ``KILLS = True``; ``OPTIONS`` are configuration.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix))  # short: AF_UNIX has 107 bytes
    unprivileged.own(directory, unprivileged.identity())
    with Switch(directory, options=getattr(module, "OPTIONS", None)) as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log[-4000:]
    assert "ERROR" not in log or getattr(module, "KILLS", False), log[-4000:]
    shutil.rmtree(directory)
