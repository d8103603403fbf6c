# SPDX-License-Identifier: Apache-2.0
"""Beds with libvirt's guests: a user's desktop, and a host with systemd and libvirtd."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from testbed import libvirt, session
from testbed.cache import Cache
from testbed.session import Session

from .doc_bed import Bed, environment, only_root
from .doc_bed_host import UNIT, HostBed, Kind
from .doc_disk import Disks
from .doc_disk import why_not as no_disks
from .doc_guests import Guests, hide_kvm, put_disks
from .systemd_host import TOP, UNITS, SystemdHost, wait
from .systemd_host import why_not as no_host

SYSTEM_URI = "qemu:///system"
IMAGES = "/var/lib/libvirt/images"
# There is nobody to register guests with, nor a policy; and a mount namespace of QEMU's own would
# have to move what hides KVM.
QEMU_CONF = 'cgroup_controllers = []\nsecurity_driver = "none"\nnamespaces = []\n'
# As libvirt's own units start them; none of what those depend on is there.
LIBVIRT_UNITS = {
    name: f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/sbin/{name}\n"
    "KillMode=process\nStandardError=append:/run/libvirt.log\n"
    for name in ("virtlogd", "libvirtd")
}


class SessionBed(Bed):
    """A desktop: ``user`` has logged in, with systemd; ``root`` is the same host's.

    ``~/vif-uswitch`` is this checkout, in which "make build" has been done.
    """

    writer = "user"

    def __init__(self, user: Session, disks: Disks, scratch: Path) -> None:
        super().__init__()
        self.session = user
        self._guests = Guests(self, "user", "qemu:///session")
        hide_kvm(self, disks)
        put_disks(self, disks, scratch, user.home, user.who.uid)
        checkout = user.home / "vif-uswitch"
        checkout.mkdir()
        for path in TOP.iterdir():
            if path.name != ".venv":
                (checkout / path.name).symlink_to(path)
        (checkout / ".venv").symlink_to(sys.prefix)

    def words(self, who: str, command: list[str]) -> list[str]:
        if who == "user":
            return self.session.words(command)
        only_root(who)
        return [*self.session.within, *environment({"HOME": "/root"}, "/"), *command]

    def at(self, path: str) -> Path:
        return self.session.at(path)

    def home(self, who: str) -> str:
        return str(self.session.home) if who == "user" else "/root"

    def guest(self, name: str, line: str) -> subprocess.CompletedProcess[str]:
        return self._guests.type(name, line)


class SystemBed(HostBed):
    """An installed host with libvirtd and virtlogd."""

    def __init__(self, host: SystemdHost, disks: Disks, scratch: Path) -> None:
        super().__init__(host)
        self._guests = Guests(self, "root", SYSTEM_URI)
        hide_kvm(self, disks)  # libvirtd asks QEMU at its start, and keeps the answer in its cache
        for path in ("/var/cache/libvirt", "/var/log/libvirt"):  # this machine's own are elsewhere
            host.run("mkdir", "-p", path)
            host.run("mount", "-t", "tmpfs", "tmpfs", path)
        for name, unit in LIBVIRT_UNITS.items():
            host.at(f"{UNITS}/{name}.service").write_text(unit, encoding="utf-8")
        host.at("/etc/libvirt/qemu.conf").write_text(QEMU_CONF, encoding="utf-8")
        host.run("mkdir", "-p", IMAGES, "/etc/libvirt/hooks")
        host.systemctl("daemon-reload")
        host.systemctl("start", *LIBVIRT_UNITS)
        wait(lambda: self._guests.virsh("version").returncode == 0, "libvirtd")
        put_disks(self, disks, scratch, IMAGES, 0)

    def guest(self, name: str, line: str) -> subprocess.CompletedProcess[str]:
        return self._guests.type(name, line)


def _why_not_session() -> str:
    return session.available(manager=True) or no_disks()


def _why_not_system() -> str:
    return no_host() or libvirt.available() or no_disks()


@contextlib.contextmanager
def _session(scratch: Path) -> Iterator[Bed]:
    with Session(scratch / "s", manager=True) as user:
        yield SessionBed(user, Disks(Cache()), scratch)


@contextlib.contextmanager
def _system(scratch: Path) -> Iterator[Bed]:
    disks = Disks(Cache())
    with SystemdHost(f"doc-{os.getpid()}", UNIT) as host:
        yield SystemBed(host, disks, scratch)


KINDS = {"session": Kind(_why_not_session, _session), "system": Kind(_why_not_system, _system)}
