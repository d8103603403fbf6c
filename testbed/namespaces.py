# SPDX-License-Identifier: Apache-2.0
"""What a test's own namespaces need of this machine, asked before they are made.

A mount namespace that has a ``/run`` (or ``/tmp``, ``/opt`` ...) of its own shows nothing of what
lies below the machine's.  Whoever makes one names those directories here and hears whether the
programs that it will start would be gone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def loaded_from() -> tuple[Path, ...]:
    """This environment, the Python that it was made of, and the checkout, which it may refer to."""
    return Path(sys.prefix), Path(sys.base_prefix), TOP


def hidden(*own: Path | str, needed: Iterable[Path] | None = None) -> str:
    """Which path is not to be seen where these directories are others; "" if all are.

    ``needed``: by default what programs of ours are loaded from.
    """
    for path in loaded_from() if needed is None else needed:
        for new in own:
            # A symbolic link on the way must be there, and so must what it leads to.
            if path.is_relative_to(new) or path.resolve().is_relative_to(new):
                return f"{path} is hidden inside, {new} is another one there: put it elsewhere"
    return ""


def cgroup_mount() -> Path | None:
    """Where the second version of control groups is."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None
