# SPDX-License-Identifier: Apache-2.0
"""The host as checks see it: files below a root directory, and programs that say their version.

Everything is read anew, bounded, and believed as little as possible: a file
may be absent (None), closed to us (``Unseen``), huge, binary, or not a file at
all.  ``root`` is "/" in life, and a directory that looks like a host in tests.
"""

from __future__ import annotations

import configparser
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vif_uswitch.access import Identity
from vif_uswitch.cmd.doctor import files
from vif_uswitch.cmd.doctor.accounts import Accounts
from vif_uswitch.cmd.doctor.model import Unseen

PROGRAM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin",
                       "/bin", "/usr/libexec")  # fmt: skip
PROGRAM_TIMEOUT_S = 10.0

Ini = dict[str, dict[str, str]]
Run = Callable[[Sequence[str]], str]
Capacity = Callable[[Path], int]


def run_program(command: Sequence[str]) -> str:
    """What it writes to standard output, "" if that did not work out."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=PROGRAM_TIMEOUT_S, cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout[: files.READ_MAX].decode("utf-8", "replace")


def capacity_of(path: Path) -> int:
    """Bytes that the file system there can hold; 0: it does not say, or there is none."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize


class Host:
    """``me``: who asks; ``run``: how programs are asked; ``capacity``: how file systems are."""

    def __init__(
        self, root: Path = Path("/"), run: Run = run_program, capacity: Capacity = capacity_of
    ) -> None:
        self.root = root
        self.run = run
        self.capacity = capacity
        self.accounts = Accounts(root)
        self.me = self.accounts.me()

    def at(self, path: str, root: Path | None = None) -> Path:
        """``path`` as it is called on the host, below our root (or another one)."""
        return (root or self.root) / path.lstrip("/")

    # ---- files ----

    def text(self, path: str, root: Path | None = None) -> str | None:
        """The first megabyte; None where there is no such file."""
        try:
            return files.read(self.at(path, root))
        except PermissionError:
            raise Unseen(path) from None

    def line(self, path: str) -> str:
        """A file of one line, such as those of /sys; "" where there is none."""
        return (self.text(path) or "").strip()

    def number(self, path: str) -> int | None:
        word = self.line(path)
        return int(word) if word.isascii() and word.isdecimal() else None

    def names(self, path: str, root: Path | None = None) -> list[str]:
        try:
            return sorted(os.listdir(self.at(path, root)))
        except PermissionError:
            raise Unseen(path) from None
        except OSError:
            return []

    def stat(self, path: str) -> os.stat_result | None:
        try:
            return os.stat(self.at(path))
        except PermissionError:
            raise Unseen(path) from None
        except OSError:
            return None

    def target(self, path: str) -> str:
        """The last part of what a symbolic link leads to, "" if there is none."""
        try:
            return os.path.basename(os.readlink(self.at(path)))
        except PermissionError:
            raise Unseen(path) from None
        except OSError:
            return ""

    def ini(self, paths: Sequence[str], root: Path | None = None) -> Ini | None:
        """Options of several files, later ones win; None where none of them exists.

        ValueError names the file that is no configuration.
        """
        merged: Ini = {}
        found = False
        for path in paths:
            text = self.text(path, root)
            if text is None:
                continue
            found = True
            for section, options in parse_ini(path, text).items():
                merged.setdefault(section, {}).update(options)
        return merged if found else None

    # ---- programs ----

    def program(self, name: str, more: Sequence[str] = ()) -> str:
        """Where a program is, as its path on the host, "" if it is not there."""
        for directory in (*PROGRAM_DIRECTORIES, *more):
            path = f"{directory}/{name}"
            try:
                if os.access(self.at(path), os.X_OK) and self.at(path).is_file():
                    return path
            except OSError:
                continue
        return ""

    def identity_of(self, user: str) -> Identity | None:
        return self.accounts.user(user)


def parse_ini(path: str, text: str) -> Ini:
    """Sections and options of a file for oslo.config, as far as a check needs them."""
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, allow_no_value=True, default_section="\0",
        delimiters=("=", ":"), comment_prefixes=("#", ";"), inline_comment_prefixes=None,
    )  # fmt: skip
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise ValueError(f"{path} is no configuration: {str(error).splitlines()[0]}") from None
    return {
        section: {name: (value or "").strip().strip("'\"")
                  for name, value in parser.items(section)}
        for section in parser.sections()
    }


def words(text: str) -> Iterator[list[str]]:
    """The fields of each line that has some."""
    for line in text.splitlines():
        fields = line.split()
        if fields:
            yield fields
