# SPDX-License-Identifier: Apache-2.0
"""An ordinary user who has logged in: a home, a runtime directory, an environment, and no rights.

What a login manager would do, without one.  The user's processes live in
namespaces of their own, which needs root here outside: /run is new in there,
so that nothing of this machine's is taken for the user's, our programs are
where they are installed, and all that the user leaves behind (libvirt's daemons
are started by virsh and belong to nobody) ends with ``close()``.  Inside nobody
has a capability, nor a way to one.

    with Session(directory) as session:
        session.run("uswitchctl", "--user", "show")
        libvirt = SessionLibvirt(session)           # qemu:///session
        libvirt.start_domain(domain_xml)

With ``manager`` the user's own systemd runs too: ``systemctl --user``.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from testbed import TestbedError, unprivileged
from testbed.libvirt import ROOT, VIRSH_SECONDS, Libvirt
from testbed.namespaces import cgroup_mount, hidden
from testbed.process import Child, children

TOP = Path(__file__).resolve().parents[1]
RUN_SECONDS = 60.0
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SYSTEMD = "/lib/systemd/systemd"
PROGRAMS = ("uswitchctl", "uswitch-uplink", "uswitch-xdp")  # as doc/source/install.rst links them
# $1 directory, $2 uid, $3 "manager" or "".  Then it collects what was orphaned in there.
ENTER = """
set -e
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/user/$2
chmod 700 /run/user/$2
chown $2 /run/user/$2
mount -t tmpfs -o mode=755 opt /opt
mkdir /opt/uswitch
mount --bind "$1/installed" /opt/uswitch
if [ "$3" ]; then
    mkdir -p /run/systemd/system
    ! mountpoint -q /sys/fs/cgroup || umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /sys/fs/cgroup/user
    chown $2 /sys/fs/cgroup/user /sys/fs/cgroup/user/cgroup.*
fi
echo ready
sleep infinity &
wait
"""


def available(*, manager: bool = False) -> str | None:
    """Why there can be no such session here, or None."""
    if os.geteuid() != 0:
        return "a session that surely ends needs a pid namespace: root"
    if why := hidden("/run", "/opt"):
        return why
    if manager and (not os.access(SYSTEMD, os.X_OK) or cgroup_mount() is None):
        return f"needs {SYSTEMD} (bindep.txt) and a cgroup2 file system"
    missing = [name for name in ("libvirtd", "virtlogd", "virsh", "unshare", "nsenter")
               if shutil.which(name) is None]
    return f"{', '.join(missing)} is missing: make setup installs it" if missing else None


def install(prefix: Path) -> None:
    """What pip puts below /opt/uswitch: this environment, and setup.cfg's data files."""
    prefix.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "share":
            (prefix / path.name).symlink_to(path)
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg", encoding="utf-8")
    where = prefix
    for line in setup["files"]["data_files"].strip().splitlines():
        left, equals, right = line.partition("=")
        where = prefix / left.strip() if equals else where
        source = (right if equals else left).strip()
        where.mkdir(parents=True, exist_ok=True)
        if source:
            shutil.copy(TOP / source, where)


def _remove_group(path: Path) -> None:
    """A control group, whose last processes may just be ending."""
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Process:
    """One of the session's, as /proc in there shows it.  ``pid`` counts inside."""

    pid: int
    command: tuple[str, ...]
    status: Mapping[str, str]


