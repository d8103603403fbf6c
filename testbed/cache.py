# SPDX-License-Identifier: Apache-2.0
"""What is expensive to make is made once: kernel, initramfs, snapshots, the KVM verdict.

An entry is a directory ``<root>/<kind>/<key>``.  It is built under a temporary name and renamed
when complete, so that an interrupted run never leaves half an entry, and it is made readable for
everybody because QEMU runs as an unprivileged user.  A lock per kind keeps two test runs from
doing the same work at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed import TestbedError

ENVIRONMENT = "USWITCH_TESTBED_CACHE"
CHECKOUT = Path(__file__).resolve().parent.parent


def default_root() -> Path:
    """Where the Makefile keeps what it builds, unless the environment names another place.

    That is outside of a checkout which the unprivileged user could not read.
    """
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen)
    asked = subprocess.run([CHECKOUT / "tools" / "state_dir.sh", "create"], capture_output=True,
                           text=True, check=False)
    if asked.returncode:
        raise TestbedError(asked.stderr.strip())
    return CHECKOUT / asked.stdout.strip() / "testbed-cache"


def digest(*parts: object) -> str:
    """A short key of everything that makes one entry differ from another."""
    text = "\0".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """A key of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]


class Cache:
    """A directory of finished entries."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TestbedError(
                f"cannot create the test bed's cache {self.root}: {error.strerror}; "
                f"set {ENVIRONMENT} to a directory you may write"
            ) from error

    def entries(self, kind: str) -> list[Path]:
        """Finished entries of a kind, newest first."""
        found = [p for p in (self.root / kind).glob("[!.]*") if p.is_dir()]
        return sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)

    def entry(self, kind: str, key: str) -> Path:
        """Where the entry is, or would be."""
        return self.root / kind / key

    def get(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry, built by ``build(directory)`` if this is the first time."""
        target = self.entry(kind, key)
        if target.is_dir():
            return target
        target.parent.mkdir(exist_ok=True)
        with self._locked(kind):
            if not target.is_dir():
                self._build(target, build)
        return target

    def keep_newest(self, kind: str, count: int) -> None:
        """Forget all but the newest entries of a kind."""
        for old in self.entries(kind)[count:]:
            self.drop(kind, old.name)

    def drop(self, kind: str, key: str) -> None:
        """Forget an entry that turned out to be unusable."""
        with self._locked(kind):
            shutil.rmtree(self.entry(kind, key), ignore_errors=True)

    @staticmethod
    def _build(target: Path, build: Callable[[Path], None]) -> None:
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
        try:
            build(work)
            _readable_by_all(work)
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, kind: str) -> Iterator[None]:
        with (self.root / f".{kind}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _readable_by_all(top: Path) -> None:
    for path in [top, *top.rglob("*")]:
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
