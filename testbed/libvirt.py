# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of our own, as Debian configures it, beside whatever the machine runs (root).

Two libvirtd on one machine fight over /run/libvirt.  So this one lives in mount
and process namespaces of its own: its configuration, state and sockets are
directories of ours, bound over the real places in there only, and all it has
started ends with it.  QEMU runs as the user that Debian's package made for it.

    with Libvirt(directory) as libvirt:
        libvirt.start_domain(domain_xml)
        libvirt.virsh("domiflist", "vm1")
        libvirt.restart()                      # its guests run on

Two of them are two hosts: each has a host name and an identity of its own, so
that guests migrate between them.  libvirt_guests.py makes domains.

Standard library only: the client is virsh.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from testbed import TestbedError
from testbed.libvirt_domain import Domain
from testbed.process import Child, children, start_time
from testbed.unprivileged import Identity

__all__ = ["Domain", "Libvirt", "available", "group_of_qemu"]

START_SECONDS = 120.0
VIRSH_SECONDS = 120.0
USER, GROUP = "libvirt-qemu", "kvm"  # of QEMU; its sockets belong to the directory's group
ROOT = Identity("root", 0, 0, (), False)

# The first process of the namespace.  It collects what libvirtd orphans, and starts libvirtd again
# where that was said before it ended: all guests would end with this process.
# Without ovs-vsctl libvirt does not ask Open vSwitch for the name of a vhost-user interface.
ENTER = """
set -e
umask 022
mount -t tmpfs -o mode=755 run /run
for pair in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
    mkdir -p "${pair#*:}"
    mount --bind "$1/${pair%%:*}" "${pair#*:}"
done
mount -t tmpfs -o mode=755 ram "$1/ram"
hostname "$2"
[ ! -e /usr/bin/ovs-vsctl ] || mount --bind /dev/null /usr/bin/ovs-vsctl
status=0
while rm "$1/again" 2>/dev/null; do
    libvirtd --config /etc/libvirt/libvirtd.conf --pid /run/libvirtd.pid &
    wait $! || status=$?
done
exit $status
"""
LIBVIRTD_CONF = """
unix_sock_dir = "{sockets}"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
auth_unix_ro = "none"
host_uuid = "{uuid}"
log_outputs = "3:stderr"
"""
# What an init system or another daemon would have to be there for; the rest is Debian's default.
QEMU_CONF = {
    "stdio_handler": '"file"',
    "cgroup_controllers": "[]",
    "security_driver": '"none"',
    "memory_backing_dir": '"{ram}"',
}


