# SPDX-License-Identifier: Apache-2.0
"""The host in the hands of root: writes to sysfs and /etc, device files, who has them open.

``root.py`` and ``binding.py`` are all of the project that changes a host as
root.  They are kept small enough to be read in one go (a test counts).
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vif_uswitch.exceptions import Busy, NotFound
from vif_uswitch.uplink.host import Host, Run, run_program

GROUP = "uswitch"
LOCK_TRIES = 30  # one a second


class RootHost(Host):
    """``gid`` replaces that of the group, where a test has no such group."""

    def __init__(self, root: str = "/", run: Run = run_program, gid: int | None = None) -> None:
        super().__init__(root, run)
        self._gid = gid

    def write(self, absolute: str, text: str) -> None:
        """A value into an existing file of sysfs, in one write."""
        path = self.path(absolute)
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode("ascii"))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(fd)

    def store(self, absolute: str, text: str) -> None:
        """A file of /etc, whole or not at all.  A link in its place is replaced, not followed."""
        path = self.path(absolute)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(fresh, path)

    def gid(self) -> int:
        """Of the group that may open adapters."""
        if self._gid is not None:
            return self._gid
        try:
            return grp.getgrnam(GROUP).gr_gid
        except KeyError:
            raise NotFound(
                "group", GROUP, "does not exist, and nobody else shall open the adapter",
                f"Make it, and let the daemon's user be in it: groupadd --system {GROUP}",
            ) from None  # fmt: skip

    def is_open(self, node: str) -> bool:
        """Whether somebody has a VFIO group, or a device of it: the kernel lets one in only."""
        try:
            os.close(os.open(self.path(node), os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    def holders(self, nodes: Sequence[str]) -> list[str]:
        """Processes that have one of these device files open: "uswitch-datapla (4711)"."""
        found = []
        for pid in self.names("/proc"):
            if pid.isdigit() and any(self._leads_to(f"/proc/{pid}/fd/{fd}", nodes)
                                     for fd in self.names(f"/proc/{pid}/fd")):  # fmt: skip
                found.append(f"{self.text(f'/proc/{pid}/comm') or 'process'} ({pid})")
        return found

    def _leads_to(self, link: str, nodes: Sequence[str]) -> bool:
        try:
            return os.readlink(self.path(link)) in nodes
        except OSError:
            return False

    @contextmanager
    def lock(self, directory: str) -> Iterator[None]:
        """One helper at a time changes this host."""
        path = self.path(directory)
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for left in reversed(range(LOCK_TRIES)):
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not left:
                        raise Busy("uswitch-uplink", None, "another one is at work",
                                   f"See: fuser -v {directory}") from None  # fmt: skip
                    time.sleep(1.0)
            yield
        finally:
            os.close(fd)
