# SPDX-License-Identifier: Apache-2.0
"""Reading a file that nobody vouches for: it may be huge, binary, a pipe, or closed to us."""

from __future__ import annotations

import os
import stat
from pathlib import Path

READ_MAX = 1 << 20


def read(path: Path) -> str | None:
    """The first megabyte of a regular file; None where there is none.  PermissionError is let
    through: "may not" and "is not" are different answers."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(READ_MAX).decode("utf-8", "replace")
    except PermissionError:  # files of /proc are asked for rights when they are read
        raise
    except OSError:
        return None
    finally:
        os.close(fd)


def read_if_allowed(path: Path) -> str | None:
    try:
        return read(path)
    except PermissionError:
        return None


def names(directory: Path) -> list[str]:
    """What is in a directory; nothing where there is none, or it is closed to us."""
    try:
        return sorted(os.listdir(directory))
    except (OSError, ValueError):
        return []
