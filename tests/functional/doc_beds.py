# SPDX-License-Identifier: Apache-2.0
"""What stands ready for a page's blocks: a user's desktop, or a host with systemd and libvirtd.

A page names one (``.. bed: session``).  Both have the programs and files of the
product where ``pip install`` puts them, and a bootable disk image for each guest
that the page speaks of (``GUESTS``), as its reader has one.  KVM is hidden where
no guest boots on it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbed import TestbedError, libvirt, session
from testbed.cache import Cache
from testbed.console import CommandPort
from testbed.session import Session

from .doc_disk import Disks
from .doc_disk import why_not as no_disks
from .systemd_host import TOP, SystemdHost, wait
from .systemd_host import why_not as no_host

# A file that QEMU may not open: of one that it may, libvirt would ask QEMU again before each guest.
HIDE_KVM = ("[ ! -e /dev/kvm ] || { : > /run/kvm; chmod 0 /run/kvm;"
            " mount --bind /run/kvm /dev/kvm; }")
BLOCK_SECONDS = 300.0
GUEST_SECONDS = 240.0
# name -> address.  A page that needs others adds them here.
GUESTS = {"vm1": "10.7.0.1/24", "vm2": "10.7.0.2/24"}


class Bed:
    """Where blocks are run; one page's."""

    images: Path  # of the guests' disks, inside
    uri: str  # of libvirt

    def words(self, who: str, command: list[str]) -> list[str]:
        """The command line that runs ``command`` inside, as ``who``, who must exist there."""
        raise NotImplementedError

    def at(self, path: str) -> Path:
        """A path inside, as it is reached from here."""
        raise NotImplementedError

    def home(self, who: str) -> str:
        """Of a user inside."""
        raise NotImplementedError

    def log(self) -> str:
        """What may explain a failure."""
        return ""

    # ---- the same for all ----

    def __init__(self) -> None:
        self._guests: dict[str, CommandPort] = {}
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, who: str, script: str) -> subprocess.CompletedProcess[str]:
        """Type it into a shell that ends at the first failure; both outputs in one."""
        return subprocess.run(
            self.words(who, ["sh", "-ec", script]), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=BLOCK_SECONDS,
        )  # fmt: skip

    def start(self, who: str, script: str, ready: str, output: Path) -> str:
        """Start what goes on, and wait until it has printed ``ready``; what it printed so far."""
        with output.open("wb") as stream:
            child = subprocess.Popen(
                self.words(who, ["sh", "-ec", script]), stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._running.append(child)
        deadline = time.monotonic() + BLOCK_SECONDS
        while ready not in (said := output.read_text(errors="replace")):
            if child.poll() is not None or time.monotonic() > deadline:
                raise TestbedError(f"it has not printed {ready!r}, but:\n{said}")
            time.sleep(0.05)
        return said

    def write(self, who: str, path: str, text: str) -> None:
        """Make a file as ``who``; ~ is the home."""
        done = subprocess.run(
            self.words(who, ["sh", "-ec", 'mkdir -p "$(dirname "$1")"; cat > "$1"', "sh",
                             path.replace("~", self.home(who), 1)]),
            input=text, text=True, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise TestbedError(f"{path} cannot be written: {done.stderr}")

    def guest(self, name: str, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line into a running guest, by the serial port that virsh console shows.

        A reader would wait until all have booted.
        """
        who = "user" if self.uri.endswith("session") else "root"
        for other in self.run(who, f"virsh -c {self.uri} list --name").stdout.split():
            self._log_in(other)
        result = self._log_in(name).run(line, BLOCK_SECONDS)
        return subprocess.CompletedProcess([name, line], result.rc, result.output)

    def _log_in(self, name: str) -> CommandPort:
        """Wait until its init answers there; what is typed before that is lost."""
        deadline = time.monotonic() + GUEST_SECONDS
        while True:
            with contextlib.suppress(TestbedError):
                console = self._console(name)
                port = self._guests.setdefault(name, Pty(console, lambda: None))
                if port.path != console:  # it was started anew
                    self._guests.pop(name).close()
                    continue
                port.run("true", 5)
                return port
            if time.monotonic() > deadline:
                raise TestbedError(f"guest {name} does not answer on its console; libvirt says: "
                                   f"{self.run('root', f'virsh -c {self.uri} list --all').stdout}")

    def _console(self, name: str) -> Path:
        who = "user" if self.uri.endswith("session") else "root"
        done = self.run(who, f"virsh -c {self.uri} ttyconsole {name}")
        if done.returncode or not done.stdout.startswith("/dev/pts/"):
            time.sleep(1)
            raise TestbedError(done.stdout)
        return self.at(done.stdout.strip())

    def hide(self, kvm: bool) -> None:
        """KVM, where no guest boots on it."""
        if not kvm:
            done = self.run("root", HIDE_KVM)
            assert done.returncode == 0, done.stdout

    def disks(self, disks: Disks, scratch: Path, owner: int) -> None:
        """Put the guests' images where they belong."""
        for name, address in GUESTS.items():
            disks.write(scratch / f"{name}.qcow2", name, address)
            inside = self.at(f"{self.images}/{name}.qcow2")
            subprocess.run(["cp", scratch / f"{name}.qcow2", inside], check=True)
            subprocess.run(["chown", str(owner), inside], check=True)


class Pty(CommandPort):
    """A command port behind a terminal: libvirt's console."""

    def _connection(self, deadline: float) -> socket.socket:
        if self._socket is None:
            terminal = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
            tty.setraw(terminal)
            self._socket, far = socket.socketpair()
            threading.Thread(target=_bridge, args=(far, terminal), daemon=True).start()
        return self._socket


def _bridge(far: socket.socket, terminal: int) -> None:
    """Carry bytes between the two until one of them ends."""
    with far, contextlib.suppress(OSError):
        while True:
            readable = select.select([far.fileno(), terminal], [], [])[0]
            if far.fileno() in readable:
                data = far.recv(4096)
                if not data:
                    break
                os.write(terminal, data)
            if terminal in readable:
                far.sendall(os.read(terminal, 4096))
    os.close(terminal)


class SessionBed(Bed):
    """A desktop: ``user`` has logged in, with systemd; ``root`` is the same host's."""

    uri = "qemu:///session"

    def __init__(self, user: Session) -> None:
        super().__init__()
        self.session = user
        self.images = user.home

    def words(self, who: str, command: list[str]) -> list[str]:
        if who == "user":
            return self.session.words(command)
        _only_root(who)
        return [*self.session.within, *environment({"HOME": "/root"}, "/"), *command]

    def at(self, path: str) -> Path:
        return self.session.at(path)

    def home(self, who: str) -> str:
        return str(self.session.home) if who == "user" else "/root"


class SystemBed(Bed):
    """A host that systemd runs: uswitchd as it is installed, libvirtd, virtlogd; ``root``."""

    uri = "qemu:///system"
    images = Path("/var/lib/libvirt/images")

    def __init__(self, host: SystemdHost, kvm: bool) -> None:
        super().__init__()
        self.host = host
        self.hide(kvm)  # libvirtd asks QEMU at its start, and keeps the answer in its cache
        for path in ("/var/cache/libvirt", "/var/log/libvirt"):  # this machine's own are elsewhere
            self.run("root", f"mkdir -p {path}; mount -t tmpfs tmpfs {path}")
        host.run("rm", "/opt/uswitch")  # a link to this environment, which has no data files
        session.install(host.at("/opt/uswitch"))
        programs = " ".join(f"/opt/uswitch/bin/{name}" for name in session.PROGRAMS)
        self.run("root", "mount -t tmpfs -o mode=755 local /usr/local/bin;"
                         f" ln -s {programs} /usr/local/bin/")
        for name, unit in LIBVIRT_UNITS.items():
            host.at(f"/run/units/{name}.service").write_text(unit, encoding="utf-8")
        configuration = host.at("/etc/libvirt/qemu.conf")
        configuration.write_text(QEMU_CONF, encoding="utf-8")
        host.run("mkdir", "-p", str(self.images), "/etc/libvirt/hooks")
        host.systemctl("daemon-reload")
        host.systemctl("start", *LIBVIRT_UNITS)
        wait(lambda: self.run("root", f"virsh -c {self.uri} version").returncode == 0, "libvirtd")

    def words(self, who: str, command: list[str]) -> list[str]:
        _only_root(who)
        enter = ["nsenter", "-t", str(self.host.pid), "-m", "-p", "-C", "-n", "-i", "-u"]
        return [*enter, *environment({"HOME": "/root"}, "/root"), *command]

    def at(self, path: str) -> Path:
        return self.host.at(path)

    def home(self, who: str) -> str:
        return "/root"

    def log(self) -> str:
        return self.host.log()


def _only_root(who: str) -> None:
    """A user that a page has misspelt must not pass for one who fails."""
    if who != "root":
        raise TestbedError(f"there is no user {who} on this bed")


# There is nobody to register guests with, nor a policy; and a mount namespace of QEMU's own would
# have to move what hides KVM.
QEMU_CONF = 'cgroup_controllers = []\nsecurity_driver = "none"\nnamespaces = []\n'
# As libvirt's own units start them; none of what those depend on is there.
LIBVIRT_UNITS = {
    name: f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/sbin/{name}\n"
    "KillMode=process\nStandardError=append:/run/libvirt.log\n"
    for name in ("virtlogd", "libvirtd")
}


def environment(more: Mapping[str, str], directory: str) -> list[str]:
    """Words before a command line: what a login sets, and where it starts."""
    pairs = {"PATH": session.SYSTEM_PATH, "LC_ALL": "C.UTF-8", **more}
    return ["env", "--ignore-environment", f"--chdir={directory}",
            *(f"{name}={value}" for name, value in pairs.items())]  # fmt: skip


def why_not(bed: str) -> str:
    """Why such a bed cannot be made here, "" if it can."""
    if bed == "session":
        return session.available(manager=True) or no_disks()
    return no_host() or libvirt.available() or no_disks()


@contextlib.contextmanager
def make(name: str) -> Iterator[Bed]:
    """A bed, with images; all that it did is gone at the end."""
    disks = Disks(Cache())
    directory = Path(tempfile.mkdtemp(prefix="uswitch-doc-"))
    directory.chmod(0o755)
    try:
        with contextlib.ExitStack() as stack:
            bed: Bed
            if name == "session":
                user = stack.enter_context(Session(directory / "s", manager=True))
                bed, owner = SessionBed(user), user.who.uid
                bed.hide(disks.kvm)
            else:
                unit = (TOP / "etc/systemd/uswitchd.service").read_text(encoding="utf-8")
                host = stack.enter_context(SystemdHost(f"doc-{os.getpid()}", unit))
                bed, owner = SystemBed(host, disks.kvm), 0
            bed.disks(disks, directory, owner)
            yield bed
    finally:
        shutil.rmtree(directory)
