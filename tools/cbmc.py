# SPDX-License-Identifier: Apache-2.0
"""CBMC on a Debian that does not package it: downloaded, unpacked, never installed.

Debian has the bounded model checker from release ``SUITE`` on.  Its packages, with the C library
they were built for, are fetched by an apt that has lists, cache and source file of its own, and
unpacked into the test bed's cache; the system's apt and its packages do not learn of it.  What
comes back is a command that starts CBMC through that C library's loader.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from testbed import TestbedError
from testbed.cache import Cache

SUITE = "trixie"
PACKAGES = ("cbmc", "libc6", "libstdc++6", "libgcc-s1", "minisat")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
INSTEAD = "try again where a Debian mirror can be reached, or put a cbmc 6 of your own into PATH"
# Where libraries of these packages lie.
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")


def command() -> list[str]:
    """How to start CBMC: the one in PATH, or Debian's from the cache."""
    installed = shutil.which("cbmc")
    if installed:
        return [installed]
    prefix = Cache().get("cbmc", SUITE, _build)
    loader = prefix / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    libraries = ":".join(str(prefix / directory) for directory in LIBRARIES)
    return [str(loader), "--library-path", libraries, str(prefix / "usr/bin/cbmc")]


def _mirror() -> str:
    """The mirror this machine uses already."""
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian",
         "Identifier: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout.split()
    mirrors = [uri for uri in found if "security" not in uri]
    if not mirrors:
        raise TestbedError(f"no Debian mirror is configured here; {INSTEAD}")
    return mirrors[0]


def _build(work: Path) -> None:
    apt = work / "apt"
    (apt / "lists" / "partial").mkdir(parents=True)
    (apt / "cache" / "archives" / "partial").mkdir(parents=True)
    (apt / "cbmc.sources").write_text(
        f"Types: deb\nURIs: {_mirror()}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    _apt(apt, "update")
    _apt(apt, "download", *PACKAGES)
    for package in apt.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(work)], check=True)
    shutil.rmtree(apt)
    for extra in ("usr/share/doc", "usr/share/man"):
        shutil.rmtree(work / extra, ignore_errors=True)


def _apt(apt: Path, *arguments: str) -> None:
    options = {
        "Dir::Etc::sourcelist": apt / "cbmc.sources", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": apt / "lists", "Dir::Cache": apt / "cache",
        "Acquire::Languages": "none", "Acquire::Retries": "2",
        # As root apt would drop to the user _apt, who cannot write here.
        "APT::Sandbox::User": "root",
    }
    line = ["apt-get", "-q"]
    for name, value in options.items():
        line += ["-o", f"{name}={value}"]
    try:
        ran = subprocess.run([*line, *arguments], cwd=apt, capture_output=True, text=True,
                             check=False, timeout=300)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise TestbedError(f"cannot download CBMC: {error}; {INSTEAD}") from error
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no output"])[-1]
        raise TestbedError(f"cannot download CBMC: {last}; {INSTEAD}")
