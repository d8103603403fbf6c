# SPDX-License-Identifier: Apache-2.0
"""Beds without guests: hosts that systemd runs, in namespaces of this one (systemd_host.py).

    host       as doc/source/install.rst leaves it; uswitchd runs
    unpacked   the product in /opt/uswitch, with links to its programs; nothing else of it
    new        nothing of it; the terminal starts in this checkout

``eth1`` and ``eth2`` are cables (veth), whose other ends have the same names in namespace ``wire``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from testbed import netns, parts, session
from testbed.cache import ENVIRONMENT as CACHE
from testbed.cache import Cache, digest

from . import xdp_bed
from .doc_bed import Bed, environment, only_root
from .systemd_host import TOP, UNITS, SystemdHost
from .systemd_host import why_not as no_host

UNIT = (TOP / "etc/systemd/uswitchd.service").read_text(encoding="utf-8")
PROGRAMS = ("ip", "make", "nc", "python3", "udevadm")
WHEELS = "/var/lib/wheels"
BUILD_NEEDS = ("pbr", "setuptools", "wheel", "cffi")  # pyproject.toml
CABLES = """
ip link set lo up
ip netns add wire
for name in eth1 eth2; do
    ip link add $name type veth peer name $name netns wire
    ip link set $name up
    ip -n wire link set $name up
done
"""
# Only the programs that are linked, whatever this machine has there.
LINKS = f"""
mount -t tmpfs -o mode=755 local /usr/local/bin
ln -s {" ".join(f"/opt/uswitch/bin/{name}" for name in session.PROGRAMS)} /usr/local/bin/
"""
# Layers in memory over this checkout and the test bed's cache: a build writes beside the sources.
LAYER = """
for path; do
    mkdir -p /run/layers$path/upper /run/layers$path/work
    mount -t overlay overlay "$path" \
        -o "lowerdir=$path,upperdir=/run/layers$path/upper,workdir=/run/layers$path/work"
done
mount -t tmpfs -o mode=755 local /usr/local/bin
"""
# The doctor would find a KVM that runs no guest, and where it runs one there is none on a bed.
NO_KVM = """
mkdir /run/dev /run/dev-work
mount -t overlay dev /dev -o lowerdir=/dev,upperdir=/run/dev,workdir=/run/dev-work
rm -f /dev/kvm
"""
# It gets its rules, and none of this machine's devices.
UDEVD = """[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStart=/lib/systemd/systemd-udevd
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
"""


class HostBed(Bed):
    """``root`` on a host with the product."""

    def __init__(self, host: SystemdHost) -> None:
        super().__init__()
        self.host = host
        host.run("rm", "-rf", "/opt/uswitch")  # a link to this environment, without data files
        session.install(host.at("/opt/uswitch"))
        host.run("sh", "-ec", LINKS + CABLES)

    def words(self, who: str, command: list[str]) -> list[str]:
        only_root(who)
        return [*self.host.enter(), *environment({"HOME": "/root"}, "/root"), *command]

    def at(self, path: str) -> Path:
        return self.host.at(path)

    def home(self, who: str) -> str:
        return "/root"

    def log(self) -> str:
        return self.host.log()


class NewBed(HostBed):
    """``root`` on a host without it."""

    def __init__(self, host: SystemdHost) -> None:
        Bed.__init__(self)
        self.host = host
        self._cache = Cache().root
        parts.prepare(Cache(), lambda _: None)  # what the demo would fetch
        host.run("sh", "-ec", LAYER + CABLES, "sh", str(TOP), str(self._cache))
        subprocess.run(["cp", "-r", wheels(), host.at(WHEELS)], check=True)
        host.at(f"{UNITS}/systemd-udevd.service").write_text(UDEVD, encoding="utf-8")
        host.systemctl("daemon-reload")
        host.systemctl("start", "systemd-udevd")

    def words(self, who: str, command: list[str]) -> list[str]:
        """There is no network; what pip would fetch is in a directory."""
        only_root(who)
        more = {"HOME": "/root", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS,
                CACHE: str(self._cache)}  # fmt: skip
        return [*self.host.enter(), *environment(more, str(TOP)), *command]


def wheels() -> Path:
    """What "pip install ." needs beside the checkout."""

    def fetch(directory: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download",
             "-d", directory, "-r", TOP / "requirements.txt", *BUILD_NEEDS], check=True,
        )  # fmt: skip

    wanted = (TOP / "requirements.txt").read_text(encoding="utf-8")
    return Cache().get("doc-wheels", digest(wanted, BUILD_NEEDS, sys.version), fetch)


@dataclass(frozen=True, slots=True)
class Kind:
    """``why_not()`` says why there is none here; ``make(scratch)`` makes one, gone at the end."""

    why_not: Callable[[], str]
    make: Callable[[Path], AbstractContextManager[Bed]]


def _why_not() -> str:
    missing = [name for name in PROGRAMS if shutil.which(name, path=session.SYSTEM_PATH) is None]
    lacks = f"{', '.join(missing)} missing: make setup installs it" if missing else ""
    return no_host() or xdp_bed.missing() or netns.available() or lacks


def _kind(bed: type[HostBed], unit: str) -> Kind:
    @contextlib.contextmanager
    def make(scratch: Path) -> Iterator[Bed]:
        with SystemdHost(f"doc-{os.getpid()}", unit) as host:
            host.run("sh", "-ec", NO_KVM)
            yield bed(host)

    return Kind(_why_not, make)


QUICK = {"host": _kind(HostBed, UNIT), "unpacked": _kind(HostBed, "")}
SLOW = {"new": _kind(NewBed, "")}
"""Where something is compiled."""