class Session:
    """``directory`` is made; the home is in it.  Files inside are reached by ``at()``."""

    def __init__(self, directory: Path, who: unprivileged.Identity | None = None, *,
                 manager: bool = False) -> None:
        self.who = replace(who or unprivileged.identity(), groups=())
        self.directory = directory
        self.home = directory / "home"
        self.runtime = Path(f"/run/user/{self.who.uid}")  # inside
        self.log = directory / "session.log"
        self.environment = {
            "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime), "USER": self.who.name,
            "LOGNAME": self.who.name, "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh",
            "PATH": f"{directory}/links:{SYSTEM_PATH}",
        }  # fmt: skip
        self._group = (cgroup_mount() or Path()) / f"uswitch-session-{directory.name}-{os.getpid()}"
        self._with_manager = manager
        self._first: Child | None = None
        self._inside = 0

    def __enter__(self) -> Session:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Log in."""
        why = available(manager=self._with_manager)
        if why is not None:
            raise TestbedError(why)
        self._prepare()
        within = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                  "--kill-child", "--mount-proc"]
        if self._with_manager:
            self._group.mkdir()
            join = f'echo $$ > {self._group}/cgroup.procs && exec "$@"'
            within = ["sh", "-c", join, "sh", within[0], "--cgroup", *within[1:]]
        within = ["setpriv", "--pdeathsig", "KILL", *within]  # whoever kills us has ended it too
        words = ["sh", "-c", ENTER, "session", str(self.directory), str(self.who.uid),
                 "manager" if self._with_manager else ""]
        self._first = Child("session", words, self.log, who=ROOT, within=within)
        self._wait(lambda: "ready" in self.log.read_text(), "no session")
        [self._inside] = children(self._first.pid)
        if self._with_manager:
            self._start_manager()

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o755, exist_ok=True)
        self.directory.chmod(0o755)
        self.home.mkdir(mode=0o700, exist_ok=True)
        unprivileged.own(self.home, self.who)
        install(self.directory / "installed")
        links = self.directory / "links"
        links.mkdir()
        for name in PROGRAMS:
            (links / name).symlink_to(Path(sys.prefix) / "bin" / name)

    def _start_manager(self) -> None:
        join = 'echo $$ > /sys/fs/cgroup/user/cgroup.procs && exec "$@"'
        words = ["sh", "-c", join, "sh",
                 *unprivileged.argv([*self._there(), SYSTEMD, "--user", "--log-target=console"],
                                    self.who)]
        Child("systemd", words, self.directory / "manager.log", who=ROOT, within=self.within)
        self._wait(lambda: self.ask("systemctl", "--user", "is-system-running").stdout.strip()
                   in ("running", "degraded"), "the user's manager does not run")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + RUN_SECONDS
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TestbedError(f"{what} after {RUN_SECONDS:.0f} s: {self.log.read_text()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Log out: with its first process ends all that is in the namespace."""
        if self._first is not None:
            self._first.kill()
        if self._with_manager and self._group.exists():
            for path, _, _ in os.walk(self._group, topdown=False):
                _remove_group(Path(path))

    def check(self) -> None:
        """Raise if the session is over."""
        assert self._first is not None
        self._first.check()

    # -- use -----------------------------------------------------------------------------------

    @property
    def within(self) -> list[str]:
        """Words before a command line that run it inside, still as root."""
        kinds = ["--mount", "--pid", *(["--cgroup"] if self._with_manager else [])]
        return ["nsenter", "--target", str(self._inside), *kinds, "--"]

    def at(self, path: str | Path) -> Path:
        """A path inside, as it is reached from here."""
        return Path(f"/proc/{self._inside}/root{path}")

    def _there(self) -> list[str]:
        pairs = [f"{name}={value}" for name, value in self.environment.items()]
        return ["env", "--ignore-environment", f"--chdir={self.home}", *pairs]

    def words(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs ``command`` as the user, in the home, with its environment."""
        return [*self.within, *unprivileged.argv([*self._there(), *command], self.who)]

    def ask(self, *command: str | Path, timeout: float = RUN_SECONDS,
            stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end, however it ends."""
        return subprocess.run(self.words(command), input=stdin, capture_output=True, text=True,
                              check=False, timeout=timeout)

    def run(self, *command: str | Path, timeout: float = RUN_SECONDS, stdin: str = "") -> str:
        """What a command prints; raises with its complaint."""
        done = self.ask(*command, timeout=timeout, stdin=stdin)
        if done.returncode:
            raise TestbedError(f"{' '.join(map(str, command))}: status {done.returncode}: "
                               f"{done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def child(self, name: str, command: Sequence[str | Path], log: Path) -> Child:
        """A program that goes on.  The child is the one outside; end it by ``run("kill", ...)``."""
        return Child(name, [*self._there(), *command], log, who=self.who, within=self.within)

    def add_hook(self) -> None:
        """Let this host have libvirt's hook, which its session daemons run too, as the user.

        To be called before libvirtd is started.
        """
        script = ("mount -t tmpfs -o mode=755 hooks /etc/libvirt/hooks; install -D -m 755"
                  " /opt/uswitch/share/vif-uswitch/libvirt/50-uswitch"
                  " /etc/libvirt/hooks/qemu.d/50-uswitch")
        subprocess.run([*self.within, "sh", "-ec", f"mkdir -p /etc/libvirt/hooks; {script}"],
                       check=True)

    def processes(self) -> list[Process]:
        """All of the user's; the first process and what looks are not."""
        found = []
        for path in self.at("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended meanwhile
                command = (path / "cmdline").read_text().rstrip("\0").split("\0")
                lines = (path / "status").read_text().splitlines()
                status = {key: value.strip() for key, _, value in (x.partition(":") for x in lines)}
                if status["State"][:1] not in "ZX" and command[0] not in ("sh", "sleep"):
                    found.append(Process(int(path.name), tuple(command), status))
        return found


class SessionLibvirt(Libvirt):
    """qemu:///session of that user: libvirtd and virtlogd are started by virsh, as everywhere."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.directory)
        self.session = session
        self.uri = "qemu:///session"
        self.guests = session.home / "guests"  # serial ports

    def start(self, timeout: float = RUN_SECONDS) -> None:
        """Nothing has to be: the first call starts it."""
        self.guests.mkdir(exist_ok=True)
        unprivileged.own(self.guests, self.session.who)
        self.virsh("version", timeout=timeout)

    def check(self) -> None:
        """Raise if the session is over."""
        self.session.check()

    def stop(self) -> None:
        """It ends with the session."""

    def virsh(self, *words: str | Path, timeout: float = VIRSH_SECONDS) -> str:
        """What virsh prints, asked by the user; raises with its complaint."""
        return self.session.run("virsh", "-q", "-c", self.uri, *words, timeout=timeout)
