# SPDX-License-Identifier: Apache-2.0
"""The directories of one uswitchd, and the locks that keep a second one out of them.

The locks are flock(2) on a file: the kernel frees them however the process
ends, so a stale one does not exist.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import stat

from vif_uswitch.exceptions import Busy, Unavailable

LOCK_FILE = "uswitchd.lock"


def prepare_directory(
    path: str, mode: int, option: str, gid: int | None = None, *, own: bool = False
) -> None:
    """Makes ``path`` if it is not there.  One that exists keeps its owner and mode.

    ``own``: of a user's own switch: root has nothing to make, and what is there must be the
    user's alone to write, or somebody else could put another socket in the place of ours.
    """
    try:
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        try:
            os.mkdir(path, mode)
            if gid is not None:
                os.chown(path, -1, gid)
            os.chmod(path, mode)  # mkdir() obeys the umask
        except FileExistsError:
            pass
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if own:
            _refuse_others(path)
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "not writable")
    except OSError as error:
        make = f"Make it once, as root: install -d -o {user_name()} {path}"
        if own:
            make = f"It has to be yours ({user_name()}) alone to write"
        raise Unavailable(
            option, path, f"cannot be used as a directory: {error.strerror}",
            f"{make}; or set {option} elsewhere.",
        ) from None  # fmt: skip


def _refuse_others(path: str) -> None:
    """PermissionError where somebody else owns it, or the link that leads there, or may write."""
    info = os.stat(path)
    if {info.st_uid, os.lstat(path).st_uid} != {os.geteuid()}:
        raise PermissionError(errno.EACCES, "it belongs to somebody else")
    if info.st_mode & 0o022:
        mode = stat.S_IMODE(info.st_mode)
        raise PermissionError(errno.EACCES, f"others may write there (mode {mode:04o})")


def lock(directory: str, option: str) -> int:
    """Takes the lock of ``directory`` for the life of the process; the open file is returned."""
    path = os.path.join(directory, LOCK_FILE)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable("lock file", path, f"cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = _holder(fd)
        os.close(fd)
        raise Busy(
            option, directory, f"another uswitchd{holder} uses it",
            f"Stop that one, or set {option} (and the other directories) elsewhere.",
        ) from None  # fmt: skip
    # The note for the message above; a full disk must not keep the switch from starting.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
    return fd


def _holder(fd: int) -> str:
    try:
        pid = os.pread(fd, 32, 0).decode("ascii").strip()
        return f" (pid {pid})" if pid.isdecimal() else ""
    except (OSError, ValueError):
        return ""


def user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
