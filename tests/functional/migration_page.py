# SPDX-License-Identifier: Apache-2.0
"""The commands of doc/source/migration.rst, typed on the two hosts of libvirt_pair.py.

What differs between the page and the bed is put in their place: names of
directories, of the guest, of its segment, and where the other libvirtd is.
The hosts share this machine's files, so the stream has a Unix socket, and what
the test bed's serial ports are called changes with the socket's path.
"""

from __future__ import annotations

import subprocess

from testbed import TestbedError, daemons
from testbed.libvirt import VIRSH_SECONDS

from . import doc_blocks
from .libvirt_bed import Host

PLACES = {"host1": 0, "host2": 1}  # as migration.rst calls them: from, to
SHELL = """
set -eu
cd "$1"
uswitchctl() {{ {program} --socket {control} "$@"; }}
export VIRSH_DEFAULT_CONNECT_URI='{uri}'
"""


def blocks() -> list[doc_blocks.Step]:
    """The shell blocks of the page: with the hook, then the port and the move by hand."""
    return list(doc_blocks.read("migration").steps)


def type_in(step: doc_blocks.Step, source: Host, target: Host, *, name: str, mode: str,
            more: str = "") -> str:  # fmt: skip
    """One block on its host; what it printed.  ``more`` are words for virsh migrate."""
    stream = target.libvirt.guests / f"{name}.migration"
    there = f"{target.libvirt.uri} --migrateuri unix://{stream} {more}"
    text = step.text
    for old, new in {
        "vm1": name, "--mode server": f"--mode {mode}", "--segment blue": "--segment lan",
        "qemu+ssh://host2/system": there,
        "/run/uswitch/": f"{source.switch.directory}/",
        "/srv/uswitch/": f"{target.switch.directory}/",
    }.items():  # fmt: skip
        text = text.replace(old, new)
    host = (source, target)[PLACES[step.who]]
    setting = SHELL.format(program=daemons.installed("uswitchctl"), control=host.switch.control,
                           uri=host.libvirt.uri)
    done = subprocess.run(["bash", "-c", setting + text, "bash", host.libvirt.directory],
                          capture_output=True, text=True, check=False, timeout=VIRSH_SECONDS)
    if done.returncode:
        raise TestbedError(f"{step}:\n{text}\n{done.stdout}{done.stderr}")
    return done.stdout
