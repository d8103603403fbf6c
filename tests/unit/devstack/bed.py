# SPDX-License-Identifier: Apache-2.0
"""A host for devstack's plugin: a directory, a file of fake state, and the shim's scripts.

``Cloud(tmp_path)`` has a local.conf with the two lines that the documentation names.  ``stack()``,
``unstack()`` and ``clean()`` run the scripts of ``shim/`` in a process each, as devstack does, with
the plugin of this checkout.  Afterwards tests look at files, at ``host`` (what the host has come
to) and at ``calls`` (what was asked of it, in order).
"""

from __future__ import annotations

import configparser
import contextlib
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.unit.devstack.shim import host as fake_host

TOP = Path(__file__).resolve().parents[3]
SHIM = Path(__file__).resolve().parent / "shim"
TWO_LINES = "enable_plugin vif-uswitch https://example.org/vif-uswitch\nQ_AGENT=uswitch\n"
PROGRAMS = ("nova-compute", "neutron-rpc-server", "neutron-dhcp-agent", "neutron-uswitch-agent")
DIRECTORIES = ("etc/nova", "etc/neutron/plugins/ml2", "etc/libvirt", "etc/systemd/system",
               "etc/udev/rules.d", "run", "var/lib/libvirt/qemu/ram", "opt/stack/devstack",
               "opt/stack/data/venv/bin", "sys/kernel/mm/hugepages")


def spare(value: str) -> ParameterSet:
    """A parameter that ``make test`` leaves out: its kind is there with another value."""
    return pytest.param(value, marks=pytest.mark.spare)


class Failed(Exception):
    """The script failed; the text is what it printed."""


