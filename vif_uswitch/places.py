# SPDX-License-Identifier: Apache-2.0
"""Where a switch of a user's own lives: the XDG base directories, and what may be wrong with them.

``uswitchd --user`` and its clients must come to the same paths without asking
each other; this is the one place that knows them.  Standard library only, and
nothing is made or opened here.

    $XDG_RUNTIME_DIR/uswitch                         sockets, as long as the user is logged in
    $XDG_STATE_HOME/uswitch (~/.local/state)         ports and segments
    $XDG_CONFIG_HOME/uswitch/uswitchd.conf (~/.config)
"""

from __future__ import annotations

import os
import stat

from vif_uswitch.exceptions import InvalidInput

SYSTEM_RUN_DIR = "/run/uswitch"
CONTROL_SOCKET = "control.sock"  # in the run directory
UNIX_PATH_MAX = 107  # sun_path has 108 bytes, one is the terminating NUL
RUNTIME_VARIABLE = "XDG_RUNTIME_DIR"


def run_dir() -> str:
    """Of this user.  InvalidInput says why there is none, and how to get it.

    Without the variable, as under cron or su, what logind made for the user
    will do.
    """
    named = os.environ.get(RUNTIME_VARIABLE, "")
    directory = named or f"/run/user/{os.geteuid()}"
    why = _unfit(directory)
    if why:
        raise InvalidInput(
            RUNTIME_VARIABLE, named or None, why if named else f"is not set, and {directory} {why}",
            "Log in anew (ssh, console), or let root have it made for good: loginctl enable-linger"
            " USER. Without systemd: set it to a local directory of yours with mode 0700.",
        )  # fmt: skip
    return os.path.join(directory, "uswitch")


def state_dir() -> str:
    """Of this user; what survives a reboot."""
    return os.path.join(_base("XDG_STATE_HOME", ".local/state"), "uswitch")


def config_file() -> str:
    """Of this user; it need not exist."""
    return os.path.join(_base("XDG_CONFIG_HOME", ".config"), "uswitch", "uswitchd.conf")


def _base(variable: str, below_home: str) -> str:
    """The specification: what is not absolute is to be ignored."""
    named = os.environ.get(variable, "")
    return named if named.startswith("/") else os.path.expanduser(f"~/{below_home}")


def _unfit(directory: str) -> str:
    """Why sockets should not be there, "" if they may: whoever may write there may replace them."""
    if not directory.startswith("/"):
        return "is no absolute path"
    try:
        info = os.stat(directory)
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    if not stat.S_ISDIR(info.st_mode):
        return "is no directory"
    if info.st_uid != os.geteuid():
        return f"belongs to user {info.st_uid}, not to you ({os.geteuid()})"
    if info.st_mode & 0o022:
        return f"may be written by others (mode {stat.S_IMODE(info.st_mode):04o})"
    return ""
