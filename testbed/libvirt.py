# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of our own, as Debian configures it, beside whatever the machine runs (root).

Two libvirtd on one machine fight over /run/libvirt.  So this one lives in mount
and process namespaces of its own: its configuration, state and sockets are
directories of ours, bound over the real places in there only, and all it has
started ends with it.  QEMU runs as the user that Debian's package made for it.

    with Libvirt(directory) as libvirt:
        libvirt.start_domain(domain_xml)
        libvirt.virsh("domiflist", "vm1")

Standard library only: the client is virsh.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from testbed import TestbedError
from testbed.accel import READY_MARK
from testbed.console import CommandPort
from testbed.process import Child
from testbed.unprivileged import Identity

START_SECONDS = 120.0
VIRSH_SECONDS = 120.0
BOOT_SECONDS = 180.0
USER, GROUP = "libvirt-qemu", "kvm"  # of QEMU; its sockets belong to the directory's group
ROOT = Identity("root", 0, 0, (), False)

# The first process of the namespace, as long as libvirtd runs: it collects what libvirtd orphans.
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
[ ! -e /usr/bin/ovs-vsctl ] || mount --bind /dev/null /usr/bin/ovs-vsctl
libvirtd --config /etc/libvirt/libvirtd.conf --pid /run/libvirtd.pid &
wait $!
"""
LIBVIRTD_CONF = """
unix_sock_dir = "{sockets}"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
auth_unix_ro = "none"
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


class Domain:
    """A running guest of libvirt's, with the test bed's kernel and command port in it."""

    def __init__(self, libvirt: Libvirt, name: str) -> None:
        self.libvirt = libvirt
        self.name = name
        self.log = libvirt.guests / f"{name}.log"
        self.commands = CommandPort(libvirt.guests / f"{name}.cmd", libvirt.check)

    def wait_ready(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until the guest's init serves commands."""
        deadline = time.monotonic() + timeout
        while not (self.log.exists() and READY_MARK in self.log.read_bytes()):
            self.libvirt.check()
            if time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""
                raise TestbedError(f"domain {self.name} is not up after {timeout:.0f} s; it is "
                                   f"{self.state()} and said:\n{said}")
            time.sleep(0.1)
        self.must("true")

    def must(self, command: str, timeout: float = 60) -> str:
        """Run a command in the guest that has to succeed."""
        result = self.commands.run(command, timeout)
        if result.rc:
            raise TestbedError(f"{self.name}: '{command}' ended with status {result.rc}:\n"
                               f"{result.output.strip()}")
        return result.output

    def state(self) -> str:
        """libvirt's word for it: running, paused, shut off."""
        return self.libvirt.virsh("domstate", self.name).strip()

    def destroy(self) -> None:
        """Pull the plug."""
        self.commands.close()
        self.libvirt.virsh("destroy", self.name)


class Libvirt:
    """One private libvirtd and its domains."""

    def __init__(self, directory: Path, *, qemu_conf: Mapping[str, str] | None = None) -> None:
        """``directory`` is made; ``qemu_conf`` are settings beside QEMU_CONF, values as written."""
        self.directory = directory
        self.sockets = directory / "sock"
        self.uri = f"qemu+unix:///system?socket={self.sockets}/libvirt-sock"
        self.ram = directory / "ram"  # of guests whose memory is in files; a tmpfs in there
        self.guests = directory / "guests"  # QEMU's user may write here
        self._settings = {**QEMU_CONF, **(qemu_conf or {})}
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
        within = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                  "--kill-child", "--mount-proc"]
        self._child = Child("libvirtd", ["sh", "-c", ENTER, "libvirt", self.directory], self.log,
                            who=ROOT, within=within)
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
            LIBVIRTD_CONF.format(sockets=self.sockets))
        lines = [f"{key} = {value.format(ram=self.ram)}\n" for key, value in self._settings.items()]
        (self.directory / "etc/qemu.conf").write_text("".join(lines))

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

    def virsh(self, *words: str, timeout: float = VIRSH_SECONDS) -> str:
        """What virsh prints; raises with its complaint."""
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *words], capture_output=True,
                              text=True, check=False, timeout=timeout)
        if done.returncode:
            raise TestbedError(f"virsh {' '.join(words)}: {done.stderr.strip()}")
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
