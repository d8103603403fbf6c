# SPDX-License-Identifier: Apache-2.0
"""A real host for devstack's plugin, in namespaces of its own, for test_devstack.py.

Mounts, network and processes are private: /etc is a copy, /run and /var/lib are empty.  So the
plugin's useradd, mount, ip, pkill and our own programs are the real ones, and nothing of it is
seen outside.  The scripts are those of ``tests/unit/devstack/shim``; they run as user ``stack``.
What a machine has besides, this file plays: ``sudo``, and of systemd as much as devstack's units
and ours need, sockets that start a program for each connection included.

    python -m tests.functional.devstack_host DIRECTORY    (root) becomes the host's first process
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from testbed.daemons import installed

TOP = Path(__file__).resolve().parents[2]
SHIM = TOP / "tests/unit/devstack/shim"
SERVICE = Path("/run/first-process")  # where sudo and systemctl ask
UNITS = Path("/etc/systemd/system")
STACK = Path("/opt/stack")
BIN = STACK / "data/venv/bin"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLAYED = ("sudo", "systemctl")
# Without an agent, the configuration says in which segment the external network is.
LOCAL_CONF = """\
[[post-config|$USWITCHD_CONF]]
[uplink:wire]
segment = external
"""
START_S = 60.0
RUN_S = 120.0


# ---- outside ----


class Host:
    """The host as a test sees it."""

    def __init__(self, directory: Path) -> None:
        self._child = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
             sys.executable, "-m", __name__, str(directory)],
            cwd=TOP, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._child.stdout is not None
        if self._child.stdout.readline() != "ready\n":
            self._child.kill()
            raise AssertionError("the host did not start, see above")
        self.pid = int(Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text())

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._child.kill()
        self._child.wait()

    def run(self, command: str | Sequence[str], *, user: str = "root", check: bool = True) -> str:
        """Standard output and errors of a command in there; AssertionError if it fails."""
        words = shlex.split(command) if isinstance(command, str) else list(command)
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--wd=/",
             "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i",
             f"PATH={BIN}:{STACK}/bin:{PATH}", "LC_ALL=C.UTF-8", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=RUN_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-6000:]}"
        return done.stdout

    def script(self, name: str) -> str:
        """stack, unstack or clean, as user stack."""
        shim = STACK / "vif-uswitch/shim"
        return self.run(
            ["env", f"SHIM_DIR={shim}", f"SHIM_PLUGIN={STACK}/vif-uswitch", "SHIM_ROOT_DIR=",
             "SHIM_HOST=", f"SHIM_BIN={BIN}", "SHIM_DISTRO=debian",
             f"SHIM_CALLS={STACK}/calls", f"SHIM_VARIABLES={STACK}/variables",
             "bash", str(shim / f"{name}.bash")], user="stack")  # fmt: skip


# ---- inside ----


def furnish(directory: Path) -> None:
    """Directories, user stack, local.conf; before anything is hidden that must be copied."""
    plugin = directory / "vif-uswitch"
    for source, target in ((SHIM, "shim"), (TOP / "devstack", "devstack"), (TOP / "etc", "etc")):
        shutil.copytree(source, plugin / target)
    run("cp", "-a", "/etc", str(directory / "etc"))
    run("mount", "--make-rprivate", "/")
    run("mount", "--bind", str(directory / "etc"), "/etc")
    for place in ("/run", "/var/lib", "/opt"):
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "none", place)
    run("mount", "-t", "sysfs", "none", "/sys")  # of this network namespace
    # Locked memory is accounted by uid, machine-wide: the next free one may be a switch's outside.
    first = 20000 + 10 * (zlib.crc32(str(directory).encode()) % 4000)
    with open("/etc/login.defs", "a") as file:
        file.writelines(f"SYS_{kind}_MIN {first}\nSYS_{kind}_MAX {first + 9}\n"
                        for kind in ("UID", "GID"))
    for group in ("kvm", "libvirt"):
        subprocess.run(["groupadd", "--force", "--system", group], check=True)
    remove_user("uswitch")
    remove_user("stack")
    run("useradd", "--home-dir", str(STACK), "--create-home", "stack")
    run("chmod", "0755", str(STACK))
    run("cp", "-a", str(plugin), str(STACK))
    UNITS.mkdir(parents=True, exist_ok=True)
    (STACK / "devstack").mkdir()
    (STACK / "devstack/localrc").write_text("Q_AGENT=uswitch\nUSWITCH_GUEST_MEMORY_MB=64\n")
    (STACK / "devstack/local.conf").write_text(LOCAL_CONF)
    BIN.mkdir(parents=True)
    for program in ("uswitchd", "uswitchctl", "uswitch-xdp", "uswitch-uplink", "uswitch-tap"):
        (BIN / program).symlink_to(installed(program))
    for name in ("nova-compute", "neutron-rpc-server", "neutron-dhcp-agent"):
        (BIN / name).write_text(f"#!{sys.executable}\n")
    play(STACK / "bin")
    run("chown", "-R", "stack:", str(STACK))
    run("ip", "link", "set", "lo", "up")


def remove_user(name: str) -> None:
    subprocess.run(["userdel", name], check=False, stderr=subprocess.DEVNULL)


def play(directory: Path) -> None:
    """sudo and systemctl, and what is not there: OpenStack's command line, the shim's records."""
    directory.mkdir()
    for name in PLAYED:
        script(directory / name, f"#!{sys.executable} -IS\n{ASK}")
    script(directory / "openstack", "#!/bin/sh\ncase \"$*\" in\n    *ipv6*) echo 2001:db8::2 ;;\n"
           "    *) echo 172.24.4.1 ;;\nesac\n")
    script(directory / "shim-process", "#!/bin/sh\n")


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


ASK = f'''\
import array, json, os, socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect("{SERVICE}")
asked = json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]).encode()
peer.sendmsg([asked], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
sys.exit(int(peer.recv(16)))
'''


def run(*words: str) -> None:
    subprocess.run(words, check=True)


class FirstProcess:
    """Runs what sudo and systemctl ask for; units end by SIGTERM to their main process alone."""

    def __init__(self) -> None:
        self._mains: dict[str, subprocess.Popen[bytes]] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._service = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._service.bind(str(SERVICE))
        SERVICE.chmod(0o666)
        self._service.listen()

    def serve(self) -> None:
        while True:
            peer = self._service.accept()[0]
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        data, fds, _flags, _address = socket.recv_fds(peer, 65536, 3)
        name, *words = json.loads(data)
        try:
            status = self._sudo(words, fds) if name == "sudo" else self._systemctl(words)
        except Exception as error:
            os.write(fds[2], f"{name}: {error}\n".encode())
            status = 1
        for fd in fds:
            os.close(fd)
        peer.send(str(status).encode())
        peer.close()

    @staticmethod
    def _sudo(words: list[str], fds: list[int]) -> int:
        if words[0] == "-u":
            words = [*identity(words[1]), *words[2:]]
        return subprocess.run(
            words, check=False, stdin=fds[0], stdout=fds[1], stderr=fds[2],
            env={"PATH": f"{STACK}/bin:{PATH}", "LC_ALL": "C.UTF-8"},
        ).returncode

    def _systemctl(self, words: list[str]) -> int:
        verb, *rest = [word for word in words if word not in {"--now", "--quiet"}]
        if verb == "daemon-reload":
            return 0
        unit = rest[0]
        if verb == "is-active":
            return 0 if unit in self._mains or unit in self._sockets else 3
        if verb == "cat":
            return 0 if (UNITS / unit).exists() else 1
        if verb == "enable":
            if unit.endswith(".socket"):
                self._listen(unit)
            else:
                self._start(unit)
        elif unit in self._sockets:
            listener = self._sockets.pop(unit)
            listener.shutdown(socket.SHUT_RDWR)
            Path(listener.getsockname()).unlink()
        elif unit in self._mains:
            main = self._mains.pop(unit)
            main.send_signal(signal.SIGTERM)
            main.wait(START_S)
        return 0

    @staticmethod
    def _read(unit: str) -> configparser.RawConfigParser:
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment]
        found = parser.read([UNITS / unit, *sorted((UNITS / f"{unit}.d").glob("*.conf"))])
        if not found:
            raise FileNotFoundError(f"no unit {unit}")
        return parser

    def _listen(self, unit: str) -> None:
        if unit in self._sockets:
            return
        section = self._read(unit)["Socket"]
        service = self._read(unit.replace(".socket", "@.service"))["Service"]
        program = shlex.split(service["ExecStart"])
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(section["ListenSequentialPacket"])
        run("chown", section["SocketUser"], listener.getsockname())
        run("chmod", section["SocketMode"], listener.getsockname())
        listener.listen()
        self._sockets[unit] = listener

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as peer:
                        subprocess.Popen(program, stdin=peer.fileno())

        threading.Thread(target=accept, daemon=True).start()

    def _start(self, unit: str) -> None:
        """Only uswitchd; of OpenStack there is nothing here."""
        section = self._read(unit)["Service"]
        program = shlex.split(section["ExecStart"])
        if "uswitchd" not in program[0] or unit in self._mains:
            return
        assert (section["Type"], section["LimitMEMLOCK"]) == ("notify", "infinity")
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"{STACK}/notify-{unit}"
        Path(path).unlink(missing_ok=True)
        notified.bind(path)
        os.chmod(path, 0o666)
        log = open(STACK / "uswitchd.log", "ab")  # noqa: SIM115
        with contextlib.suppress(ValueError):  # in a container root may not
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
        main = subprocess.Popen([*identity(section["User"]), *program], stdout=log, stderr=log,
                                env={"PATH": PATH, "NOTIFY_SOCKET": path})
        notified.settimeout(START_S)
        while not notified.recv(4096).startswith(b"READY=1"):
            pass
        self._mains[unit] = main


def identity(user: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"]


def main() -> None:
    """The first process collects orphans; its child does the work."""
    furnish(Path(sys.argv[1]))
    child = os.fork()
    if child == 0:
        first = FirstProcess()
        print("ready", flush=True)
        first.serve()
    while os.wait()[0] != child:
        pass


if __name__ == "__main__":
    main()
