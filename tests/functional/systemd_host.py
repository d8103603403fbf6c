# SPDX-License-Identifier: Apache-2.0
"""A host that systemd runs, in namespaces of this one, to start the shipped unit as it is meant.

    with SystemdHost(...) as host:
        host.systemctl("restart", "uswitchd")

systemd is pid 1 of a pid namespace, with its own mounts, control groups and
network; it finds our unit and the targets that units name, and nothing else of
this host's.  What is written to (``LAYERS``) are layers in memory over the real
directories, and /opt/uswitch is this interpreter's environment.  Users and
directories are made by the shipped files.  Without a unit nothing of ours is
there: a host on which somebody installs it.  Root only; ``why_not()`` says what
else is missing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from testbed.namespaces import cgroup_mount, hidden

TOP = Path(__file__).resolve().parents[2]
SYSTEMD = "/lib/systemd/systemd"
UNITS = "/run/units"  # the test's own; an administrator's are in ETC_UNITS, and found as well
ETC_UNITS = "/etc/systemd/system"
LAYERS = ("/etc", "/opt", "/root", "/srv", "/var/lib")
EMPTY = ("/run", "/tmp")
NAMESPACES = ("--mount", "--pid", "--cgroup", "--net", "--ipc", "--uts")
READY_SECONDS = 60.0
# There is no journal, and a test does not wait 30 s.
DROP_IN = """[Service]
WatchdogSec=5
StandardOutput=append:/run/uswitchd.log
StandardError=append:/run/uswitchd.log
"""
# What units depend on, and are enabled for; of a system's own units there are none.
TARGETS = {
    "default": "Wants=multi-user.target sockets.target\nAfter=multi-user.target\n",
    **dict.fromkeys(("basic", "local-fs", "multi-user", "network-online", "network-pre",
                     "shutdown", "sockets", "sysinit"), ""),
}  # fmt: skip
QEMU_USER = "g kvm -\nu libvirt-qemu - - / -\nm libvirt-qemu kvm\n"


def why_not() -> str:
    """What this machine lacks for it, "" if nothing."""
    if os.geteuid() != 0:
        return "needs root: namespaces and mounts"
    if why := hidden(*EMPTY):
        return why
    if not os.access(SYSTEMD, os.X_OK):
        return f"needs {SYSTEMD} (bindep.txt)"
    if cgroup_mount() is None:
        return "needs a cgroup2 file system"
    tried = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], check=False,
                           capture_output=True, text=True)  # fmt: skip
    return f"namespaces: {tried.stderr.strip()}" if tried.returncode else ""


class SystemdHost:
    """``unit``: the text of uswitchd.service, shipped or changed; without one nothing of ours."""

    def __init__(self, name: str, unit: str = "") -> None:
        mounted = cgroup_mount()
        assert mounted is not None
        self._group = mounted / f"uswitch-{name}-{os.getpid()}"
        self._unit = unit
        self._outside: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> SystemdHost:
        self._group.mkdir()
        inside = Path(f"/var/tmp/{self._group.name}.unit")
        inside.write_text(self._unit, encoding="utf-8")
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc",
                   sys.executable, "-m", __name__, str(inside)]  # fmt: skip
        enter = f"echo $$ > {self._group}/cgroup.procs && exec \"$@\""
        self._outside = subprocess.Popen(["sh", "-c", enter, "sh", *command], cwd=TOP,
                                         stdin=subprocess.DEVNULL)  # fmt: skip
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise
        finally:
            inside.unlink()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """With pid 1 of a namespace ends everything in it."""
        assert self._outside is not None
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            self._outside.kill()
        self._outside.wait(30)
        for path, _, _ in os.walk(self._group, topdown=False):
            os.rmdir(path)

    def _wait_ready(self) -> None:
        assert self._outside is not None
        children = Path(f"/proc/{self._outside.pid}/task/{self._outside.pid}/children")
        what = "uswitchd" if self._unit else "default.target"
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self._outside.poll() is None, "systemd has ended"
            found = children.read_text().split()
            if found and self._is_systemd(int(found[0])):
                self.pid = int(found[0])
                if self.show("ActiveState", what) == "active":
                    return
            time.sleep(0.1)
        raise AssertionError(f"{what} is not active: {self.log()}")

    @staticmethod
    def _is_systemd(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(SYSTEMD)
        return False

    # ---- use ----

    def at(self, path: str) -> Path:
        """A path inside, as it is reached from here."""
        return Path(f"/proc/{self.pid}/root{path}")

    def enter(self) -> list[str]:
        """Words before a command line that run it inside, as root."""
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-n", "-i", "-u"]

    def run(self, *command: str, check: bool = True) -> str:
        """What a command writes that is run inside, as root."""
        done = subprocess.run(
            [*self.enter(), *command],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0 or not check, (command, done.stdout, done.stderr, self.log())
        return done.stdout

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", "--no-pager", *words)

    def show(self, name: str, unit: str = "uswitchd") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, "-P", name, check=False).strip()

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return self.at("/run/uswitchd.log").read_text()[-4000:]
        return ""

    def dataplane(self) -> str:
        """Its pid and start time, which name a process for good."""
        return self.at("/run/uswitch/dataplane.pid").read_text()


def wait(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout:g} s in vain: {what}"
        time.sleep(0.05)


# ---- inside, before systemd ----

def do(*command: str, stdin: str | None = None) -> None:
    subprocess.run(command, check=True, input=stdin, text=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)  # fmt: skip


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def file_systems() -> None:
    do("mount", "--make-rprivate", "/")
    for path in EMPTY:
        do("mount", "-t", "tmpfs", "tmpfs", path)
    for path in LAYERS:
        upper, work = f"/run/layers{path}/upper", f"/run/layers{path}/work"
        os.makedirs(upper)
        os.makedirs(work)
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        do("mount", "-t", "overlay", "overlay", "-o", options, path)
    os.makedirs(ETC_UNITS, exist_ok=True)
    do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", ETC_UNITS)
    if os.path.ismount("/sys/fs/cgroup"):
        do("umount", "-R", "/sys/fs/cgroup")
    do("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    do("mount", "--bind", "/proc/sys", "/proc/sys")  # the machine's settings are not ours
    do("mount", "-o", "remount,bind,ro", "/proc/sys")


def furnish() -> None:
    """What a host has before anything of ours: QEMU's user, and targets; whatever is here."""
    for name in ("uswitch", "uswitch-control"):  # of a switch that this machine has
        subprocess.run(["userdel", "-f", name], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["groupdel", "-f", name], check=False, stderr=subprocess.DEVNULL)
    do("rm", "-rf", "/opt/uswitch", "/etc/uswitch", "/var/lib/uswitch")
    do("systemd-sysusers", "-", stdin=QEMU_USER)
    for name, more in TARGETS.items():
        write(f"{UNITS}/{name}.target", f"[Unit]\nDefaultDependencies=no\n{more}")
    write(f"{UNITS}/uswitchd.service.d/test.conf", DROP_IN)