def available() -> str | None:
    """Why a libvirtd cannot be run here, or None."""
    if os.geteuid() != 0:
        return "a libvirtd in namespaces of its own needs root"
    for program in ("libvirtd", "virsh", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is missing: make setup installs it"
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return f"there is no user {USER}: install libvirt-daemon-driver-qemu"
    return None


def group_of_qemu() -> int:
    """The group that QEMU's user is in, and that uswitchd must be in to write QEMU's sockets."""
    return grp.getgrnam(GROUP).gr_gid


class Libvirt:
    """One private libvirtd and its domains."""

    def __init__(self, directory: Path, *, qemu_conf: Mapping[str, str] | None = None,
                 within: Sequence[str] = ()) -> None:
        """``directory`` is made; ``qemu_conf`` are settings beside QEMU_CONF, values as written.

        ``within`` are words before its command line, such as ip netns exec NAME.
        """
        self.directory = directory
        self.uuid = str(uuid.uuid4())
        self.sockets = directory / "sock"
        self.uri = f"qemu+unix:///system?socket={self.sockets}/libvirt-sock"
        self.ram = directory / "ram"  # of guests whose memory is in files; a tmpfs in there
        self.guests = directory / "guests"  # QEMU's user may write here
        self._settings = {**QEMU_CONF, **(qemu_conf or {})}
        self._within = within
        self._child: Child | None = None

    def __enter__(self) -> Libvirt:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What libvirtd says."""
        return self.directory / "libvirtd.log"

    # -- life ----------------------------------------------------------------------------------

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start libvirtd and wait until it answers."""
        why = available()
        if why is not None:
            raise TestbedError(why)
        self._prepare()
        within = [*self._within, "unshare", "--mount", "--propagation", "private", "--uts", "--pid",
                  "--fork", "--kill-child", "--mount-proc"]
        (self.directory / "again").touch()
        name = f"host-{self.uuid[:8]}"
        self._child = Child("libvirtd", ["sh", "-c", ENTER, "libvirt", self.directory, name],
                            self.log, who=ROOT, within=within)
        self._wait_answer(timeout)

    def _wait_answer(self, timeout: float) -> None:
        assert self._child is not None
        deadline = time.monotonic() + timeout
        while not self._answers():
            self.check()
            if time.monotonic() > deadline:
                raise TestbedError(f"libvirtd does not answer after {timeout:.0f} s:\n"
                                   f"{self._child.tail()}")
            time.sleep(0.1)

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o755, exist_ok=True)
        self.directory.chmod(0o755)
        for name in ("etc", "lib", "log", "cache", "ram", "sock", "guests"):
            (self.directory / name).mkdir(exist_ok=True)
        shutil.chown(self.guests, USER, GROUP)
        (self.directory / "etc/libvirtd.conf").write_text(
            LIBVIRTD_CONF.format(sockets=self.sockets, uuid=self.uuid))
        lines = [f"{key} = {value.format(ram=self.ram)}\n" for key, value in self._settings.items()]
        (self.directory / "etc/qemu.conf").write_text("".join(lines))

    def restart(self, sig: signal.Signals = signal.SIGTERM, timeout: float = START_SECONDS) -> None:
        """End libvirtd by a signal; the next one finds its guests, which run on."""
        (self.directory / "again").touch()
        before = self._libvirtd()
        os.kill(before, sig)
        deadline = time.monotonic() + timeout
        while start_time(before):
            if time.monotonic() > deadline:
                raise TestbedError(f"libvirtd does not end on signal {sig}")
            time.sleep(0.02)
        self._wait_answer(timeout)

    def _inside(self) -> list[int]:
        """Processes that libvirtd's namespace has adopted or started, by our numbers."""
        assert self._child is not None
        return [pid for first in children(self._child.pid) for pid in children(first)]

    def _libvirtd(self) -> int:
        for pid in self._inside():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "libvirtd":
                return pid
        raise TestbedError("no libvirtd runs")

    def inside(self, path: str) -> Path:
        """A file as libvirtd sees it, which has a /run of its own."""
        return Path(f"/proc/{self._libvirtd()}/root{path}")

    def qemu(self, name: str) -> int:
        """The process of a running domain, by our number."""
        word = f"guest={name},".encode()
        for pid in self._inside():
            with contextlib.suppress(OSError):  # it has just ended
                if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise TestbedError(f"domain {name} does not run")

    def check(self) -> None:
        """Raise with the end of its log if libvirtd has ended."""
        assert self._child is not None
        self._child.check()

    def stop(self) -> None:
        """End libvirtd and, with their namespace, all its guests."""
        if self._child is not None:
            self._child.kill()

    def _answers(self) -> bool:
        return subprocess.run(["virsh", "-c", self.uri, "version"], capture_output=True,
                              check=False, timeout=VIRSH_SECONDS).returncode == 0

    # -- use -----------------------------------------------------------------------------------

    def virsh(self, *words: str | Path, timeout: float = VIRSH_SECONDS) -> str:
        """What virsh prints; raises with its complaint."""
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *words], capture_output=True,
                              text=True, check=False, timeout=timeout)
        if done.returncode:
            raise TestbedError(f"virsh {' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout

    def define(self, xml: str) -> str:
        """Define a domain, checked against libvirt's schema; returns its name."""
        name = ET.fromstring(xml).findtext("name") or ""
        path = self.directory / f"{name}.xml"
        path.write_text(xml)
        self.virsh("define", "--validate", str(path))
        return name

    def start_domain(self, xml: str) -> Domain:
        """Define and start; returns at once, see Domain.wait_ready()."""
        domain = Domain(self, self.define(xml))
        for path in (domain.log, domain.commands.path):
            path.unlink(missing_ok=True)
        self.virsh("start", domain.name)
        return domain

    def with_consoles(self, xml: str) -> str:
        """A domain with the serial ports that the test bed's guests talk through."""
        tree = ET.fromstring(xml)
        name = tree.findtext("name") or ""
        devices = tree.find("devices")
        if devices is None:
            devices = ET.SubElement(tree, "devices")
        ports = (("file", {"path": f"{self.guests}/{name}.log"}),
                 ("unix", {"mode": "bind", "path": f"{self.guests}/{name}.cmd"}),
                 ("null", None))  # the third one is for people
        for number, (kind, source) in enumerate(ports):
            serial = ET.SubElement(devices, "serial", type=kind)
            if source is not None:
                ET.SubElement(serial, "source", source)
            ET.SubElement(serial, "target", type="isa-serial", port=str(number))
        return ET.tostring(tree, encoding="unicode")
