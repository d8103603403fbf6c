# SPDX-License-Identifier: Apache-2.0
"""Where OpenStack's services are on this host, and what they were told: processes, files, packages.

Nothing of theirs is run or imported: configuration is read, and what is
installed is found in the directories of their interpreter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vif_uswitch.cmd.doctor import files, packages, procs
from vif_uswitch.cmd.doctor.host import Host, Ini
from vif_uswitch.cmd.doctor.procs import Process

# As distributions, devstack (nova-cpu.conf) and kolla name them; later ones win.
NOVA_FILES = ("/usr/share/nova/nova-dist.conf", "/etc/nova/nova.conf",
              "/etc/nova/nova-compute.conf", "/etc/nova/nova-cpu.conf")  # fmt: skip
NOVA_DIRECTORIES = ("/etc/nova/nova.conf.d", "/etc/nova/nova-compute.conf.d")
VENVS = ("/opt/stack/data/venv/bin", "/var/lib/kolla/venv/bin", "/opt/nova/bin", "/opt/neutron/bin")
AGENT = "neutron-uswitch-agent"
_PYTHON_DIRECTORY = re.compile(r"python3(\.\d+)?")


def compute(host: Host) -> Process | None:
    return procs.find(host, "nova-compute")


def nova_config(host: Host) -> Ini | None:
    """nova-compute's configuration, None where there is none.  ValueError: it is not readable."""
    return configuration(host, compute(host), NOVA_FILES, NOVA_DIRECTORIES)


def configuration(
    host: Host, process: Process | None, usual: Sequence[str], directories: Sequence[str]
) -> Ini | None:
    """What a service reads in oslo.config's order, later ones win; None where there is nothing.

    First what it looks for by itself: ``usual`` files, unless it was given
    others, then *.conf of ``directories``, unless it was given others.  Then
    what its command line names, in that order.  ValueError: see ``Host.ini``.
    """
    root = procs.root_of(host, process.pid) if process else host.root
    given = process.valued(("--config-file", "--config-dir")) if process else []
    names = {name for name, _ in given}
    paths = [] if "--config-file" in names else list(usual)
    for directory in () if "--config-dir" in names else directories:
        paths += _parts(host, directory, root)
    for name, value in given:
        paths += [value] if name == "--config-file" else _parts(host, value, root)
    return host.ini(paths, root)


def _parts(host: Host, directory: str, root: Path) -> list[str]:
    """Files of a configuration directory, in the order in which they are read."""
    return [f"{directory}/{name}" for name in host.names(directory, root)
            if name.endswith(".conf") and not name.startswith(".")]


@dataclass(frozen=True, slots=True)
class Service:
    """A service's interpreter: ``directories`` hold what it can import; ``where`` is for people.

    ``managed``: the distribution's, into which pip installs when it is told twice (PEP 668).
    """

    where: str
    directories: tuple[Path, ...]
    managed: bool = False


def service(host: Host, program: str) -> Service | None:
    """The environment of a running service, else of the installed program; None: neither."""
    process = procs.find(host, program)
    root = procs.root_of(host, process.pid) if process else host.root
    script = next((word for word in process.arguments[:2] if word.endswith(f"/{program}")), ""
                  ) if process else ""  # fmt: skip
    script = script or host.program(program, VENVS)
    python = _interpreter(host, script, root) if script else ""
    if not python and process and os.path.basename(process.arguments[0]).startswith("python"):
        python = process.arguments[0]
    if not python:
        return None
    return Service(python, tuple(_import_directories(host, python, root)),
                   _is_managed(host, python, root))  # fmt: skip


def _is_managed(host: Host, python: str, root: Path) -> bool:
    """The marker is beside the standard library; an environment has none of its own."""
    prefix = os.path.dirname(os.path.dirname(python))
    if host.text(f"{prefix}/pyvenv.cfg", root) is not None:
        return False
    library = host.at("/usr/lib", root)
    return any((library / name / "EXTERNALLY-MANAGED").exists() for name in files.names(library)
               if _PYTHON_DIRECTORY.fullmatch(name))


def _interpreter(host: Host, script: str, root: Path) -> str:
    """From the script's first lines; pip writes three where the path is long or has blanks."""
    lines = (host.text(script, root) or "").splitlines()[:2]
    if not lines or not lines[0].startswith("#!"):
        return ""
    words = lines[0][2:].split()
    if words and os.path.basename(words[0]) == "sh" and len(lines) > 1:
        found = re.match(r"'''exec' \"?([^\"]+?)\"? \"\$0\"", lines[1])
        return found.group(1) if found else ""
    if words and os.path.basename(words[0]) == "env":
        name = next((word for word in words[1:] if not word.startswith("-")), "")
        return host.program(name, VENVS) if name else ""
    return words[0] if words else ""


def _import_directories(host: Host, python: str, root: Path) -> Iterator[Path]:
    prefix = os.path.dirname(os.path.dirname(python))
    settings = host.text(f"{prefix}/pyvenv.cfg", root)
    prefixes = [prefix]
    if settings is None:
        prefixes = ["/usr/local", "/usr"]
    elif re.search(r"(?im)^include-system-site-packages\s*=\s*true", settings):
        prefixes += ["/usr/local", "/usr"]
    for one in dict.fromkeys(prefixes):
        for library in ("lib", "lib64"):
            base = host.at(f"{one}/{library}", root)
            for name in files.names(base):
                if _PYTHON_DIRECTORY.fullmatch(name):
                    yield from (base / name / kind for kind in ("site-packages", "dist-packages")
                                if (base / name / kind).is_dir())


def version_of(found: Service, name: str) -> str:
    """Of an installed package, "" if it is not there."""
    return next((one.version for one in packages.distributions(found.directories)
                 if one.name == name), "")


def entry_points(found: Service, group: str) -> list[tuple[str, str]]:
    """(entry point, distribution) of that group."""
    return sorted((name, one.name) for one in packages.distributions(found.directories)
                  for where, name in one.points if where == group)


def is_here(host: Host, programs: Sequence[str]) -> bool:
    """Whether one of these services runs or is installed on this host."""
    return any(procs.find(host, name) or host.program(name, VENVS) for name in programs)