def install(unit: str) -> None:
    """As doc/source/install.rst has it."""
    os.symlink(sys.prefix, "/opt/uswitch")
    do("systemd-sysusers", str(TOP / "etc/sysusers.d/uswitch.conf"))
    do("systemd-tmpfiles", "--create", str(TOP / "etc/tmpfiles.d/uswitch.conf"))
    write("/etc/uswitch/uswitchd.conf", "[DEFAULT]\ncontrol_group = uswitch-control\n")
    write(f"{ETC_UNITS}/uswitchd.service", unit)
    wants = Path(ETC_UNITS, "multi-user.target.wants")
    wants.mkdir()
    (wants / "uswitchd.service").symlink_to(f"{ETC_UNITS}/uswitchd.service")


def main(argv: Sequence[str]) -> None:
    unit = Path(argv[0]).read_text(encoding="utf-8")
    file_systems()
    furnish()
    if unit:
        install(unit)
    environment = {"PATH": "/usr/sbin:/usr/bin", "SYSTEMD_UNIT_PATH": f"{UNITS}:{ETC_UNITS}",
                   "container": "test"}  # fmt: skip
    log = os.open("/run/systemd.log", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.execve(SYSTEMD, [SYSTEMD, "--system", "--unit=default.target", "--log-target=console",
                        "--show-status=false", "--default-standard-output=null"], environment)


if __name__ == "__main__":
    main(sys.argv[1:])