class Cloud:
    """One host.  ``localrc`` follows the two lines; ``post_config`` is the rest of local.conf."""

    def __init__(self, directory: Path, localrc: str = "", post_config: str = "", *,
                 two_lines: str = TWO_LINES, nounset: bool = False) -> None:
        self.root = directory / "root"
        self._nounset = nounset
        self._state, self._calls = directory / "host.state", directory / "calls"
        self._variables, self._bin = directory / "variables", directory / "bin"
        for name in DIRECTORIES:
            (self.root / name).mkdir(parents=True)
        self._bin.mkdir()
        commands = directory / "host.py"
        commands.write_text(f"#!{sys.executable} -IS\n"
                            + (SHIM / "host.py").read_text(encoding="utf-8"), encoding="utf-8")
        commands.chmod(0o755)
        self.venv = self.root / "opt/stack/data/venv/bin"
        for name in fake_host.COMMANDS:
            (self._bin / name).symlink_to(commands)
            if name.startswith("uswitch"):
                (self.venv / name).symlink_to(commands)
        self.write_program(self._bin / "python3", '[[ "$2" != *EAFNOSUPPORT* ]] ||'
                           f' exit "${{SHIM_NO_AF_XDP:-0}}"\nexec {sys.executable} "$@"')
        # Where an interpreter would find the entry points of a group.
        self.write_program(self.venv / "python", '[[ "$2" != *"group=\'$SHIM_UNSEEN\'"* ]]')
        for name in PROGRAMS:
            (self.venv / name).write_text(f"#!{self.venv}/python\n", encoding="utf-8")
        self._calls.touch()
        self.host = fake_host.EMPTY
        self.local_conf(two_lines + localrc, post_config)

    @staticmethod
    def write_program(path: Path, body: str) -> None:
        path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def local_conf(self, localrc: str, post_config: str = "") -> None:
        directory = self.root / "opt/stack/devstack"
        lines = [line for line in localrc.splitlines() if not line.startswith("enable_plugin ")]
        (directory / "localrc").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (directory / "local.conf").write_text(f"[[local|localrc]]\n{localrc}\n{post_config}",
                                              encoding="utf-8")

    @property
    def host(self) -> dict[str, Any]:
        loaded: dict[str, Any] = marshal.loads(self._state.read_bytes())
        return loaded

    @host.setter
    def host(self, state: dict[str, Any]) -> None:
        self._state.write_bytes(marshal.dumps(state))

    @property
    def calls(self) -> list[list[str]]:
        return [line.split("\x1f") for line in self._calls.read_text(encoding="utf-8").splitlines()]

    def calls_of(self, name: str) -> list[list[str]]:
        return [words for first, *words in self.calls if first == name]

    def forget_calls(self) -> None:
        self._calls.write_text("", encoding="utf-8")

    def stack(self, **environment: str) -> str:
        return self._run("stack", environment)

    def unstack(self, **environment: str) -> str:
        return self._run("unstack", environment)

    def clean(self, **environment: str) -> str:
        return self._run("clean", environment)

    @contextlib.contextmanager
    def broken(self, command: str, asked: str = "*") -> Iterator[None]:
        """The host's command (or program) does nothing and fails, if it is asked for just that."""
        places = [path for path in (self._bin / command, self.venv / command) if path.is_symlink()]
        pattern = asked.replace(" ", r"\ ")
        whole = self._bin.parent / "whole" / command
        whole.parent.mkdir(exist_ok=True)
        whole.symlink_to(places[0].readlink())
        for path in places:
            path.unlink()
            self.write_program(path, f'[[ "$*" != {pattern} ]] || exit 1\nexec {whole} "$@"')
        yield
        for path in places:
            path.unlink()
            path.symlink_to(whole.readlink())
        whole.unlink()

    def _run(self, script: str, environment: dict[str, str]) -> str:
        """What it printed; Failed with that if it ended with another status than 0."""
        options = ["-u"] if self._nounset else []
        done = subprocess.run(
            ["bash", *options, str(SHIM / f"{script}.bash")], text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            cwd=self.root, timeout=150,
            env={"PATH": f"{self._bin}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
                 "HOME": str(self.root), "SHIM_DIR": str(SHIM),
                 "SHIM_ROOT_DIR": str(self.root), "SHIM_PLUGIN": str(TOP),
                 "SHIM_HOST": str(self._state), "SHIM_CALLS": str(self._calls),
                 "SHIM_VARIABLES": str(self._variables), "SHIM_DISTRO": "debian",
                 "SHIM_UNSEEN": "", **environment})  # fmt: skip
        if done.returncode:
            raise Failed(done.stdout)
        return done.stdout

    def ini(self, name: str) -> dict[str, dict[str, str]]:
        """The options of a file below the host's /etc, by section."""
        parser = configparser.RawConfigParser(default_section="")
        parser.read(self.path(name), encoding="utf-8")
        return {section: dict(parser.items(section)) for section in parser.sections()}

    def path(self, name: str) -> Path:
        return self.root / "etc" / name

    def services(self) -> set[str]:
        return set(self.calls_of("services")[-1][0].split(","))

    def written(self) -> set[tuple[str, str, str, str]]:
        """(file below /etc, section, option, value) of all that the plugin itself set."""
        return {(str(Path(words[0]).relative_to(self.root / "etc")), *words[1:])  # type: ignore
                for source, *words in self.calls_of("iniset") if "/devstack/shim/" not in source}

    def variable(self, name: str) -> str:
        """As it was at the end of stack.sh."""
        for line in self._variables.read_text(encoding="utf-8").splitlines():
            words = line.split(" ", 2)
            if words[0] == "declare" and words[-1].split("=")[0] == name:
                return words[-1].split("=", 1)[1].strip('"')
        raise KeyError(name)

    def process(self, name: str) -> dict[str, str]:
        (found,) = [one for one in self.host["processes"] if one["name"] == name]
        return dict(found)

    def snapshot(self) -> dict[str, Any]:
        """Everything that a host keeps: files with mode and content, and the state."""
        files = {}
        for path in sorted(self.root.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            files[str(path.relative_to(self.root))] = (path.lstat().st_mode, content)
        state = self.host
        state.pop("owners")
        return {"files": files, **state}
