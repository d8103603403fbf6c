# SPDX-License-Identifier: Apache-2.0
"""The host in its files: sysfs, /etc and /dev, to read and, for root, to change.

Every path hangs below one directory and every program is started by one function, so that a test
has a host of its own.  What vanishes while it is read counts as absent.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

VFIO = "vfio-pci"
GROUP = "uswitch"  # who may open adapters
CONFIG = "/etc/uswitch/uplinks.d"  # a file for each adapter that was given to the switch
HERE = Path(__file__).resolve().parents[2]  # where "python -m" finds this very package
NOBODY = 65534  # owns nothing, on every Linux
PROGRAM_S = 60.0  # the longest that ip, modprobe or udevadm may take
LOCK = "/run/uswitch-uplink.lock"
LOCK_TRIES = 30  # one a second


class Refused(Exception):
    """What was asked for is not done: which, why, and what to do, for an operator."""

    status = 1  # what the program ends with; 4: there is no such thing


def run_program(command: Sequence[str], user: int | None = None) -> str:
    """What a program of the system says, if it ends well.  ``user``: whose rights it has."""
    line = " ".join(command)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            list(command), capture_output=True, check=False, text=True, errors="replace", cwd=HERE,
            timeout=PROGRAM_S, env=environment, stdin=subprocess.DEVNULL, user=user, group=user,
            extra_groups=None if user is None else (),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ChildProcessError(f"command {line}: could not be run: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or "it says nothing"
        raise ChildProcessError(f"command {line}: failed ({done.returncode}): {said}")
    return done.stdout


class Host:
    """``root``: what all paths hang below; ``run`` starts programs."""

    def __init__(self, root: str = "/", run: Callable[..., str] = run_program) -> None:
        self.root = Path(root)
        self.run = run

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str:
        try:
            return self.path(absolute).read_text("ascii", errors="replace").strip()
        except OSError:
            return ""

    def names(self, absolute: str) -> list[str]:
        return sorted(one.name for one in self.path(absolute).glob("*"))

    def link(self, absolute: str) -> str:
        """The last part of where a symbolic link leads, "" if there is none."""
        try:
            return os.path.basename(os.readlink(self.path(absolute)))
        except OSError:
            return ""

    def driver(self, address: str) -> str:
        """The kernel's, of a PCI device; "" if there is none."""
        return self.link(sysfs(address, "driver"))

    def interfaces(self, address: str) -> list[str]:
        """Of an adapter, in this network namespace.  virtio has a device in between."""
        where = self.path(sysfs(address))
        return sorted(one.name for way in ("net/*", "virtio*/net/*") for one in where.glob(way))

    def configured(self) -> list[str]:
        """Addresses of adapters that were given to the switch, by bind."""
        return sorted(one.stem for one in self.path(CONFIG).glob("[!.]*.conf"))


def sysfs(address: str, name: str = "") -> str:
    return f"/sys/bus/pci/devices/{address}/{name}"


class RootHost(Host):
    def check(self, command: str, addresses: Sequence[str]) -> None:
        """Whether that may be done.  To find out takes no rights, so who does it has none."""
        program = (sys.executable, "-m", "vif_uswitch.uplink.checks", command, *addresses)
        answer, _, text = self.run(program, NOBODY).strip().partition(" ")
        if answer != "yes":
            error = Refused(text or "the checks have no answer")
            error.status = 4 if answer == "4" else 1
            raise error

    def gid(self) -> int:
        return grp.getgrnam(GROUP).gr_gid

    def attempt(self, *command: str) -> None:
        """What helps where it can: a container has no udevd, a kernel not every module."""
        with suppress(OSError):
            self.run(command)

    def write(self, absolute: str, text: str) -> None:
        """A value into an existing file of sysfs, in one write."""
        path = self.path(absolute)
        try:
            with open(os.open(path, os.O_WRONLY), "wb", buffering=0) as file:
                file.write(text.encode("ascii"))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def store(self, absolute: str, text: str) -> bool:
        """A file of /etc, whole or not at all; a link there is replaced.  False: it was so."""
        path = self.path(absolute)
        if path.is_file() and not path.is_symlink() and path.read_text("utf-8") == text:
            return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        with fresh.open("x", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        return True

    def holders(self, nodes: Sequence[str]) -> str:
        """Who has one of these device files open: "uswitch-datapla (4711)"; "" for nobody."""
        found = set()
        for link in self.path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if os.readlink(link) in nodes:
                    pid = link.parts[-3]
                    found.add(f"{ascii(self.text(f'/proc/{pid}/comm'))[1:-1]} ({pid})")
        try:  # the kernel lets one only have a VFIO group, or a device of it
            os.close(os.open(self.path(nodes[0]), os.O_RDWR))
        except OSError as error:
            found |= {"a process"} if error.errno == errno.EBUSY and not found else set()
        return ", ".join(sorted(found))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One helper at a time changes this host."""
        self.path(LOCK).parent.mkdir(parents=True, exist_ok=True)
        with self.path(LOCK).open("w", encoding="ascii") as file:
            for left in reversed(range(LOCK_TRIES)):
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if not left:
                    raise Refused(f"uswitch-uplink: another one is at work. See: fuser -v {LOCK}")
                time.sleep(1.0)
            yield
