# SPDX-License-Identifier: Apache-2.0
"""Where a vhost-user socket may be: below ``vhost_socket_dir``, and really there.

Called by ``service.py`` before a port is desired.  Whoever may use the
control API must not be able to make uswitchd remove, create or connect to a
socket elsewhere, neither by ``..`` nor by a symbolic link.
"""

from __future__ import annotations

import os
import stat

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.places import UNIX_PATH_MAX


def check_socket_path(path: str, directory: str) -> str:
    """The canonical form of ``path`` if a vhost-user socket may be there, else InvalidInput.

    Canonical, so that two spellings of one socket (/var/run/x and /run/x) are
    one path to everything that compares them.
    """
    if not path.isprintable():
        raise InvalidInput("path", path, "has characters that cannot be printed")
    if not path.startswith("/"):
        raise InvalidInput("path", path, "is not absolute", f"Give a path below {directory}.")
    if os.path.normpath(path) != path:
        raise InvalidInput("path", path, "has '..', '.', '//' or a '/' at the end")
    base = os.path.realpath(directory)
    parent, name = os.path.split(path)
    real = os.path.join(os.path.realpath(parent), name)
    if os.path.commonpath([base, real]) != base or real == base:
        raise InvalidInput(
            "path", path, f"is not below vhost_socket_dir ({directory})"
            + ("" if real == path else f": it leads to {real}"),
            f"Give a path such as {directory}/NAME.sock.",
        )  # fmt: skip
    size = len(os.fsencode(real))
    if size > UNIX_PATH_MAX:
        raise InvalidInput(
            "path", real, f"has {size} bytes; the kernel allows {UNIX_PATH_MAX} for a socket",
            "Use a shorter name, or set a shorter vhost_socket_dir.",
        )  # fmt: skip
    _refuse_other_file(real)
    return real


def _refuse_other_file(path: str) -> None:
    """What is there already must be a socket: QEMU's, or one left behind."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # nothing there, or not for us to see: the fabric reports what it meets
    if not stat.S_ISSOCK(mode):
        raise InvalidInput("path", path, "exists and is no socket", "Remove it.")
