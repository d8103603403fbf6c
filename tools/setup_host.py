#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Install the host packages of bindep.txt that are missing (Debian).

    tools/setup_host.py PROFILE...        e.g. "build test"
    tools/setup_host.py --dry-run PROFILE...

Run by "make setup", "make demo" and the others, so it must cost nothing when
nothing is missing: dpkg is asked once, apt only if it has work.  It works as
root, or through sudo, and needs nothing but Debian's python3 and apt.

A package of which bindep.txt wants a newer version than the configured suites
offer comes from this release's backports: then a source file and a pin file
of our own are added, at priority 50, so that no other package of the machine
ever moves because of them.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TOP = pathlib.Path(__file__).resolve().parent.parent
SOURCE_FILE = pathlib.Path("/etc/apt/sources.list.d/vif-uswitch-backports.sources")
PIN_FILE = pathlib.Path("/etc/apt/preferences.d/vif-uswitch-backports")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

APT = (
    "apt-get", "-q", "-y",
    "-o", "DPkg::Lock::Timeout=600",
    "-o", "Dpkg::Options::=--force-confold",
    # A dead third-party source must not cost minutes.
    "-o", "Acquire::Retries=2",
    "-o", "Acquire::http::Timeout=30",
    "-o", "Acquire::https::Timeout=30",
)

# Programs that may be there without Debian's package: an own build in PATH is as good.
PROGRAM_VERSIONS = {"qemu-system-x86": ("qemu-system-x86_64", r"version (\d+\.\d+)")}

# A line of bindep.txt: name [selectors] operator version.
LINE = re.compile(
    r"([a-z0-9][a-z0-9.+-]+)(?:\s+\[([^\]]*)\])?(?:\s*(>=|<=|==|<|>|!=)\s*([0-9]\S*))?"
)

WHY = {
    "qemu-system-x86": "the QEMU of this release is not usable for this test bed",
    "libvirt-daemon": "the libvirt of this release is older than that QEMU",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A line of bindep.txt; operator and version are empty where any version does."""

    name: str
    operator: str = ""
    version: str = ""


class SetupError(Exception):
    """What went wrong and what to do, for a human."""


def parse_bindep(text: str, profiles: set[str]) -> list[Package]:
    """The subset of bindep's grammar that our file uses; anything else is an error.

    name [selector ...] [op version]; selectors are platform:NAME, !platform:NAME,
    PROFILE and !PROFILE.  Of several profiles in one line any one will do.
    """
    packages = []
    for number, written in enumerate(text.splitlines(), 1):
        line = written.split("#", 1)[0].strip()
        if not line:
            continue
        found = LINE.fullmatch(line)
        if not found:
            raise SetupError(f"bindep.txt:{number}: cannot read {line!r}")
        name, selectors, comparison, version = found.groups()
        if _selected((selectors or "").split(), profiles):
            packages.append(Package(name, comparison or "", version or ""))
    return packages


def _selected(selectors: Iterable[str], profiles: set[str]) -> bool:
    active = profiles | {"platform:dpkg", "platform:debian"}
    wanted: dict[bool, list[str]] = {True: [], False: []}  # platform or profile
    for selector in selectors:
        if selector.startswith("!"):
            if selector[1:] in active:
                return False
        else:
            wanted[selector.startswith("platform:")].append(selector)
    return all(not names or any(name in active for name in names) for names in wanted.values())


def satisfies(version: str, package: Package) -> bool:
    if not package.operator:
        return True
    operators = {">=": "ge", "<=": "le", "==": "eq", "<": "lt", ">": "gt", "!=": "ne"}
    return subprocess.run(
        ["dpkg", "--compare-versions", version, operators[package.operator], package.version],
        check=False,
    ).returncode == 0


def missing(packages: Sequence[Package]) -> list[Package]:
    """Those that dpkg does not have installed in the wanted version."""
    if not shutil.which("dpkg-query"):
        raise SetupError(
            "this is no Debian system; install the counterparts of these packages yourself: "
            + " ".join(package.name for package in packages)
        )
    listing = subprocess.run(
        ["dpkg-query", "-W", "-f", "${binary:Package}\t${db:Status-Abbrev}\t${Version}\n",
         *[package.name for package in packages]],
        capture_output=True, text=True, check=False,
    ).stdout
    installed = {}
    for line in listing.splitlines():
        name, status, version = line.split("\t")
        if status.startswith("ii"):
            installed[name.split(":")[0]] = version
    return [
        package for package in packages
        if not (package.name in installed and satisfies(installed[package.name], package))
        and not program_present(package)
    ]


def program_present(package: Package) -> bool:
    """True for a program in PATH, of the wanted version, that no package brought."""
    program, pattern = PROGRAM_VERSIONS.get(package.name, ("", ""))
    path = shutil.which(program) if program else None
    if not path:
        return False
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(pattern, said)
    # The wanted version may carry a Debian epoch, the program's does not.
    wanted = Package(package.name, package.operator, package.version.split(":")[-1])
    return bool(found) and satisfies(found.group(1), wanted)  # type: ignore[union-attr]


def as_root(command: Sequence[str]) -> list[str]:
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    if os.geteuid() == 0:
        return [*environment, *command]
    if not shutil.which("sudo"):
        raise SetupError("not root, and there is no sudo; run this as root: " + " ".join(command))
    return ["sudo", *environment, *command]


def apt(*arguments: str, must_work: bool = True) -> None:
    """apt-get with a line per step; its whole output only if it fails."""
    command = as_root([*APT, "-o", "APT::Status-Fd=1", *arguments])
    kept: list[str] = []
    terminal = sys.stdout.isatty()
    last = -1.0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL if os.geteuid() == 0 else None, text=True,
        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            status = re.match(r"(dl|pm)status:[^:]*:([\d.]+):(.*)", line)
            if not status:
                kept.append(line)
                continue
            percent, text = float(status[2]), status[3].strip()
            if terminal:
                print(f"\r   {percent:3.0f} % {text[:60]:60}", end="", flush=True)
            elif percent >= last + 20 or percent < last:
                print(f"   {percent:3.0f} % {text}", flush=True)
                last = percent
    if terminal:
        print("\r" + " " * 70 + "\r", end="", flush=True)
    if child.returncode and must_work:
        print("".join(kept[-40:]), file=sys.stderr)
        raise SetupError(f"apt-get failed with status {child.returncode}: {' '.join(arguments)}")


def offers(packages: Sequence[Package]) -> dict[Package, list[tuple[str, str]]]:
    """For each package what apt can install: (version, suite), best pin first."""
    listing = subprocess.run(
        ["apt-cache", "madison", *[package.name for package in packages]],
        capture_output=True, text=True, check=False,
    ).stdout
    result: dict[Package, list[tuple[str, str]]] = {package: [] for package in packages}
    by_name = {package.name: package for package in packages}
    for line in listing.splitlines():
        name, version, origin = (part.strip() for part in line.split("|"))
        suite = origin.split()[1].split("/")[0] if len(origin.split()) > 1 else ""
        if name in by_name and satisfies(version, by_name[name]):
            result[by_name[name]].append((version, suite))
    return result


def candidate_is_enough(package: Package) -> bool:
    policy = subprocess.run(
        ["apt-cache", "policy", package.name], capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    found = re.search(r"Candidate: (\S+)", policy)
    return bool(found and found[1] != "(none)" and satisfies(found[1], package))


def release() -> dict[str, str]:
    text = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
    return {name: value.strip('"') for name, _, value in
            (line.partition("=") for line in text.splitlines())}


def add_backports(packages: Sequence[Package]) -> None:
    """Our source file and pin; the mirror is the one this machine uses already."""
    system = release()
    codename = system.get("VERSION_CODENAME", "")
    names = ", ".join(f"{wanted.name} {wanted.operator} {wanted.version}" for wanted in packages)
    if system.get("ID") != "debian" or not codename:
        raise SetupError(f"apt offers no {names}; install it by hand")
    mirrors = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian",
         f"Codename: {codename}", "Identifier: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout.split()
    if not mirrors:
        raise SetupError(f"apt offers no {names}, and no mirror of {codename} is configured")
    suite = f"{codename}-backports"
    print(f"== {suite}: needed for {names}")
    for package in packages:
        if package.name in WHY:
            print(f"   because {WHY[package.name]}")
    print(f"   adding {SOURCE_FILE}")
    print(f"   and {PIN_FILE} (priority 50: nothing else will come from there)", flush=True)
    install_file(PIN_FILE, f"Package: *\nPin: release n={suite}\nPin-Priority: 50\n")
    install_file(
        SOURCE_FILE,
        f"# Added by vif-uswitch's tools/setup_host.py for {names}.\n"
        f"Types: deb\nURIs: {mirrors[0]}\nSuites: {suite}\nComponents: main\n"
        f"Signed-By: {KEYRING}\n",
    )
    apt("update", "-o", f"Dir::Etc::sourcelist={SOURCE_FILE}", "-o", "Dir::Etc::sourceparts=-",
        "-o", "APT::Get::List-Cleanup=0", must_work=False)


def install_file(path: pathlib.Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as copy:
        copy.write(text)
        copy.flush()
        subprocess.run(as_root(["install", "-m", "0644", copy.name, str(path)]), check=True)


def install(packages: Sequence[Package]) -> None:
    """Install all of them, each from a suite that has the wanted version."""
    print(f"== installing {len(packages)} host package(s): "
          + " ".join(package.name for package in packages), flush=True)
    print("   refreshing the package lists", flush=True)
    # Sources that do not concern us may fail here; what matters is whether
    # our packages can be installed, and that is checked below.
    apt("update", must_work=False)
    plain = [package for package in packages if candidate_is_enough(package)]
    pinned = [package for package in packages if package not in plain]
    if pinned:
        if not all(offers(pinned).values()):
            add_backports([package for package, found in offers(pinned).items() if not found])
        for package, found in offers(pinned).items():
            if not found:
                raise SetupError(f"no configured apt source offers {package.name} "
                                 f"{package.operator} {package.version}".rstrip())
    groups = together(pinned)
    # A part that only that suite has is its candidate already, and still needs the others' version.
    parts = [package for package in plain if package.operator]
    for key, names in together(parts).items():
        if key in groups:
            groups[key] += names
            plain = [package for package in plain if package.name not in names]
    if plain:
        apt("install", "--no-install-recommends", *[package.name for package in plain])
    for (version, suite), names in groups.items():
        print(f"   {', '.join(names)} from {suite}", flush=True)
        exact = [f"{name}={version}" for name in names]
        apt("install", "--no-install-recommends",
            *(exact if installable(exact) else ("-t", suite, *names)))


def together(packages: Sequence[Package]) -> dict[tuple[str, str], list[str]]:
    """Names by (version, suite) of the best offer: parts of one source package need each other."""
    groups: dict[tuple[str, str], list[str]] = {}
    for package, found in offers(packages).items() if packages else ():
        if found:
            groups.setdefault(found[0], []).append(package.name)
    return groups


def installable(exact: Sequence[str]) -> bool:
    """Whether apt can install these versions with everything else from where it usually is.

    With the whole suite preferred, dependencies that are there already would move too: libvirt's
    would take the machine's systemd along.
    """
    return subprocess.run(
        ["apt-get", "-q", "-s", "install", "--no-install-recommends", *exact],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    ).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("profiles", nargs="+", metavar="PROFILE", help="build, test, demo, bench")
    parser.add_argument("--dry-run", action="store_true", help="only say what is missing")
    arguments = parser.parse_args()
    text = (TOP / "bindep.txt").read_text(encoding="utf-8")
    try:
        packages = missing(parse_bindep(text, set(arguments.profiles)))
        if not packages:
            return 0
        if arguments.dry_run:
            print("missing: " + " ".join(package.name for package in packages))
            return 1
        install(packages)
        left = missing(packages)
        if left:
            raise SetupError("still missing: " + " ".join(package.name for package in left))
    except SetupError as error:
        print(f"setup_host: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("   host packages are complete", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
